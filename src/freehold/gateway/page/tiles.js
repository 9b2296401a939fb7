// What holds now: the objectives in one sentence, the alerts that fire, and the few numbers that decide.

import { h } from "./dom.js";
import { ms } from "./figures.js";

export const number = (value) => (value >= 100 ? Math.round(value).toLocaleString("en") : value >= 10 ? String(Number(value.toFixed(1))) : value >= 0.1 || value === 0 ? String(Number(value.toFixed(2))) : value.toPrecision(2));
export const usd = (value) => (value < 0 ? "-" : "") + dollars(Math.abs(value));
const dollars = (value) => (value === 0 ? "$0" : value >= 1 ? `$${value.toLocaleString("en", { maximumFractionDigits: 2, minimumFractionDigits: 2 })}` : `$${value.toLocaleString("en", { maximumSignificantDigits: 3 })}`);
export const percent = (share) => `${Number((100 * share).toFixed(share > 0.995 && share < 1 ? 2 : 1))}%`;

/** The verdict first, then each objective with how much of what it allows is used. */
export function objectivesView(stats) {
  const slo = stats.slo ?? [];
  if (!slo.length) {
    return [verdict("none", "No objective is set.", "Say what you promise: --set observe.slo=\"p99 e2e < 2s\"; the lines and the alerts follow.")];
  }
  const judged = slo.filter((each) => each.kept !== null);
  const broken = judged.filter((each) => !each.kept);
  if (!judged.length) return [verdict("none", "Nothing to judge yet.", "No request has ended in this window."), list(slo)];
  if (!broken.length) return [verdict("good", slo.length > 1 ? "All objectives are kept." : "The objective is kept.", ""), list(slo)];
  return [verdict("bad", broken.map((each) => `${each.text} is not kept`).join("; ") + ".", ""), list(slo)];
}

const verdict = (tone, what, more) => h("p", { class: "verdict", "data-tone": tone }, h("strong", {}, what), more && h("span", { class: "faint" }, more));

function list(slo) {
  return h("div", { class: "objective-list" }, ...slo.map((each) => {
    const used = each.value_ms != null && each.limit_ms ? each.value_ms / each.limit_ms : null;
    const meter = used !== null && h("meter", { min: 0, max: 1.25, low: 0.96, high: 1, optimum: 0, value: Math.min(used, 1.25), "aria-label": `${percent(used)} of ${ms(each.limit_ms)}` });
    return h("div", { class: "objective" },
      h("div", { class: "objective-line" }, h("span", {}, each.text), h("strong", {}, each.value_ms != null ? ms(each.value_ms) : each.share_kept != null ? percent(1 - each.share_kept) : "–")),
      meter,
      each.share_kept != null && h("span", { class: "faint" }, `${percent(each.share_kept)} of the requests kept it`));
  }));
}

export function alertsView(alerts) {
  return alerts.filter((alert) => alert.state === "firing").map((alert) => h("div", { class: "alert", "data-severity": alert.severity },
    h("span", {}, h("strong", {}, `${alert.severity}: `), plain(alert.what)),
    [alert.cause, alert.advice].some(Boolean) && h("span", {}, plain([alert.cause, alert.advice].filter(Boolean).join(" "))),
    h("span", { class: "faint" }, `${alert.rule}, since ${new Date(alert.since_unix_s * 1000).toLocaleTimeString([], { hourCycle: "h23" })}${alert.silenced_until_unix_s ? ", silenced" : ""}`)));
}

const plain = (text) => text.replaceAll("`", "");

export function tilesView(stats, variant) {
  const v = stats.variants?.[variant] ?? null;
  const all = Object.values(stats.variants ?? {});
  const sum = (of) => all.reduce((total, each) => total + (of(each) ?? 0), 0);
  const queue = stats.queue ?? {};
  const cost = stats.cost ?? {};
  const bad = sum((each) => each.counts.failed + each.counts.expired);
  const ended = sum((each) => each.counts.ok) + bad;
  return [
    tile("Requests", `${number(sum((each) => each.requests_per_s))}/s`, `${count(sum((each) => each.counts.ok))} answered, ${count(bad)} failed, ${count(sum((each) => each.counts.refused))} refused`, bad > 0.01 * ended ? "bad" : ""),
    tile("p99 end to end", v?.e2e_ms?.p99 != null ? ms(v.e2e_ms.p99) : "–", v?.e2e_ms?.p50 != null ? `p50 ${ms(v.e2e_ms.p50)}, p95 ${ms(v.e2e_ms.p95)}` : "no answer yet"),
    tile("p99 to first token", v?.ttft_ms?.p99 != null ? ms(v.ttft_ms.p99) : "–", v?.queue_ms?.p99 != null ? `p99 in queue ${ms(v.queue_ms.p99)}` : ""),
    tile("Tokens", `${number(sum((each) => each.tokens_per_s))}/s`, v?.tokens_per_s_per_sequence != null ? `${number(v.tokens_per_s_per_sequence)}/s each${v.batch_efficiency != null ? `, ${percent(v.batch_efficiency)} of a lone one` : ""}` : ""),
    tile("Queue", String(queue.depth ?? "–"), queue.depth_per_batch != null ? `${number(queue.depth_per_batch)} batches wait` : "", queue.depth_per_batch > 10 ? "bad" : queue.depth_per_batch > 3 ? "warn" : ""),
    tile("Running", queue.batch_limit ? `${queue.running} of ${queue.batch_limit}` : String(queue.running ?? "–"), v?.batch_mean != null ? `${number(v.batch_mean)} a step` : ""),
    tile("Memory bandwidth", v?.mbu != null ? percent(v.mbu) : "–", v?.mbu != null ? "of what was measured, while steps ran" : v?.batch_mean != null ? "known once freehold doctor has run" : "this engine hides its steps"),
    tile("Cost a success", cost.per_successful_request_usd != null ? usd(cost.per_successful_request_usd) : "–", cost.usd != null ? `${usd(cost.usd)} in this window` : "no price is set, or not known yet"),
    cost.saved_usd != null && tile("Saved", usd(cost.saved_usd), `against ${cost.against}`, cost.saved_usd < 0 ? "warn" : ""),
    stats.power_w != null && tile("Power", `${number(stats.power_w)} W`, ""),
    (sum((each) => each.runaway + each.looped) > 0 || all.some((each) => each.rambling)) && tile("Odd answers", count(sum((each) => each.runaway + each.looped)), `${sum((each) => each.runaway)} ran away, ${sum((each) => each.looped)} repeated themselves${all.some((each) => each.rambling) ? "; answers grow longer" : ""}`, "warn"),
  ].filter(Boolean);
}

const count = (value) => value.toLocaleString("en");

function tile(name, value, more, tone = "") {
  return h("dl", { class: "tile", "data-tone": tone || null }, h("dt", {}, name), h("dd", {}, value), more && h("dd", { class: "more" }, more));
}
