// The line below the message box: who answers, in what state. Asks gently, and not while the page is hidden.

import { getJson, postJson } from "./api.js";
import { $, announce, h } from "./dom.js";

const CALM_MS = 5000;
const SOON_MS = 1500;
const SLOWEST_MS = 30000;

export const WORDS = {
  starting: "starting", loading: "loading", ready: "ready", busy: "answering",
  draining: "finishing", hung: "hangs", stopped: "has left", dead: "died",
};

export class Fleet {
  /** `onChange(canAnswer)` is called when workers come or go. */
  constructor(onChange) {
    this.onChange = onChange;
    this.couldAnswer = null;
    this.failures = 0;
    this.timer = 0;
    document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(this.timer) : this.poll()));
  }

  async poll() {
    clearTimeout(this.timer);
    let next = CALM_MS;
    try {
      const { workers = [] } = await getJson("freehold/workers", AbortSignal.timeout(8000));
      this.failures = 0;
      next = this.show(workers) ? CALM_MS : SOON_MS;
    } catch (problem) {
      this.failures += 1;
      next = Math.min(SOON_MS * 2 ** this.failures, SLOWEST_MS);
      this.fail(problem);
    }
    if (!document.hidden) this.timer = setTimeout(() => this.poll(), next);
  }

  /** Soon, because something has just happened. */
  hurry() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.poll(), 400);
  }

  show(workers) {
    const able = workers.filter((w) => w.state === "ready" || w.state === "busy");
    const answering = able.reduce((sum, w) => sum + (w.running ?? 0), 0);
    const loading = workers.find((w) => w.state === "loading" || w.state === "starting");
    const troubled = workers.filter((w) => w.state === "dead" || w.state === "hung");
    let text = `${count(able.length, "worker")} ready`;
    if (answering) text += `, ${count(answering, "answer")} running`;
    if (!able.length) text = loading ? `Loading the model${loading.phase ? `: ${loading.phase}` : ""}…` : "No worker is running";
    else if (troubled.length) text += `, ${troubled.length} down`;
    this.put(able.length ? (troubled.length ? "warn" : answering ? "busy" : "good") : loading ? "warn" : "bad", text, table(workers, (name) => this.drain(name)));
    this.tell(able.length > 0);
    return able.length > 0 && !loading;
  }

  fail(problem) {
    const text = problem.status === 401 ? "An API key is needed" : "The server does not answer; trying again";
    this.put(problem.status === 401 ? "warn" : "bad", text, [h("p", {}, problem.message ?? text)]);
    this.tell(false);
  }

  put(tone, text, details) {
    const button = $("fleet");
    if (button.dataset.tone !== tone) button.dataset.tone = tone;
    if ($("fleet-text").textContent !== text) $("fleet-text").textContent = text;
    const focused = document.activeElement?.dataset?.drain;
    $("fleet-card").replaceChildren(...details);
    if (focused) $("fleet-card").querySelector(`[data-drain="${CSS.escape(focused)}"]`)?.focus();
  }

  /** Asks first: the worker finishes what it has begun, and another one takes its place. */
  async drain(name) {
    if (!confirm(`Let ${name} finish and leave? Another worker takes its place first, so nothing is lost.`)) return;
    try {
      await postJson(`freehold/workers/${encodeURIComponent(name)}/drain`, { replace: true }, AbortSignal.timeout(8000));
      announce(`${name} leaves once another worker is ready.`);
    } catch (problem) {
      announce(problem.message);
      alert([problem.message, problem.next].filter(Boolean).join(" "));
    }
    this.hurry();
  }

  tell(canAnswer) {
    if (canAnswer === this.couldAnswer) return;
    this.couldAnswer = canAnswer;
    this.onChange(canAnswer);
  }
}

function table(workers, drain) {
  if (!workers.length) return [h("p", {}, "No worker has come up yet.")];
  const rows = workers.map((w) => h("tr", {},
    h("th", { scope: "row" }, w.name),
    h("td", {}, (WORDS[w.state] ?? w.state) + (w.phase && w.state === "loading" ? `: ${w.phase}` : "")),
    h("td", {}, [w.model, w.engine && `on ${w.engine}`].filter(Boolean).join(" ")),
    h("td", { class: "number" }, String(w.running ?? 0)),
    h("td", { class: "number" }, w.memory_bytes ? `${Math.round(w.memory_bytes / 2 ** 20).toLocaleString("en")} MiB` : "–"),
    h("td", { class: "number" }, String(w.restarts ?? 0)),
    h("td", {}, (w.state === "ready" || w.state === "busy") && h("button", {
      type: "button", class: "link-button", "data-drain": w.name, "aria-label": `Replace ${w.name}`, on: { click: () => drain(w.name) },
    }, "Replace"))));
  const heads = ["Worker", "State", "Model", "Running", "Memory", "Restarts"];
  const head = h("tr", {}, ...heads.map((text, i) => h("th", { scope: "col", class: i > 2 ? "number" : null }, text)), h("td", {}));
  const errors = workers.filter((w) => w.last_error).map((w) => h("p", { class: "faint" }, `${w.name}: ${w.last_error}`));
  return [h("table", {}, h("thead", {}, head), h("tbody", {}, ...rows)), ...errors];
}

const count = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;
