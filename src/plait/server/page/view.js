/** The page's elements: what is shown, not what it means. */

import { article, element, fill } from "./render.js";
import { title } from "./store.js";

const $ = (id) => document.getElementById(id);
const NEAR = 80; // pixels from the end of the messages that count as being there

/** Buttons of all conversations; the current one is marked. */
export function showList(conversations, current, { open, remove }) {
  $("conversations").replaceChildren(...conversations.map((one) => {
    const name = title(one);
    const opener = element("button", { type: "button", className: "open", textContent: name });
    opener.addEventListener("click", () => open(one));
    const remover = element("button", { type: "button", textContent: "Delete" });
    remover.setAttribute("aria-label", `Delete ${name}`);
    remover.addEventListener("click", () => remove(one));
    const item = element("li", {}, [opener, remover]);
    if (one.id === current.id) opener.setAttribute("aria-current", "true");
    return item;
  }));
}

/** Bring the messages up to date, and keep their end in sight of whoever was looking at it. */
export function showMessages(messages) {
  const log = $("messages");
  const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR;
  messages.forEach((message, place) => {
    const there = log.children[place];
    if (there?.dataset.role === message.role) fill(there, message);
    else {
      const made = article(message);
      fill(made, message);
      if (there) there.replaceWith(made);
      else log.append(made);
    }
  });
  while (log.children.length > messages.length) log.lastChild.remove();
  if (isAtEnd) toEnd();
}

/** Show the end of the messages, whatever was looked at before. */
export function toEnd() {
  $("messages").scrollTop = $("messages").scrollHeight;
}

/** canRepeat: whether there is something to answer again. */
export function showState({ isRunning, canRepeat }) {
  $("send").disabled = isRunning;
  $("stop").hidden = !isRunning;
  $("again").hidden = isRunning || !canRepeat;
  $("messages").setAttribute("aria-busy", String(isRunning)); // read out when it is complete
}

export function showStatus(text) {
  $("status").textContent = text;
}

/** What went wrong, in words; wantsKey asks for another key. */
export function showError(text, { wantsKey = false, canRetry = false } = {}) {
  $("error-text").textContent = text;
  $("error").hidden = false;
  $("retry").hidden = !canRetry;
  $("key-form").hidden = !wantsKey;
  if (wantsKey) $("key").focus();
  toEnd(); // what has grown below the messages must not hide the last of them
}

export function hideError() {
  $("error").hidden = true;
  $("key-form").hidden = true;
}

/** The models to choose from; the one chosen before stays, if it is still there. */
export function showModels(names, chosen) {
  $("model").replaceChildren(...names.map((name) => new Option(name, name, false, name === chosen)));
}
