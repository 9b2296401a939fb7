// The settings sheet and the sheet that asks for an API key. Empty fields are not sent: the model's defaults hold.

import { $, h, icon } from "./dom.js";
import { DEFAULTS, apiKey, saveKey, saveSettings, settings } from "./store.js";

const FIELDS = [
  { name: "temperature", label: "Temperature", hint: "0 always takes the likeliest token; higher is more varied.", min: 0, max: 2, step: "any" },
  { name: "top_p", label: "Top p", hint: "Only the likeliest tokens that together reach this share.", min: 0, max: 1, step: "any", empty: "1" },
  { name: "max_tokens", label: "Longest answer", hint: "In tokens. Empty: until the model is done.", min: 1, max: 1000000, step: 1, empty: "no limit" },
  { name: "seed", label: "Seed", hint: "The same seed gives the same answer again.", min: 0, max: 4294967295, step: 1, empty: "random" },
];

/** The sampling settings as the API takes them; what is empty is left out. */
export function samplingOf(values) {
  const body = {};
  for (const { name } of FIELDS) {
    const number = Number.parseFloat(values[name]);
    if (values[name] !== "" && Number.isFinite(number)) body[name] = number;
  }
  return body;
}

/** Opens the settings. `unsupported` names what this engine can't honour, `temperature` is what holds when none is set. */
export function openSettings({ unsupported, temperature }) {
  const dialog = $("settings");
  const values = settings();
  const put = (name, value) => { values[name] = value; saveSettings(values); };
  const system = h("textarea", { id: "set-system", rows: "3", placeholder: "None", on: { input: (e) => put("system", e.target.value) } });
  system.value = values.system;
  const form = h("form", { method: "dialog" },
    title("settings-title", "Settings"),
    field("set-system", "System message", "Said to the model before the conversation.", system),
    h("div", { class: "field-grid" }, ...FIELDS.map((spec) => numberField({ ...spec, empty: spec.empty ?? String(temperature) }, values, put, unsupported)), themeField(), keyField()),
    h("div", { class: "sheet-buttons" },
      h("button", { type: "button", class: "button", on: { click: () => { saveSettings(DEFAULTS); openSettings({ unsupported, temperature }); } } }, "Reset"),
      h("button", { type: "submit", class: "button primary" }, "Done")));
  show(dialog, form);
}

function numberField(spec, values, put, unsupported) {
  const { name, label, hint, min, max, step, empty } = spec;
  const off = unsupported.includes(name);
  const id = `set-${name}`;
  const input = h("input", { id, type: "number", inputmode: step === 1 ? "numeric" : "decimal", min, max, step, placeholder: empty, disabled: off });
  input.value = off ? "" : values[name];
  input.addEventListener("input", () => {
    const bad = !input.validity.valid;
    input.setAttribute("aria-invalid", String(bad));
    if (!bad) put(name, input.value);
  });
  return field(id, label, off ? "This engine can't honour it." : hint, input);
}

function themeField() {
  const select = h("select", { id: "set-theme", on: { change: (e) => window.freeholdTheme.choose(e.target.value) } },
    ...[["auto", "Like the system"], ["light", "Light"], ["dark", "Dark"]].map(([value, text]) => h("option", { value }, text)));
  select.value = window.freeholdTheme.chosen();
  return field("set-theme", "Appearance", "Light or dark.", select);
}

function keyField() {
  const input = h("input", { id: "set-key", type: "password", autocomplete: "off", spellcheck: "false", placeholder: "None" });
  input.value = apiKey();
  input.addEventListener("change", () => saveKey(input.value.trim()));
  return field("set-key", "API key", "Forgotten when this tab is closed.", input);
}

function field(id, label, hint, control) {
  if (hint) control.setAttribute("aria-describedby", `${id}-hint`);
  return h("div", { class: "field" }, h("label", { for: id }, label), control, hint && h("p", { id: `${id}-hint`, class: "faint" }, hint));
}

function title(id, text) {
  return h("div", { class: "sheet-title" }, h("h2", { id }, text),
    h("button", { type: "button", class: "icon-button", "aria-label": "Close", on: { click: (e) => e.target.closest("dialog").close() } }, icon("close")));
}

/** Asks for an API key; resolves to true when one was given. */
export function askKey(refused) {
  const dialog = $("key-dialog");
  return new Promise((resolve) => {
    const input = h("input", { id: "key", type: "password", autocomplete: "off", spellcheck: "false", required: true });
    const form = h("form", {},
      title("key-title", "This server asks for a key"),
      h("p", {}, refused ? "The key was not accepted. " : "", "Whoever runs it can make one with ", h("code", {}, "freehold keys add NAME"), "."),
      field("key", "API key", "Sent to this server only, and forgotten when this tab is closed.", input),
      h("div", { class: "sheet-buttons" }, h("button", { type: "submit", class: "button primary" }, "Continue")));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      saveKey(input.value.trim());
      dialog.close("go");
    });
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "go"), { once: true });
    dialog.returnValue = "";
    show(dialog, form);
    input.focus();
  });
}

function show(dialog, content) {
  dialog.replaceChildren(content);
  dialog.onclick = (event) => { if (event.target === dialog) dialog.close(); };
  if (!dialog.open) dialog.showModal();
}
