// Workers: what each does, how it came up, and what one may do with it: drain, replace, roll out another model.

import { postJson } from "./api.js";
import { $, announce, h, icon } from "./dom.js";
import { ms } from "./figures.js";
import { percent } from "./tiles.js";
import { WORDS } from "./workers.js";

const PHASES = { download: "d", convert: "c", map: "a", compile: "b", warmup: "c" };

export function workersView(workers, onDone) {
  if (!workers.length) return [h("p", { class: "empty" }, "No worker has come up yet.")];
  const heads = ["Worker", "State", "Model", "Running", "KV cache", "Memory", "Restarts", ""];
  const head = h("tr", {}, ...heads.map((text, i) => (text ? h("th", { scope: "col", class: i > 2 ? "number" : null }, text) : h("td", {}))));
  const rows = workers.map((w) => h("tr", {},
    h("th", { scope: "row" }, w.name),
    h("td", {}, h("span", { class: "state" }, h("span", { class: `dot ${w.state}` }), (WORDS[w.state] ?? w.state) + (w.phase && w.state === "loading" ? `: ${w.phase}` : ""))),
    h("td", {}, [w.model, w.engine && `on ${w.engine}`].filter(Boolean).join(" ")),
    h("td", { class: "number" }, String(w.running ?? 0)),
    h("td", { class: "number" }, w.kv_usage != null ? percent(w.kv_usage) : "–"),
    h("td", { class: "number" }, w.memory_bytes ? `${Math.round(w.memory_bytes / 2 ** 20).toLocaleString("en")} MiB${w.memory_limit_bytes ? ` of ${Math.round(w.memory_limit_bytes / 2 ** 20).toLocaleString("en")}` : ""}` : "–"),
    h("td", { class: "number" }, String(w.restarts ?? 0)),
    h("td", { class: "number" }, ...(w.state === "ready" || w.state === "busy" ? [action("Replace", w.name, true, onDone), action("Drain", w.name, false, onDone)] : []))));
  const errors = workers.filter((w) => w.last_error).map((w) => h("p", { class: "trouble" }, `${w.name}: ${w.last_error}`));
  return [h("table", {}, h("thead", {}, head), h("tbody", {}, ...rows)), ...errors];
}

function action(word, name, replace, onDone) {
  const ask = replace ? `Let ${name} finish and leave? Another worker takes its place first, so nothing is lost.` : `Let ${name} finish and leave? Nothing is lost, but no other takes its place.`;
  const key = `${word}-${name}`;
  return h("button", { type: "button", class: "link-button", "data-key": key, "aria-label": `${word} ${name}`, on: { click: async () => {
    if (!confirm(ask)) return;
    await told(() => postJson(`freehold/workers/${encodeURIComponent(name)}/drain`, { replace }, AbortSignal.timeout(8000)), `${name} finishes and leaves.`);
    onDone();
  } } }, word);
}

/** How long each worker's model took to load, by phase. */
export function phasesView(loads) {
  const rows = Object.entries(loads ?? {}).map(([worker, phases]) => [worker, Object.entries(phases)]);
  const most = Math.max(...rows.map(([, phases]) => phases.reduce((sum, [, s]) => sum + s, 0)), 0.001);
  return rows.map(([worker, phases]) => h("div", { class: "phase-row" },
    h("span", {}, `${worker} loaded in ${ms(1000 * phases.reduce((sum, [, s]) => sum + s, 0))}`),
    h("div", {}, bars(phases.map(([name, s]) => ({ name: `${name} ${ms(1000 * s)}`, tone: PHASES[name] ?? "a", share: s / most }))),
      h("div", { class: "legend" }, ...phases.map(([name, s]) => h("span", { class: "key" }, h("span", { class: `swatch ${PHASES[name] ?? "a"}` }), `${name} ${ms(1000 * s)}`))))));
}

