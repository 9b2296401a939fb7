// The figures under an answer: how fast it came, in words, with where each number was taken.

import { h } from "./dom.js";

export const ms = (value) => (value < 1 ? "<1 ms" : value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(value < 10000 ? 2 : 1)} s`);
export const rate = (value) => (value >= 20 ? Math.round(value).toLocaleString("en") : value.toFixed(1));

/**
 * What is known of one answer. The server's own timings come first; what it doesn't say is measured here.
 * `seen` is {sentMs, firstMs, lastMs, pieces} by this page's clock.
 */
export function figuresOf({ open, usage, timings, seen }) {
  const tokens = usage?.completion_tokens ?? null;
  const span = (seen.lastMs ?? 0) - (seen.firstMs ?? 0);
  const counted = tokens ?? seen.pieces;
  const own = counted > 1 && span > 0 ? ((counted - 1) / span) * 1000 : null;
  return {
    rate: timings?.tokens_per_s ?? own,
    rateBy: timings?.tokens_per_s != null ? "server" : "page",
    ttftMs: timings?.ttft_ms ?? open?.ttftMs ?? (seen.firstMs ? seen.firstMs - seen.sentMs : null),
    ttftBy: timings?.ttft_ms != null || open?.ttftMs != null ? "server" : "page",
    queueMs: timings?.queue_ms ?? open?.queueMs ?? null,
    totalMs: timings?.total_ms ?? (seen.lastMs ? seen.lastMs - seen.sentMs : null),
    tokens,
    promptTokens: usage?.prompt_tokens ?? null,
  };
}

/** A line of figures, and the explanation of each that it opens; [] where nothing is known. */
export function figuresView(f) {
  const rows = [
    f.rate != null && [`${rate(f.rate)} tokens/s`, `Speed: tokens of the answer each second, from the first to the last. Measured by ${by(f.rateBy)}.`],
    f.ttftMs != null && [`${ms(f.ttftMs)} to first token`, `Time to first token: from the request's arrival to its first token, waiting in the queue included. Measured by ${by(f.ttftBy)}.`],
    f.queueMs != null && [`${ms(f.queueMs)} in queue`, "Queue time: how long the request waited for a worker to take it. Measured by the server."],
  ].filter(Boolean);
  if (!rows.length) return [];
  const more = [
    f.tokens != null && [`${f.tokens} tokens`, "Length of the answer, in the model's tokens."],
    f.promptTokens != null && [`${f.promptTokens} tokens read`, "Length of what the model read: the conversation so far, with its template."],
    f.totalMs != null && [`${ms(f.totalMs)} in all`, "From the request to the last token."],
  ].filter(Boolean);
  const list = h("dl", { class: "explained", hidden: true }, ...[...rows, ...more].flatMap(([value, meaning]) => [h("dt", {}, value), h("dd", {}, meaning)]));
  const line = h("button", { type: "button", class: "figures", "aria-expanded": "false" }, ...rows.map(([value, meaning]) => h("span", { title: meaning }, ...shortened(value))));
  line.addEventListener("click", () => {
    list.hidden = !list.hidden;
    line.setAttribute("aria-expanded", String(!list.hidden));
    list.scrollIntoView({ block: "nearest" });
  });
  return [line, list];
}

/** On a narrow screen the small words are left out, so that the line fits. */
function shortened(value) {
  return value.split(/(?<= )(to |in )/).map((part, i) => (i % 2 ? h("span", { class: "small-word" }, part) : part));
}

const by = (who) => (who === "server" ? "the server" : "this page");
