// The chat page: holds the conversation, wires the parts, and decides what happens on each action.

import { Problem, getJson } from "./api.js";
import { $, setIcon } from "./dom.js";
import { AnswerView, questionView } from "./message.js";
import { askKey, openSettings } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { apiKey, currentId, loadChat, newChat, saveChat } from "./store.js";
import { STARTER_TEMPERATURE, bodyOf, runTurn } from "./turn.js";
import { drawWelcome } from "./welcome.js";
import { Fleet } from "./workers.js";

const touch = matchMedia("(pointer: coarse)");
let chat = loadChat(currentId()) ?? newChat();
let models = [];
let info = { models: [], examples: [] };
let ready = null;
let controller = null; // of the answer being streamed
let following = true; // the view stays at the end while it grows

const cardOf = (id) => info.models.find((card) => card.id === id) ?? null;
const isStarter = () => cardOf(chat.model)?.id === "starter";
const unsupported = () => cardOf(chat.model)?.unsupported ?? [];

// ---- drawing -------------------------------------------------------------------------------------

function draw() {
  const last = chat.messages.length - 1;
  const lastQuestion = chat.messages.findLastIndex((m) => m.role === "user");
  const items = chat.messages.map((message, i) => (message.role === "user"
    ? questionView(message, i === lastQuestion && !controller ? resend : null)
    : endedAnswer(message, i === last)));
  $("thread").replaceChildren(...items);
  drawFrame();
  following = true;
  toEnd();
}

function endedAnswer(message, isLast) {
  const view = new AnswerView(message, isLast && !controller ? { again, key: keyAndAgain } : {});
  view.end();
  return view.element;
}

function drawFrame() {
  const empty = !chat.messages.length;
  $("welcome").hidden = !empty;
  if (empty) drawWelcome($("welcome"), { card: cardOf(chat.model), starter: isStarter(), examples: info.examples, ready, onTry: tryExample });
  $("intent-toggle").hidden = !isStarter();
  $("intent").checked = chat.intent;
  $("prompt").placeholder = chat.intent ? "Write what a bank's customer would" : "Write a message";
  document.title = chat.title ? `${chat.title} · Freehold` : "Freehold";
  sidebar.draw(chat.id);
  drawSend();
}

function drawSend() {
  const busy = controller !== null;
  setIcon($("send"), busy ? "stop" : "send", busy ? "Stop (Esc)" : "Send (Enter)");
  $("send").classList.toggle("stopping", busy);
  $("keys").textContent = busy ? "Esc stops" : "Enter sends, Shift+Enter makes a new line";
  $("send").disabled = !busy && !$("prompt").value.trim();
}

function drawModels() {
  const names = models.map((m) => m.id);
  if (!names.includes(chat.model)) chat.model = names[0] ?? "";
  $("model").replaceChildren(...(names.length ? names : ["no model yet"]).map((name) => new Option(name, name, false, name === chat.model)));
  $("model").disabled = names.length < 1;
  drawFrame();
}

function toEnd() {
  const scroller = $("main");
  if (following) scroller.scrollTop = scroller.scrollHeight;
}

// ---- actions -------------------------------------------------------------------------------------

function ask(text) {
  chat.title ||= text.replace(/\s+/g, " ").slice(0, 60);
  chat.messages.push({ role: "user", text });
  answer();
}

async function answer() {
  if (controller) return;
  const mine = controller = new AbortController();
  const asked = chat;
  const turn = { chat, body: () => bodyFor(asked), signal: mine.signal, onDrawn: () => asked === chat && toEnd() };
  const message = { role: "assistant", text: "", model: chat.model };
  chat.messages.push(message);
  remember();
  draw();
  $("thread").lastElementChild.remove();
  turn.view = new AnswerView(message, {});
  $("thread").append(turn.view.element);
  toEnd();
  fleet.hurry();
  await runTurn(turn);
  if (controller === mine) controller = null;
  finish(turn.chat);
}

/** What to ask. Someone quick may send before the list of models has come. */
async function bodyFor(asked) {
  if (!asked.model) await loadInfo();
  if (!asked.model) throw new Problem("No model is ready yet.", "The line below the message box shows how far it is. Try again when a worker is ready.");
  return bodyOf(asked, { unsupported: unsupported(), starter: isStarter() });
}

function finish(answered) {
  if (!saveChat(answered)) console.warn("The browser's storage is full: this conversation is not kept.");
  fleet.hurry();
  if (answered !== chat) return sidebar.draw(chat.id);
  redrawEnd();
  const { problem } = chat.messages.at(-1);
  if (problem?.status === 401) keyAndAgain();
  return undefined;
}

