// The dashboard: asks the server what holds now and over time, and draws it. Keeps nothing but the last answers.

import { getJson } from "./api.js";
import { drawRollout, openRollout, phasesView, workersView } from "./crew.js";
import { $, setIcon } from "./dom.js";
import { ms } from "./figures.js";
import { Plot } from "./plot.js";
import { askKey } from "./settings.js";
import { apiKey } from "./store.js";
import { alertsView, number, objectivesView, tilesView, usd } from "./tiles.js";
import { slowestView, stageKey } from "./waterfall.js";

const WINDOWS = { "1m": "1 min", "5m": "5 min", "1h": "1 h", "1d": "1 day" };
const METRICS = { e2e: "End to end", ttft: "To first token", itl: "Between tokens", tpot: "Per token", queue: "In queue", step: "A step of the engine" };
const STATS_MS = 2000;
const SERIES_EVERY = 5;
const SLOWEST = 10;
const WAIT_MS = 8000;

const shown = { window: "5m", variant: "", metric: "e2e", ...Object.fromEntries(new URLSearchParams(location.hash.slice(1))) };
if (!(shown.window in WINDOWS)) shown.window = "5m";
if (!(shown.metric in METRICS)) shown.metric = "e2e";

const plots = {
  latency: new Plot($("latency"), { name: "Latency over time: p50, p95 and p99", format: ms }),
  queue: new Plot($("queue"), { name: "Requests waiting and running over time", format: number }),
  tokens: new Plot($("tokens"), { name: "Tokens a second over time", format: number }),
  requests: new Plot($("requests"), { name: "Requests a second over time", format: number }),
  cost: new Plot($("cost"), { name: "Cost of a successful request over time", format: usd }),
};
let stats = null;
let series = null;
let turn = 0;
let timer = 0;
let asking = false;

// ---- asking --------------------------------------------------------------------------------------

async function poll() {
  clearTimeout(timer);
  try {
    await look(turn % SERIES_EVERY === 0);
    turn += 1;
    back();
  } catch (problem) {
    if (problem.status === 401 && !asking) await key();
    else away(problem);
  }
  if (!document.hidden) timer = setTimeout(poll, STATS_MS);
}

async function look(all) {
  const get = (path) => getJson(path, AbortSignal.timeout(WAIT_MS));
  const { window } = shown;
  const [now, alerts] = await Promise.all([get(`freehold/stats?window=${window}`), get("freehold/alerts")]);
  const since = now.at_unix_s - now.window_s;
  const over = all ? await Promise.all([get(`freehold/series?window=${window}&points=120`), slowest(get, since)]) : null;
  if (window !== shown.window) return; // another was chosen meanwhile
  stats = now;
  drawNow(alerts.data ?? []);
  if (!over) return;
  [series] = over;
  drawSeries();
  put("slowest", slowestView(over[1]));
}

/** Null: this server keeps no history. */
async function slowest(get, since) {
  try {
    return (await get(`freehold/requests?since=${since}&slowest=${SLOWEST}`)).data ?? [];
  } catch (problem) {
    if (problem.status === 404) return null;
    throw problem;
  }
}

async function key() {
  asking = true;
  const given = await askKey(apiKey() !== "");
  asking = false;
  if (given) turn = 0;
  else away({ message: "This server asks for an API key.", next: "Reload the page to enter one." });
}

function back() {
  $("away").hidden = true;
  $("main").classList.remove("stale");
}

/** What was drawn stays, and says that it is old. */
function away(problem) {
  turn = 0;
  const text = [problem.message, problem.next].filter(Boolean).join(" ");
  if ($("away").textContent !== text) $("away").textContent = text;
  $("away").hidden = false;
  $("main").classList.toggle("stale", stats !== null);
}

const again = () => { turn = 0; return poll(); };

// ---- drawing -------------------------------------------------------------------------------------

function drawNow(alerts) {
  drawVariants(Object.keys(stats.variants ?? {}));
  put("objectives", objectivesView(stats));
  const firing = alertsView(alerts);
  put("alerts", firing);
  $("alerts").hidden = !firing.length;
  put("tiles", tilesView(stats, shown.variant));
  put("workers", workersView(stats.workers ?? [], again));
  put("phases", phasesView(stats.load_phases));
  drawRollout(stats.rollout ?? null);
}

