/** What happens on the page, and when. */

import { ServerError, models, useKey } from "./api.js";
import { answer, say } from "./chat.js";
import * as gauges from "./gauges.js";
import * as settings from "./settings.js";
import * as store from "./store.js";
import * as view from "./view.js";

const SAVED_EVERY = 500; // milliseconds, while an answer grows

const $ = (id) => document.getElementById(id);
let current = store.conversations()[0] ?? store.create();
let running = null; // {conversation, controller} of the answer on its way
let isDrawn = true;

function draw() {
  isDrawn = true;
  const last = current.messages.at(-1);
  view.showMessages(current.messages);
  view.showState({ isRunning: running !== null, canRepeat: last !== undefined });
}

function drawSoon() {
  if (isDrawn) requestAnimationFrame(draw);
  isDrawn = false;
}

function drawAll() {
  draw();
  const kept = store.conversations().filter((one) => one.id !== current.id);
  view.showList([current, ...kept].sort((a, b) => b.changed - a.changed), current, { open, remove });
}

function keep(conversation) {
  try {
    store.save(conversation);
  } catch (error) {
    view.showError(error.message);
  }
}

function open(conversation) {
  // While its answer grows, a conversation is the object that the answer grows in.
  current = running?.conversation.id === conversation.id ? running.conversation : conversation;
  view.hideError();
  drawAll();
  $("prompt").focus();
}

function remove(conversation) {
  if (!confirm(`Delete "${store.title(conversation)}"?`)) return;
  if (running?.conversation.id === conversation.id) {
    running.isDeleted = true;
    running.controller.abort();
  }
  store.remove(conversation);
  if (conversation.id === current.id) current = store.conversations()[0] ?? store.create();
  open(current);
}

function explain(error) {
  if (!(error instanceof ServerError)) console.error(error);
  view.showError(error.message, { wantsKey: error.status === 401, canRetry: true });
}

let search = 0;

/** Fill the list of models. Returns whether there is one. What a search before, with another key, comes to is no news. */
async function findModels() {
  const own = ++search;
  try {
    view.showModels(await models(), $("model").value);
    view.hideError();
    gauges.look();
  } catch (error) {
    if (own === search) explain(error);
  }
  return Boolean($("model").value);
}

async function answerNow() {
  if (running || !settings.areValid()) return;
  const controller = new AbortController();
  const conversation = current;
  running = { conversation, controller };
  view.hideError();
  view.showStatus("Answering");
  drawAll();
  view.toEnd();
  try {
    if ($("model").value || (await findModels())) await follow(conversation, controller.signal);
  } catch (error) {
    draw();
    explain(error);
    view.showStatus("");
  } finally {
    const { isDeleted } = running;
    running = null;
    gauges.rest();
    drawAll();
    if (!isDeleted) keep(conversation);
  }
}

async function follow(conversation, signal) {
  let saved = performance.now();
  const changed = (clock) => {
    gauges.showSpeed(clock.rate);
    if (conversation === current) drawSoon();
    if (performance.now() - saved < SAVED_EVERY || running.isDeleted) return;
    saved = performance.now();
    keep(conversation);
  };
  gauges.watch();
  const choices = { model: $("model").value, settings: settings.values() };
  const { note, stats } = await answer(conversation, { ...choices, signal, changed });
  view.showStatus(`Answer ${note || "complete"}. ${stats}`);
}

function send() {
  const text = $("prompt").value;
  if (running || !text.trim() || !settings.areValid()) return;
  say(current, text);
  keep(current);
  $("prompt").value = "";
  answerNow();
}

/** After a new key: go on with what it was wanted for. */
async function unlock() {
  if ((await findModels()) && current.messages.at(-1)?.role === "user") answerNow();
}

function stop() {
  running?.controller.abort();
  $("prompt").focus();
}

function listen() {
  $("composer").addEventListener("submit", (event) => { event.preventDefault(); send(); });
  $("prompt").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  });
  document.addEventListener("keydown", (event) => event.key === "Escape" && running && stop());
  $("stop").addEventListener("click", stop);
  $("again").addEventListener("click", answerNow);
  $("retry").addEventListener("click", () => (current.messages.length ? answerNow() : findModels()));
  $("new").addEventListener("click", () => open(store.create()));
  $("menu").addEventListener("click", () => {
    $("menu").setAttribute("aria-expanded", String($("menu").getAttribute("aria-expanded") !== "true"));
  });
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    useKey($("key").value);
    $("key").value = "";
    unlock();
  });
  window.addEventListener("pagehide", () => running && !running.isDeleted && keep(running.conversation));
  window.addEventListener("storage", () => drawAll());
}

settings.restore();
listen();
drawAll();
findModels();
