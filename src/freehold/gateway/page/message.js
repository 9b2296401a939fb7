// One message on the page: the question in its bubble, the answer as it grows, what went wrong.

import { h, icon, copyButton } from "./dom.js";
import { figuresView } from "./figures.js";
import { MarkdownView } from "./markdown.js";

/** The person's message. `onEdit(text)` is given only for the last one. */
export function questionView(message, onEdit) {
  const item = h("li", { class: "question" });
  const actions = h("div", { class: "actions" }, copyButton("Copy message", () => message.text));
  if (onEdit) {
    const edit = h("button", { type: "button", class: "icon-button small", "aria-label": "Edit and send again", title: "Edit and send again", "data-edit": true }, icon("pen"));
    edit.addEventListener("click", () => editor(item, message, onEdit));
    actions.append(edit);
  }
  item.append(h("span", { class: "sr" }, "You: "), h("div", { class: "bubble", dir: "auto" }, message.text), actions);
  return item;
}

function editor(item, message, onEdit) {
  const before = [...item.childNodes];
  const area = h("textarea", { class: "edit-area", "aria-label": "Edit your message", rows: "2" });
  area.value = message.text;
  const cancel = () => { item.classList.remove("editing"); item.replaceChildren(...before); item.querySelector("[data-edit]")?.focus(); };
  const send = () => area.value.trim() && onEdit(area.value.trim());
  area.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { event.stopPropagation(); cancel(); }
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
  });
  const buttons = h("div", { class: "edit-buttons" },
    h("button", { type: "button", class: "button", on: { click: cancel } }, "Cancel"),
    h("button", { type: "button", class: "button primary", on: { click: send } }, "Send"));
  item.classList.add("editing");
  item.replaceChildren(area, buttons);
  area.focus();
}

/** The model's answer. Feed it with `show(message)`; it draws at most once a frame. */
export class AnswerView {
  constructor(message, actions) {
    this.message = message;
    this.actions = actions;
    this.frame = 0;
    this.thinking = null;
    this.lost = false;
    this.body = h("div", { class: "prose", dir: "auto" });
    this.waiting = h("p", { class: "waiting" }, h("span", { class: "pulse", "aria-hidden": "true" }), h("span", {}, ""));
    this.foot = h("div", { class: "answer-foot" });
    this.element = h("li", { class: "answer" }, h("span", { class: "sr" }, "Answer: "), this.body, this.foot);
    this.markdown = new MarkdownView(this.body);
  }

  /** Before the first token: a quiet sign, and after a moment why it takes time. */
  wait(text) {
    this.waiting.lastChild.textContent = text;
    if (!this.waiting.isConnected) this.element.insertBefore(this.waiting, this.foot);
  }

  /** The connection broke, and another is tried. */
  lose() {
    this.lost = true;
    this.wait("Reconnecting…");
  }

  found() {
    if (this.lost) this.waiting.remove();
    this.lost = false;
  }

  begin() {
    this.element.setAttribute("aria-busy", "true");
    this.element.classList.add("streaming");
    this.wait("");
  }

  /** Asks for a redraw with the next frame; 200 tokens/s cost no more than 60 draws. */
  grow(drawn) {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => { this.frame = 0; this.draw(); drawn?.(); });
  }

  draw() {
    const { thought, answer } = split(this.message);
    if ((thought || answer) && !this.lost) this.waiting.remove();
    if (thought) this.drawThought(thought);
    if (answer) this.markdown.update(answer);
  }

  drawThought(text) {
    this.thinking ??= h("details", { class: "thought" }, h("summary", {}, "Thoughts"), h("div", { dir: "auto" }));
    if (!this.thinking.isConnected) this.element.insertBefore(this.thinking, this.body);
    this.thinking.lastChild.textContent = text;
  }

  /** The answer is over: complete, stopped or failed. Shows its figures and what can be done with it. */
  end() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    this.draw();
    this.waiting.remove();
    this.element.classList.remove("streaming");
    this.element.removeAttribute("aria-busy");
    const { text, figures, problem, finish } = this.message;
    const buttons = h("div", { class: "actions" });
    if (text) buttons.append(copyButton("Copy answer", () => split(this.message).answer));
    if (this.actions.again && !problem) buttons.append(this.againButton());
    const note = NOTES[finish] ?? (text.trim() || problem ? null : "The model answered with nothing.");
    this.foot.replaceChildren(...[
      problem && this.problemView(problem),
      buttons.childNodes.length ? buttons : null,
      note && h("span", { class: "faint note" }, note),
      ...(figures ? figuresView(figures) : []),
    ].filter(Boolean));
  }

  againButton() {
    const label = "Answer again";
    return h("button", { type: "button", class: "icon-button small", "aria-label": label, title: label, on: { click: this.actions.again } }, icon("again"));
  }

  problemView(problem) {
    const retry = this.actions.again && h("button", { type: "button", class: "button", on: { click: this.actions.again } }, "Try again");
    const key = problem.status === 401 && this.actions.key && h("button", { type: "button", class: "button", on: { click: this.actions.key } }, "Enter API key");
    return h("div", { class: "problem" },
      h("p", { class: "problem-what" }, ...codeMarks(problem.what)),
      problem.next && h("p", {}, ...codeMarks(problem.next)),
      (retry || key) && h("div", { class: "problem-buttons" }, key, retry));
  }
}

const NOTES = {
  length: "Cut at the length limit.",
  stopped: "Stopped.",
  left: "The page was left before the end.",
};

/** `like this` in our own sentences becomes code. */
export function codeMarks(text) {
  return text.split("`").map((part, index) => (index % 2 ? h("code", {}, part) : part));
}

/** Models that think aloud do so in <think>…</think> at the start, or in a field of its own. */
function split({ text, thought = "" }) {
  const match = /^\s*<think>([\s\S]*?)(?:<\/think>\s*|$)/.exec(text);
  return match ? { thought: thought + match[1].trim(), answer: text.slice(match[0].length) } : { thought, answer: text };
}