function drawVariants(names) {
  const busiest = names.toSorted((a, b) => total(b) - total(a));
  if (!names.includes(shown.variant)) shown.variant = busiest[0] ?? "";
  $("variant-picker").hidden = names.length < 2;
  if ([...$("variant").options].map((option) => option.value).join("\n") !== names.join("\n")) {
    $("variant").replaceChildren(...names.map((name) => new Option(name, name)));
  }
  $("variant").value = shown.variant;
}

const total = (name) => Object.values(stats.variants[name].counts).reduce((sum, count) => sum + count, 0);

function drawSeries() {
  const times = series.begin_unix_s;
  const one = series.variants?.[shown.variant] ?? {};
  const metric = one[`${shown.metric}_ms`] ?? { p50: [], p95: [], p99: [] };
  const limit = (stats.slo ?? []).find((each) => each.limit_ms && each.text.includes(` ${shown.metric} `));
  plots.latency.show({ times, limit: limit ? { name: limit.text, value: limit.limit_ms } : null, lines: [
    { name: "p50", tone: "a", values: metric.p50 }, { name: "p95", tone: "b", values: metric.p95 }, { name: "p99", tone: "c", values: metric.p99 }] });
  plots.queue.show({ times, limit: stats.queue?.batch_limit ? { name: "batch", value: stats.queue.batch_limit } : null, lines: [
    { name: "waiting", tone: "c", values: series.queue_depth }, { name: "running", tone: "b", values: series.running }] });
  plots.tokens.show({ times, lines: [{ name: "tokens/s", tone: "b", values: series.tokens_per_s }] });
  plots.requests.show({ times, lines: [
    { name: "ended", tone: "b", values: series.requests_per_s }, { name: "failed", tone: "c", values: series.failed_per_s }, { name: "refused", tone: "d", values: series.refused_per_s }] });
  plots.cost.show({ times, empty: stats.cost?.usd == null ? "Set observe.price_per_hour_usd to see it." : undefined, lines: [{ name: "each", tone: "b", values: series.cost_per_successful_request_usd }] });
}

/** New content, with the focus where it was. */
function put(id, content) {
  const focused = document.activeElement?.dataset?.key;
  $(id).replaceChildren(...content);
  if (focused) $(id).querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

// ---- wiring --------------------------------------------------------------------------------------

function remember() {
  history.replaceState(null, "", `#${new URLSearchParams(shown)}`);
}

function choose(window) {
  shown.window = window;
  remember();
  drawWindows();
  again();
}

function drawWindows() {
  const buttons = Object.entries(WINDOWS).map(([name, text]) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.setAttribute("role", "radio");
    button.setAttribute("aria-checked", String(name === shown.window));
    button.tabIndex = name === shown.window ? 0 : -1;
    button.addEventListener("click", () => choose(name));
    return button;
  });
  const hadFocus = $("windows").contains(document.activeElement);
  $("windows").replaceChildren(...buttons);
  if (hadFocus) $("windows").querySelector('[aria-checked="true"]').focus();
}

$("windows").addEventListener("keydown", (event) => {
  const names = Object.keys(WINDOWS);
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  choose(names[(names.indexOf(shown.window) + step + names.length) % names.length]);
});

function drawTheme() {
  const dark = window.freeholdTheme.shown() === "dark";
  setIcon($("theme"), dark ? "sun" : "moon", dark ? "Light theme" : "Dark theme");
}

$("metric").replaceChildren(...Object.entries(METRICS).map(([value, text]) => new Option(text, value)));
$("metric").value = shown.metric;
$("metric").addEventListener("change", (event) => { shown.metric = event.target.value; remember(); if (series) drawSeries(); });
$("variant").addEventListener("change", (event) => { shown.variant = event.target.value; remember(); put("tiles", tilesView(stats, shown.variant)); if (series) drawSeries(); });
$("theme").addEventListener("click", () => window.freeholdTheme.choose(window.freeholdTheme.shown() === "dark" ? "light" : "dark"));
addEventListener("freehold:theme", drawTheme);
$("open-rollout").addEventListener("click", () => openRollout(again));
$("slowest-key").replaceChildren(...stageKey());
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : poll()));
drawWindows();
drawTheme();
poll();
