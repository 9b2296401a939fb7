// What this browser remembers: one localStorage entry a conversation, one for the settings. The API key lives for the tab only.

const CHAT = "freehold.chat.";
const SETTINGS = "freehold.settings";
const CURRENT = "freehold.current";
const KEY = "freehold.key";

export const DEFAULTS = { system: "", temperature: "", top_p: "", max_tokens: "", seed: "" };

/** `messages` are {role, text, ...}; an answer also has figures, finish, problem and model. */
export function newChat(model = "") {
  return { id: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`, title: "", model, intent: false, changed: Date.now(), messages: [] };
}

export function allChats() {
  const found = [];
  for (let i = 0; i < localStorage.length; i += 1) {
    const name = localStorage.key(i);
    if (name?.startsWith(CHAT)) {
      const chat = parse(localStorage.getItem(name));
      if (isChat(chat)) found.push(chat);
    }
  }
  return found.sort((a, b) => b.changed - a.changed);
}

export function loadChat(id) {
  const chat = parse(localStorage.getItem(CHAT + id));
  return isChat(chat) ? chat : null;
}

/** Writes a conversation; when the storage is full the oldest ones make room. False if nothing helped. */
export function saveChat(chat) {
  if (!chat.messages.length) return true;
  const text = JSON.stringify(chat);
  const others = allChats().filter((other) => other.id !== chat.id);
  for (;;) {
    try {
      localStorage.setItem(CHAT + chat.id, text);
      return true;
    } catch {
      const oldest = others.pop();
      if (!oldest) return false;
      localStorage.removeItem(CHAT + oldest.id);
    }
  }
}

export const forgetChat = (id) => localStorage.removeItem(CHAT + id);

export function forgetAll() {
  for (const chat of allChats()) forgetChat(chat.id);
}

export function currentId(id) {
  if (id !== undefined) write(CURRENT, id);
  return localStorage.getItem(CURRENT);
}

export function settings() {
  return { ...DEFAULTS, ...parse(localStorage.getItem(SETTINGS)) };
}

export const saveSettings = (values) => write(SETTINGS, JSON.stringify(values));

export const apiKey = () => sessionStorage.getItem(KEY) ?? "";

export function saveKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

function write(name, value) {
  try { localStorage.setItem(name, value); } catch { /* full: the page goes on without */ }
}

function parse(text) {
  try { return JSON.parse(text ?? "null"); } catch { return null; }
}

function isChat(chat) {
  return typeof chat?.id === "string" && Array.isArray(chat.messages) && chat.messages.every((m) => typeof m?.text === "string");
}
