// The slowest requests of the window, each with where its time went: accepted, queued, reading the prompt, writing, delivering.

import { bars } from "./crew.js";
import { h } from "./dom.js";
import { ms } from "./figures.js";

const STAGES = [
  ["accepting", "a", (row) => [0, row.accepted_ms]],
  ["in queue", "c", (row) => [row.accepted_ms, row.claimed_ms]],
  ["to first token", "d", (row) => [row.claimed_ms, row.first_ms]],
  ["writing", "b", (row) => [row.first_ms, row.last_ms]],
  ["delivering", "a", (row) => [row.last_ms, row.delivered_ms]],
];

export const stageKey = () => STAGES.slice(0, 4).map(([name, tone]) => h("span", { class: "key" }, h("span", { class: `swatch ${tone}` }), name));

export function slowestView(rows) {
  if (rows === null) return [h("p", { class: "empty" }, "This server keeps no history: observe.history is off.")];
  if (!rows.length) return [h("p", { class: "empty" }, "No request has ended in this window.")];
  const most = Math.max(...rows.map((row) => row.delivered_ms), 1);
  const heads = ["Request", "Outcome", "Took", "Tokens", "Worker", "Where its time went"];
  const head = h("tr", {}, ...heads.map((text, i) => h("th", { scope: "col", class: i === 2 || i === 3 ? "number" : null }, text)));
  const body = rows.map((row) => h("tr", {},
    h("th", { scope: "row", title: `${row.route}, ${row.variant}` }, row.id.length > 22 ? `${row.id.slice(0, 20)}…` : row.id),
    h("td", {}, row.outcome === "ok" ? "ok" : [row.outcome, row.code].filter(Boolean).join(": ")),
    h("td", { class: "number" }, ms(row.delivered_ms)),
    h("td", { class: "number", title: "read + written" }, `${row.prompt_tokens} + ${row.completion_tokens}`),
    h("td", {}, row.worker + (row.attempts > 1 ? ` (attempt ${row.attempts})` : "")),
    h("td", { class: "fall" }, bars(stagesOf(row, most)))));
  return [h("table", {}, h("thead", {}, head), h("tbody", {}, ...body))];
}

function stagesOf(row, most) {
  const known = STAGES.map(([name, tone, span]) => [name, tone, ...span(row)]).filter(([, , from, to]) => from != null && to != null && to > from);
  const pieces = known.map(([name, tone, from, to]) => ({ name: `${name} ${ms(to - from)}`, tone, share: (to - from) / most }));
  return pieces.length ? pieces : [{ name: `${row.outcome} after ${ms(row.delivered_ms)}`, tone: "a", share: row.delivered_ms / most }];
}
