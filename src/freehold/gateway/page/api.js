// Everything the page says to the server: JSON requests, the streamed answer, and errors in words.

import { apiKey } from "./store.js";

/** A problem a person can act on: what happened, and what to do next. */
export class Problem extends Error {
  constructor(what, next = "", { status = 0, code = "" } = {}) {
    super(what);
    this.next = next;
    this.status = status;
    this.code = code;
  }
}

export async function getJson(path, signal) {
  const response = await send(path, { signal, headers: headers() });
  if (!response.ok) throw await problemOf(response);
  return response.json();
}

const RECONNECT_MS = 15_000;
const RETRY_MS = 500;

/** Sends `body` as JSON; the reply's JSON. */
export async function postJson(path, body, signal) {
  const response = await send(path, {
    method: "POST", signal, headers: { ...headers(), "content-type": "application/json" }, body: JSON.stringify(body),
  });
  if (!response.ok) throw await problemOf(response);
  return response.json();
}

/**
 * Streams one chat completion. Yields {kind: "open", queueMs, ttftMs}, then {kind: "text", text} and
 * {kind: "thought", text}, {kind: "finish", reason}, and at last {kind: "usage", usage, timings}. Where the
 * connection breaks it yields {kind: "lost"} and goes on over the next one, after the last event that came.
 */
export async function* streamChat(body, signal) {
  const seen = { lastId: "" };
  let lostMs = 0;
  for (;;) {
    const before = seen.lastId;
    try {
      yield* connection(body, signal, seen);
      return;
    } catch (error) {
      if (seen.lastId !== before) lostMs = 0;
      if (!seen.lastId || !mayPass(error) || signal.aborted || (lostMs && performance.now() - lostMs > RECONNECT_MS)) throw error;
      lostMs ||= performance.now();
      yield { kind: "lost" };
    }
    await new Promise((later) => { setTimeout(later, RETRY_MS); });
  }
}

const mayPass = (error) => error instanceof Problem && (error.code === "network" || error.status === 503);

async function* connection(body, signal, seen) {
  const response = await send("v1/chat/completions", {
    method: "POST",
    signal,
    headers: { ...headers(), ...(seen.lastId ? { "last-event-id": seen.lastId } : {}), "content-type": "application/json", accept: "text/event-stream" },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
  });
  if (!response.ok) throw await problemOf(response);
  yield { kind: "open", queueMs: headerMs(response, "x-freehold-queue-ms"), ttftMs: headerMs(response, "x-freehold-ttft-ms") };
  let ended = false;
  for await (const data of events(response, seen)) {
    if (data === "[DONE]") { ended = true; break; }
    yield* readChunk(data);
  }
  if (!ended) throw cutOff();
}

function* readChunk(data) {
  let chunk;
  try { chunk = JSON.parse(data); } catch { throw new Problem("The server sent something that is not an answer.", "Try again; if it stays, look at the server's log."); }
  if (chunk.error) throw problemFrom(chunk.error, 0);
  const choice = chunk.choices?.[0];
  const delta = choice?.delta ?? {};
  if (delta.reasoning_content) yield { kind: "thought", text: delta.reasoning_content };
  if (delta.content) yield { kind: "text", text: delta.content };
  if (choice?.finish_reason) yield { kind: "finish", reason: choice.finish_reason };
  if (chunk.usage) yield { kind: "usage", usage: chunk.usage, timings: chunk.timings ?? chunk.usage.timings ?? null };
}

/** The `data` of each server-sent event of a response; `seen.lastId` is the id of the last one. */
async function* events(response, seen) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  let id = seen.lastId;
  try {
    for (;;) {
      const { value, done } = await reader.read().catch((error) => { throw lost(error); });
      if (done) return;
      buffer += value;
      const lines = buffer.split(/\r?\n/);
      buffer = lines.pop();
      // Each of our events is one data line, with its id before it: the line is the event.
      for (const line of lines) {
        if (line.startsWith("id:")) id = line.slice(3).trim();
        if (line.startsWith("data:")) { seen.lastId = id; yield line.slice(5).trimStart(); }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function send(path, options) {
  try {
    return await fetch(path, { cache: "no-store", ...options });
  } catch (error) {
    throw lost(error);
  }
}

function lost(error) {
  if (error.name === "AbortError" || error instanceof Problem) return error;
  if (!navigator.onLine && !isLoopback()) return new Problem("This device is offline.", "The message is kept; try again when the network is back.", { code: "network" });
  return new Problem(`The server at ${location.host} does not answer.`, "See whether `freehold serve` is still running, then try again.", { code: "network" });
}

function cutOff() {
  return new Problem("The connection closed before the answer was complete.", "What arrived is shown. Try again to get a whole answer.", { code: "network" });
}

async function problemOf(response) {
  let error = {};
  try { error = (await response.json()).error ?? {}; } catch { /* no JSON body: the status speaks */ }
  return problemFrom(error, response.status);
}

const NEXT = {
  invalid_api_key: "Enter an API key of this server; `freehold keys add NAME` makes one.",
  model_not_found: "Pick another model at the top.",
  context_length_exceeded: "Start a new chat, or shorten the message.",
  request_too_large: "Shorten the message.",
  overloaded: "Wait a moment, then try again.",
  unavailable: "The line below the message box shows the workers. Try again when one is ready.",
  worker_died: "It is being restarted. Try again.",
  unsupported_parameter: "Clear that setting and try again.",
};

function problemFrom(error, status) {
  const message = error.message || `The server answered with status ${status}.`;
  // Our own server says what, why and what next; from another one, the advice is ours.
  const [what, ...rest] = message.split(/(?<=[.!?])\s+(?=[A-Z`])/);
  const ours = NEXT[error.code] ?? (status === 401 ? NEXT.invalid_api_key : status >= 500 || status === 0 ? "Try again; the server's log says more." : "");
  return new Problem(what, rest.join(" ") || ours, { status, code: error.code || "" });
}

function headers() {
  const key = apiKey();
  return key ? { authorization: `Bearer ${key}` } : {};
}

function headerMs(response, name) {
  const value = Number.parseFloat(response.headers.get(name) ?? "");
  return Number.isFinite(value) ? value : null;
}

export const isLoopback = () => ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
