/**
 * What the browser keeps: conversations, one entry each so that two tabs do not overwrite each other's,
 * and the settings. A conversation is {id, changed, messages: [{role, content, note, stats}]}.
 */

const PREFIX = "plait.conversation.";
const SETTINGS = "plait.settings";

export class StoreFullError extends Error {}

export function create() {
  return { id: crypto.getRandomValues(new Uint32Array(2)).join("-"), changed: Date.now(), messages: [] };
}

/** All conversations, the last changed first. What this page cannot read is left where it is. */
export function conversations() {
  const names = Object.keys(localStorage).filter((name) => name.startsWith(PREFIX));
  const found = names.map(read).filter(isConversation);
  return found.sort((a, b) => b.changed - a.changed);
}

function isConversation(value) {
  const { id, messages } = value ?? {};
  const isMessage = (one) => typeof one?.content === "string" && ["user", "assistant"].includes(one.role);
  return typeof id === "string" && Array.isArray(messages) && messages.every(isMessage);
}

export function save(conversation) {
  conversation.changed = Date.now();
  write(PREFIX + conversation.id, conversation);
}

export function remove(conversation) {
  localStorage.removeItem(PREFIX + conversation.id);
}

/** Its first words. */
export function title(conversation) {
  return conversation.messages[0]?.content.trim().slice(0, 60) || "New conversation";
}

export function settings() {
  return read(SETTINGS) ?? {};
}

export function saveSettings(values) {
  write(SETTINGS, values);
}

function read(name) {
  try {
    return JSON.parse(localStorage.getItem(name));
  } catch {
    return null;
  }
}

function write(name, value) {
  try {
    localStorage.setItem(name, JSON.stringify(value));
  } catch {
    throw new StoreFullError("This browser keeps no more: delete a conversation.");
  }
}
