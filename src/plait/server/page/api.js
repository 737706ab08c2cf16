/** The server's API: requests, server-sent events, and errors in words. Paths are relative to the page. */

export class ServerError extends Error {
  /** status: HTTP status; 0 when there was no answer, or one that broke off. */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const GONE = "The server does not answer. Is it still running?";
const BROKEN = "The connection broke before the answer was complete.";
const WORDS = {
  401: "The server wants an API key, or another one.",
  404: "The server does not know this.",
  408: "The request took longer than the server allows.",
  429: "The server has too much to do.",
  503: "The server is not ready for requests.",
};

let key = sessionStorage.getItem("plait.key") ?? "";

/** The key goes with every request from now on, and is forgotten when the tab is closed. */
export function useKey(text) {
  key = text;
  sessionStorage.setItem("plait.key", text);
}

/** Names of the models, as the server has them. */
export async function models() {
  const list = await (await ask("v1/models")).json();
  return list.data.map((model) => model.id);
}

/** Gauges and counters by name, from Prometheus' text; of a name with labels the last one. */
export async function metrics() {
  const found = {};
  for (const line of (await (await ask("metrics")).text()).split("\n")) {
    const parts = /^([\w:]+)(?:\{.*\})? (\S+)/.exec(line);
    if (parts) found[parts[1]] = Number(parts[2]);
  }
  return found;
}

/** Chunks of a streamed chat completion, parsed. Throws ServerError, or AbortError after signal. */
export async function* chat(body, signal) {
  const response = await ask("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  for await (const data of events(response)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ServerError(500, said(chunk));
    yield chunk;
  }
  throw new ServerError(0, BROKEN);
}

async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    throw error.name === "AbortError" ? error : new ServerError(0, GONE);
  }
  if (response.ok) return response;
  const words = WORDS[response.status] ?? `The server refused with status ${response.status}.`;
  const wait = response.headers.get("Retry-After");
  const when = wait ? ` Try again in ${wait} s.` : "";
  const body = await response.json().catch(() => ({}));
  throw new ServerError(response.status, [words + when, said(body)].filter(Boolean).join("\n"));
}

/** The message in an error's body, whichever of the usual forms it has. */
function said(body) {
  const message = body.error?.message ?? body.message ?? body.error ?? body.detail ?? "";
  return typeof message === "string" ? message : JSON.stringify(message);
}

/** The data of each server-sent event. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  while (true) {
    const { value, done } = await reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : new ServerError(0, BROKEN);
    });
    if (done) return;
    const lines = (rest + value).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trim();
  }
}