/** Pieces of {name, tone, share}, one after the other, as a bar of 1. */
export function bars(pieces, start = 0) {
  const SVG = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "bars");
  svg.setAttribute("viewBox", "0 0 100 10");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", pieces.map((piece) => piece.name).join(", "));
  let x = 100 * start;
  for (const { name, tone, share } of pieces) {
    const rect = document.createElementNS(SVG, "rect");
    const title = document.createElementNS(SVG, "title");
    title.textContent = name;
    for (const [key, value] of Object.entries({ class: tone, x, y: 0, width: Math.max(100 * share, 0.3), height: 10 })) rect.setAttribute(key, value);
    rect.append(title);
    svg.append(rect);
    x += 100 * share;
  }
  return svg;
}

// ---- rollout -------------------------------------------------------------------------------------

/** The last rollout, while it is on its way or for the reader to see how it ended; null: there has been none. */
export function drawRollout(last) {
  const box = $("rollout-state");
  box.hidden = last === null;
  if (last === null) return;
  box.dataset.tone = last.state === "rolled_back" ? "bad" : "";
  const words = { finding: "is being found", loading: "loads", comparing: `answers ${last.canary_percent}% and is compared`, taking_over: "takes over", done: "has taken over", rolled_back: "was rolled back" };
  const figures = last.new_answers ? ` ${last.new_answers} answers of the new, ${last.new_failed} failed${last.new_p99_ms != null ? `, p99 ${ms(last.new_p99_ms)}` : ""}; ${last.old_answers} of the old, ${last.old_failed} failed${last.old_p99_ms != null ? `, p99 ${ms(last.old_p99_ms)}` : ""}.` : "";
  box.replaceChildren(`${last.model} ${words[last.state] ?? last.state}. ${last.reason}${figures}`);
}

export function openRollout(onDone) {
  const dialog = $("rollout");
  const model = h("input", { id: "rollout-model", required: true, autocomplete: "off", spellcheck: "false" });
  const share = h("input", { id: "rollout-share", type: "number", min: 1, max: 100, value: 10, required: true });
  const seconds = h("input", { id: "rollout-seconds", type: "number", min: 1, max: 86_400, value: 60, required: true });
  const trouble = h("p", { class: "trouble", role: "alert", hidden: true });
  const form = h("form", {},
    h("div", { class: "sheet-title" }, h("h2", { id: "rollout-title" }, "Roll out another model"),
      h("button", { type: "button", class: "icon-button", "aria-label": "Close", on: { click: () => dialog.close() } }, icon("close"))),
    field(model, "Model", "As for `freehold serve`: a GGUF file, a folder or a hub id. It loads beside the old one, answers a share, and takes over unless it does worse."),
    h("div", { class: "field-grid" }, field(share, "Its share, in percent", "100: it takes over without being compared."), field(seconds, "Compared for, in seconds", "")),
    trouble,
    h("div", { class: "sheet-buttons" }, h("button", { type: "submit", class: "button primary" }, "Roll out")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await postJson("freehold/rollout", { model: model.value.trim(), canary_percent: Number(share.value), window_s: Number(seconds.value) }, AbortSignal.timeout(8000));
      dialog.close();
      announce(`${model.value.trim()} is on its way.`);
      onDone();
    } catch (problem) {
      trouble.textContent = [problem.message, problem.next].filter(Boolean).join(" ");
      trouble.hidden = false;
    }
  });
  dialog.replaceChildren(form);
  dialog.showModal();
  model.focus();
}

function field(input, label, hint) {
  if (hint) input.setAttribute("aria-describedby", `${input.id}-hint`);
  return h("div", { class: "field" }, h("label", { for: input.id }, label), input, hint && h("p", { id: `${input.id}-hint`, class: "faint" }, hint));
}

async function told(act, done) {
  try {
    await act();
    announce(done);
  } catch (problem) {
    announce(problem.message);
    alert([problem.message, problem.next].filter(Boolean).join(" "));
  }
}
