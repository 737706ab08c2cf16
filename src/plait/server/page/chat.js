/** A conversation's next answer, as it arrives. Knows no element of the page. */

import { chat } from "./api.js";

const NUMBERS = ["temperature", "top_p", "top_k", "max_tokens", "seed"];

/** The body of a request: what a setting leaves empty is not sent, so that the server's own value holds. */
export function request(model, messages, settings) {
  const system = settings.system?.trim() ? [{ role: "system", content: settings.system }] : [];
  const said = messages.map(({ role, content }) => ({ role, content }));
  const body = { model, messages: [...system, ...said], stream: true, stream_options: { include_usage: true } };
  for (const name of NUMBERS) if (settings[name]) body[name] = Number(settings[name]);
  if (settings.watch) body.watch = true;
  return body;
}

/** Add what the user says. Before an answer it belongs to the message before: templates want turns. */
export function say(conversation, text) {
  const last = conversation.messages.at(-1);
  if (last?.role === "user") last.content += `\n\n${text}`;
  else conversation.messages.push({ role: "user", content: text });
}

/**
 * Answer the last message of the user, in place of an answer that is there already.
 *
 * changed: called with a Clock after each piece of text. An answer that breaks off keeps its text and a note; one
 * that never began leaves the conversation as it was. Throws ServerError; a stop is no error. Returns the message.
 */
export async function answer(conversation, { model, settings, signal, changed }) {
  const { messages } = conversation;
  const replaced = messages.at(-1)?.role === "assistant" ? [messages.pop()] : [];
  const body = request(model, messages, settings);
  const message = { role: "assistant", content: "", note: "unfinished", stats: "" };
  // What may still change is shown and never kept: JSON leaves out what cannot be enumerated.
  Object.defineProperty(message, "canvas", { value: [], writable: true });
  const clock = new Clock();
  try {
    for await (const chunk of chat(body, signal)) take(chunk, message, clock, () => {
      if (messages.at(-1) !== message) messages.push(message);
      changed(clock);
    });
    if (message.note === "unfinished") message.note = "";
    if (!message.content) messages.push(Object.assign(message, { note: "empty answer" }));
  } catch (error) {
    const isStop = error.name === "AbortError";
    message.note = isStop ? "stopped" : "broken off";
    if (!message.content) messages.push(...replaced);
    if (!isStop) throw error;
  } finally {
    message.canvas = [];
  }
  return message;
}

function take(chunk, message, clock, changed) {
  const [choice] = chunk.choices;
  if (choice?.delta?.content) {
    message.content += choice.delta.content;
    clock.piece();
    changed();
  }
  if (choice?.canvas) {
    message.canvas = choice.canvas;
    changed();
  }
  if (choice?.finish_reason === "length") message.note = "cut: no more tokens allowed";
  if (chunk.usage) message.stats = clock.stats(chunk);
}

class Clock {
  began = performance.now();
  pieces = 0;

  piece() {
    this.last = performance.now();
    this.first ??= this.last;
    this.pieces += 1;
  }

  /** Pieces per second after the first; 0 before there are two. */
  get rate() {
    return this.pieces > 1 ? (1000 * (this.pieces - 1)) / (this.last - this.first) : 0;
  }

  /** The dim line below an answer; the server's own times where it says them. */
  stats({ usage, timings }) {
    const rate = timings?.predicted_per_second ?? this.rate;
    const cached = timings?.cache_n ? ` (${timings.cache_n} cached)` : "";
    return [
      `${usage.prompt_tokens}${cached} + ${usage.completion_tokens} tokens`,
      this.first && `first after ${((this.first - this.began) / 1000).toFixed(2)} s`,
      rate && `${rate.toFixed(1)} tok/s`,
    ].filter(Boolean).join(", ");
  }
}
