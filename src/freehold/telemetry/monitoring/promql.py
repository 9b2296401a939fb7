"""Alert rules in Prometheus' language: each metric of `measures` as an expression over what /metrics says.

A rate there is over scrapes, so a window under four scrapes of 15 s is widened. What /metrics doesn't say has no
expression: how steps compare with the profile, and the week's baseline of the cost, which is the server's own gauge.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from freehold.telemetry.row import MISSES
from freehold.telemetry.rules import Rule

LEAST_S = 60.0
HISTOGRAMS = {
    "ttft": "freehold_time_to_first_token_seconds",
    "itl": "freehold_inter_token_latency_seconds",
    "tpot": "freehold_time_per_output_token_seconds",
    "e2e": "freehold_request_latency_seconds",
    "queue": "freehold_queue_seconds",
    "step": "freehold_step_seconds",
}
_QUANTILE = re.compile(r"p([\d.]+)_(\w+)_ms")
_CODES = "|".join(sorted(MISSES))


def span(seconds: float) -> str:
    """`300` as `5m`."""
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def window(seconds: float) -> str:
    return span(max(LEAST_S, seconds))


def quantile(q: float, metric: str, over: str, labels: Mapping[str, str] | None = None) -> str:
    """Seconds, by variant."""
    series = f"{HISTOGRAMS[metric]}_bucket{_chosen(labels or {})}"
    return f"histogram_quantile({q:g}, sum by (le, variant) (rate({series}[{over}])))"


def ended(over: str, labels: Mapping[str, str] | None = None) -> str:
    """Requests that ended a second, by variant, but for those that their clients gave up or had asked wrongly."""
    good = _chosen({**(labels or {}), "outcome=~": "ok|failed|expired"})
    refused = _chosen({**(labels or {}), "code=~": _CODES})
    outcomes = f"sum by (variant) (rate(freehold_request_outcomes_total{good}[{over}]))"
    refusals = f"sum by (variant) (rate(freehold_refusals_total{refused}[{over}]))"
    return f"({outcomes} + ({refusals} or 0 * {outcomes}))"


def missed_ratio(over: str, labels: Mapping[str, str] | None = None) -> str:
    """Share of them that did not keep the SLO."""
    good = f"sum by (variant) (rate(freehold_good_requests_total{_chosen(labels or {})}[{over}]))"
    return f"1 - {good} / {ended(over, labels)}"


def recorded(over: str) -> str:
    """Name of the recording rule of `missed_ratio`."""
    return f"variant:freehold_slo_misses:ratio_rate{over}"


def expression(rule: Rule) -> str | None:
    """True while the rule's threshold is crossed; None for a metric that Prometheus isn't told."""
    if rule.metric == "burn_rate":
        return _burns(rule)
    if rule.metric == "silence_s":
        return 'up{job="freehold"} == 0 or absent(freehold_running)'
    if rule.metric in _RISES:
        return _rose(f"{_RISES[rule.metric]}{_chosen(rule.only)}", rule)
    sign = ">" if rule.above is not None else "<"
    match = _QUANTILE.fullmatch(rule.metric)
    if match is not None:
        said = quantile(float(match[1]) / 100, match[2], window(rule.window_s), rule.only)
        return f"{said} {sign} {rule.threshold / 1000:g}"
    if rule.metric not in _VALUES:
        return None
    return f"{_VALUES[rule.metric](window(rule.window_s), rule.only)} {sign} {rule.threshold:g}"


def _burns(rule: Rule) -> str:
    """Over the long window and over the short one, so that it is over soon after the fault."""
    limit = f"{rule.threshold * rule.allowed:g}"
    chosen = _chosen(rule.only)
    windows = (window(rule.window_s), window(rule.short_s or rule.window_s))
    return " and ".join(f"{recorded(each)}{chosen} > {limit}" for each in windows)


def _rose(series: str, rule: Rule) -> str:
    """A counter that has just appeared has risen too, though its first sample can't show it."""
    over = window(rule.window_s)
    limit = f"> {rule.threshold:g}"
    return f"increase({series}[{over}]) {limit} or ({series} unless {series} offset {over}) {limit}"


def _chosen(labels: Mapping[str, str]) -> str:
    """`{variant="a"}`; a name that ends in `=~` is a pattern's."""
    told = ", ".join(
        f'{name}{"" if name.endswith("=~") else "="}"{value.translate(_ESCAPES)}"' for name, value in labels.items()
    )
    return f"{{{told}}}" if told else ""


_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def _outcome_share(outcomes: str) -> Callable[[str, Mapping[str, str]], str]:
    def said(over: str, labels: Mapping[str, str]) -> str:
        some = _chosen({**labels, "outcome=~": outcomes})
        return f"sum by (variant) (rate(freehold_request_outcomes_total{some}[{over}])) / {ended(over, labels)}"

    return said


def _error_share(over: str, labels: Mapping[str, str]) -> str:
    some = _chosen({**labels, "outcome=~": "ok"})
    ok = f"sum by (variant) (rate(freehold_request_outcomes_total{some}[{over}]))"
    return f"1 - {ok} / {ended(over, labels)}"


def _refused_share(over: str, labels: Mapping[str, str]) -> str:
    some = _chosen({**labels, "code=~": _CODES})
    return f"sum by (variant) (rate(freehold_refusals_total{some}[{over}])) / {ended(over, labels)}"


def _stalled(over: str, labels: Mapping[str, str]) -> str:
    """1 while something waits or runs, and no step is made and nothing ends."""
    moved = f"sum(rate(freehold_steps_total[{over}])) + sum(rate(freehold_request_outcomes_total[{over}]))"
    there = f"min_over_time(freehold_queue_depth[{over}]) + min_over_time(freehold_running[{over}])"
    return f"(sum({there}) > bool 0) * (({moved} or vector(0)) == bool 0)"


def _gauge(name: str) -> Callable[[str, Mapping[str, str]], str]:
    return lambda over, labels: f"freehold_{name}{_chosen(labels)}"


_RISES = {
    "load_failures": "freehold_load_failures_total",
    "hung": "freehold_worker_hangs_total",
    "restarts": "freehold_worker_restarts_total",
    "runaways": "freehold_runaway_answers_total",
}
_VALUES: dict[str, Callable[[str, Mapping[str, str]], str]] = {
    "error_share": _error_share,
    "failed_share": _outcome_share("failed|expired"),
    "cancelled_share": _outcome_share("cancelled"),
    "refused_share": _refused_share,
    "looped_share": lambda over, labels: (
        f"sum by (variant) (rate(freehold_looped_answers_total{_chosen(labels)}[{over}])) / {ended(over, labels)}"
    ),
    "rambling": _gauge("rambling"),
    "cost_per_successful_request_usd": _gauge("cost_per_successful_request_usd"),
    "cost_ratio": _gauge("cost_drift_ratio"),
    "queue_depth": _gauge("queue_depth"),
    "queue_per_batch": _gauge("queue_depth_per_batch"),
    "workers_ready": lambda over, labels: 'sum(freehold_workers{state=~"ready|busy"})',
    "stalled": _stalled,
    "memory_share": lambda over, labels: (
        f"freehold_worker_memory_bytes{_chosen(labels)} / freehold_worker_memory_limit_bytes"
    ),
    "kv_usage": _gauge("kv_usage_ratio"),
}
