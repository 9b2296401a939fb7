// What an empty chat shows: which model is ready, what it is good for, and something to try.

import { isLoopback } from "./api.js";
import { h } from "./dom.js";

export const INTENT_SYSTEM = "Name the intent of the customer's message.";

const STARTER_EXAMPLES = [
  { text: "My card still hasn't arrived. It's been two weeks!", intent: true },
  { text: "Why was I charged twice for the same coffee?", intent: true },
  { text: "How do I change the PIN on my card?", intent: true },
  { text: "I'm looking for a place to eat in San Jose.", intent: false },
];

/** Draws the start of a chat. `onTry({text, intent})` sends an example. */
export function drawWelcome(target, { card, starter, examples, ready, onTry }) {
  const parts = [h("img", { src: "page/icon.svg", alt: "", width: "52", height: "52" })];
  parts.push(h("h2", {}, card ? "Your model is ready." : ready === false ? "Your model is on its way." : "Looking for your model…"));
  if (card) parts.push(h("p", { class: "lead" }, whereOf(card)), h("ul", { class: "facts", "aria-label": "About the model" }, ...factsOf(card).map((fact) => h("li", {}, fact))));
  if (starter) {
    parts.push(h("p", { class: "hint-card" }, h("strong", {}, "The starter is for trying the system, not for talking to."),
      " It is a tiny model that names what a bank's customer wants, and knows a few phrases of small talk. For a model to talk to: ",
      h("code", {}, "freehold serve MODEL"), "."));
    parts.push(tryList(examples.length ? examples : STARTER_EXAMPLES, onTry));
  }
  target.replaceChildren(...parts);
}

function tryList(examples, onTry) {
  return h("ul", { class: "tries", "aria-label": "Things to try" }, ...examples.slice(0, 4).map((example) => {
    const { text = example.message, intent } = example;
    return h("li", {}, h("button", { type: "button", on: { click: () => onTry({ text, intent: Boolean(intent) }) } },
      h("span", { class: "faint" }, intent ? "Name the intent" : "Small talk"), h("span", {}, text)));
  }));
}

function whereOf(card) {
  if (card.engine === "remote") return `${card.id} answers through another server.`;
  return isLoopback() ? `${card.id} runs on this machine. What you write stays here.` : `${card.id} runs on ${location.hostname}.`;
}

function factsOf(card) {
  return [
    card.parameters && `${short(card.parameters)} parameters`,
    card.quantization && `${card.quantization} weights`,
    card.context_tokens && `${card.context_tokens.toLocaleString("en")} tokens of context`,
    card.engine && `${card.engine} engine`,
  ].filter(Boolean);
}

function short(n) {
  return n >= 1e9 ? `${(n / 1e9).toFixed(1)} billion` : n >= 1e6 ? `${(n / 1e6).toFixed(1)} million` : n.toLocaleString("en");
}