/** The end of the thread once more, now with the buttons of a finished answer; the rest stays as it is. */
function redrawEnd() {
  const message = chat.messages.at(-1);
  const question = chat.messages.findLast((m) => m.role === "user");
  const [questionItem, answerItem] = [...$("thread").children].slice(-2);
  const hadFocus = $("thread").contains(document.activeElement);
  questionItem.replaceWith(questionView(question, resend));
  answerItem.replaceWith(endedAnswer(message, true));
  drawFrame();
  toEnd();
  if (hadFocus) $("prompt").focus();
}

function again() {
  while (chat.messages.at(-1)?.role === "assistant") chat.messages.pop();
  answer();
  focusPrompt();
}

function resend(text) {
  const index = chat.messages.findLastIndex((m) => m.role === "user");
  chat.messages.length = index;
  if (index === 0) chat.title = "";
  ask(text);
  focusPrompt();
}

async function keyAndAgain() {
  if (await askKey(apiKey() !== "")) {
    loadInfo();
    fleet.poll();
    again();
  } else focusPrompt();
}

function tryExample({ text, intent }) {
  chat.intent = intent;
  ask(text);
  focusPrompt();
}

const stop = () => controller?.abort();

function remember() {
  chat.changed = Date.now();
  saveChat(chat);
  currentId(chat.id);
}

function switchTo(next) {
  stop();
  controller = null;
  chat = next;
  if (chat.messages.length) currentId(chat.id);
  else currentId("");
  drawModels();
  draw();
  focusPrompt();
}

const startNew = () => switchTo({ ...newChat(chat.model), intent: false });

/** Not on a phone, where focus would raise the keyboard over the answer. */
function focusPrompt() {
  if (!touch.matches) $("prompt").focus();
}

// ---- server --------------------------------------------------------------------------------------

async function loadInfo() {
  const [list, about] = await Promise.allSettled([getJson("v1/models"), getJson("freehold/info")]);
  if (about.status === "fulfilled") info = { models: about.value.models ?? [], examples: about.value.examples ?? [] };
  if (list.status === "fulfilled") models = list.value.data ?? [];
  else if (list.reason.status === 401 && !$("key-dialog").open && await askKey(apiKey() !== "")) return loadInfo();
  drawModels();
  return undefined;
}

// ---- wiring --------------------------------------------------------------------------------------

const sidebar = new Sidebar({
  onOpen: (id) => { const found = loadChat(id); if (found && id !== chat.id) switchTo(found); },
  onNew: startNew,
  onGone: (id) => (id === null || id === chat.id ? startNew() : sidebar.draw(chat.id)),
});
const fleet = new Fleet((canAnswer) => { ready = canAnswer; loadInfo(); });

function submit() {
  const text = $("prompt").value.trim();
  if (!text || controller) return;
  $("prompt").value = "";
  grow();
  ask(text);
}

/** Grows the box with its text where the browser doesn't do so by itself. */
function grow() {
  const box = $("prompt");
  if (!CSS.supports("field-sizing", "content")) {
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight}px`;
  }
  drawSend();
}

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (controller) stop();
  else submit();
});
$("prompt").addEventListener("input", grow);
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); submit(); }
  if (event.key === "ArrowUp" && !$("prompt").value) { const pen = document.querySelector("[data-edit]"); if (pen) { event.preventDefault(); pen.click(); } }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && controller && !document.querySelector("dialog[open]")) { stop(); focusPrompt(); }
});
$("intent").addEventListener("change", () => { chat.intent = $("intent").checked; if (chat.messages.length) remember(); drawFrame(); });
$("model").addEventListener("change", () => { chat.model = $("model").value; if (chat.messages.length) remember(); drawFrame(); });
$("open-settings").addEventListener("click", () => openSettings({ unsupported: unsupported(), temperature: isStarter() ? STARTER_TEMPERATURE : 1 }));
$("main").addEventListener("scroll", () => {
  const { scrollTop, scrollHeight, clientHeight } = $("main");
  following = scrollHeight - scrollTop - clientHeight < 48;
  $("to-end").hidden = following;
}, { passive: true });
$("to-end").addEventListener("click", () => { following = true; toEnd(); });
addEventListener("pagehide", () => { if (controller) saveChat(chat); });
addEventListener("online", () => fleet.poll());

function drawTheme() {
  const dark = window.freeholdTheme.shown() === "dark";
  setIcon($("theme"), dark ? "sun" : "moon", dark ? "Switch to light" : "Switch to dark");
}
addEventListener("freehold:theme", drawTheme);
$("theme").addEventListener("click", () => window.freeholdTheme.choose(window.freeholdTheme.shown() === "dark" ? "light" : "dark"));

drawTheme();
draw();
fleet.poll();
focusPrompt();
