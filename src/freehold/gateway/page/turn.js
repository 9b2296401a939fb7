// One turn: sends the conversation, feeds the answer's view as tokens arrive, and writes down how it went.

import { Reader } from "./announce.js";
import { Problem, streamChat } from "./api.js";
import { figuresOf } from "./figures.js";
import { samplingOf } from "./settings.js";
import { saveChat, settings } from "./store.js";
import { INTENT_SYSTEM } from "./welcome.js";

export const STARTER_TEMPERATURE = 0.3;
const SAVE_EVERY_MS = 1000;
const SAY_WAITING_MS = 700;

// A page that is being left sees its connection break: that is no fault of the server.
let leaving = false;
for (const name of ["beforeunload", "pagehide"]) {
  addEventListener(name, () => {
    leaving = true;
    setTimeout(() => { leaving = false; }, 3000); // the person stayed after all
  });
}

/**
 * What the API is asked for, for the chat whose last message is the answer to come. Naming an intent reads
 * the last message alone. The starter is tiny: it does better at a low temperature, unless one is set.
 */
export function bodyOf(chat, { unsupported, starter }) {
  const values = settings();
  const said = chat.messages.slice(0, -1).filter(wasAnswered).map((m) => ({ role: m.role, content: m.text }));
  const intent = starter && chat.intent;
  const messages = intent ? said.slice(-1) : said;
  const system = intent ? INTENT_SYSTEM : values.system.trim();
  if (system) messages.unshift({ role: "system", content: system });
  const sampling = { ...(starter ? { temperature: intent ? 0 : STARTER_TEMPERATURE } : {}), ...samplingOf(values) };
  for (const name of unsupported) delete sampling[name];
  return { model: chat.model, messages, ...sampling };
}

/** A question that got no word of an answer is left out, with its answer: the turns of a chat alternate. */
function wasAnswered(message, i, all) {
  const answer = message.role === "user" ? all[i + 1] : message;
  return !answer || answer.text !== "";
}

/** Runs the turn whose empty answer is the chat's last message; `body()` makes the request. Returns when it is over, however it ends. */
export async function runTurn({ chat, body, view, signal, onDrawn }) {
  const message = chat.messages.at(-1);
  const reader = new Reader();
  const seen = { sentMs: performance.now(), firstMs: 0, lastMs: 0, pieces: 0 };
  const told = {};
  let savedMs = seen.sentMs;
  message.finish = "left"; // what a reload in mid-answer will find
  const waiting = setTimeout(() => view.wait("Waiting for a worker…"), SAY_WAITING_MS);
  view.begin();
  try {
    for await (const part of streamChat(await body(), signal)) {
      if (part.kind === "text" || part.kind === "thought") {
        clearTimeout(waiting);
        take(message, part, seen);
        view.grow(onDrawn);
        reader.grow(message.text);
        if (seen.lastMs - savedMs > SAVE_EVERY_MS) { savedMs = seen.lastMs; saveChat(chat); }
      } else if (part.kind === "lost") view.lose();
      else { if (part.kind === "open") view.found(); note(told, part); }
    }
    message.finish = told.finish ?? "stop";
  } catch (error) {
    if (signal.aborted) message.finish = "stopped";
    else if (leaving) message.finish = "left";
    else { message.finish = "error"; message.problem = plain(error); }
  }
  clearTimeout(waiting);
  if (seen.pieces || told.usage) message.figures = figuresOf({ ...told, seen });
  reader.end(message.text, closing(message));
  return message;
}

function take(message, part, seen) {
  seen.lastMs = performance.now();
  seen.firstMs ||= seen.lastMs;
  seen.pieces += 1;
  if (part.kind === "text") message.text += part.text;
  else message.thought = (message.thought ?? "") + part.text;
}

function note(told, part) {
  if (part.kind === "open") told.open ??= part;
  if (part.kind === "finish") told.finish = part.reason;
  if (part.kind === "usage") { told.usage = part.usage; told.timings = part.timings; }
}

function plain(error) {
  if (!(error instanceof Problem)) console.error(error);
  const next = error instanceof Problem ? error.next : "This is a fault of the page itself; reload it and try again.";
  return { what: error.message || String(error), next, status: error.status ?? 0, code: error.code ?? "" };
}

function closing({ finish, problem }) {
  if (problem) return `${problem.what} ${problem.next}`;
  return finish === "stopped" ? "Stopped." : "Answer complete.";
}
