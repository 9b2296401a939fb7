"""A Grafana dashboard: the SLO first, then percentiles against their limits, the queue, tokens, money and workers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from freehold.slo import Objective
from freehold.telemetry.monitoring.promql import quantile

RATE = "$__rate_interval"
WIDTH, HEIGHT = 8, 8
CHOSEN = '{variant=~"$variant"}'
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard(objectives: Sequence[Objective]) -> str:
    """The JSON that Grafana imports."""
    panels = [*_promised(objectives), *_latencies(objectives), *_load(), *_money_and_workers()]
    for number, panel in enumerate(panels):
        panel["id"] = number + 1
        panel["gridPos"] = {"x": WIDTH * (number % 3), "y": HEIGHT * (number // 3), "w": WIDTH, "h": HEIGHT}
    told = {
        "uid": "freehold",
        "title": "Freehold",
        "tags": ["freehold", "llm"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_datasource(), _variants()]},
        "panels": panels,
    }
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def _promised(objectives: Sequence[Objective]) -> list[dict[str, Any]]:
    kept = [("freehold_slo_kept_ratio", "{{objective}}")]
    limits = [1 - each.allowed for each in objectives]
    return [
        _panel("Share of requests that kept each objective", kept, "percentunit", min(limits, default=None)),
        _panel("Requests by outcome", [
            (f"sum by (outcome) (rate(freehold_request_outcomes_total{CHOSEN}[{RATE}]))", "{{outcome}}")
        ], "reqps"),
        _panel("Refusals and failures by code", [
            (f"sum by (code) (rate(freehold_refusals_total{CHOSEN}[{RATE}]))", "refused: {{code}}"),
            (f"sum by (code) (rate(freehold_failures_total{CHOSEN}[{RATE}]))", "failed: {{code}}"),
        ], "reqps"),
    ]  # fmt: skip


def _latencies(objectives: Sequence[Objective]) -> list[dict[str, Any]]:
    titles = {
        "e2e": "End to end", "ttft": "Time to first token", "itl": "Between tokens", "tpot": "Time per output token",
        "queue": "Queue", "step": "Engine step",
    }  # fmt: skip
    found = []
    for metric, title in titles.items():
        limit_s = min((each.limit_ms / 1000 for each in objectives if each.metric == metric), default=None)
        lines = [
            (quantile(q, metric, RATE).replace("_bucket", f"_bucket{CHOSEN}"), f"p{100 * q:g} {{{{variant}}}}")
            for q in (0.5, 0.95, 0.99)
        ]
        found.append(_panel(f"{title}: p50, p95, p99", lines, "s", limit_s))
    return found


def _load() -> list[dict[str, Any]]:
    return [
        _panel("Waiting and running", [("freehold_queue_depth", "waiting"), ("freehold_running", "running")], "short"),
        _panel("Waiting over the batch", [("freehold_queue_depth_per_batch", "times the batch")], "short", 10.0),
        _panel("Batch", [(f"freehold_batch_mean{CHOSEN}", "mean {{variant}}"),
                         (f"freehold_batch_limit{CHOSEN}", "limit {{variant}}")], "short"),
        _panel("Tokens a second", [(f"freehold_tokens_per_second{CHOSEN}", "{{variant}}")], "short"),
        _panel("Share of memory bandwidth used", [
            (f"freehold_memory_bandwidth_utilisation_ratio{CHOSEN}", "{{variant}}")
        ], "percentunit"),
        _panel("Answers against their usual length", [
            (f"freehold_answer_length_ratio{CHOSEN}", "{{variant}}"),
            (f"sum by (variant) (increase(freehold_looped_answers_total{CHOSEN}[{RATE}]))", "repeat themselves"),
        ], "short"),
    ]  # fmt: skip


def _money_and_workers() -> list[dict[str, Any]]:
    return [
        _panel("Cost of a successful request", [
            ("freehold_cost_per_successful_request_usd", "the last hour"),
        ], "currencyUSD"),
        _panel("Cost against its baseline", [("freehold_cost_drift_ratio", "times")], "short", 1.25),
        _panel("Saved against the API", [("freehold_saved_usd", "so far")], "currencyUSD"),
        _panel("Workers", [("freehold_workers", "{{state}}")], "short"),
        _panel("Restarts", [("increase(freehold_worker_restarts_total[1h])", "{{worker}}")], "short"),
        _panel("Memory and KV cache of workers", [
            ("freehold_worker_memory_bytes / freehold_worker_memory_limit_bytes", "memory {{worker}}"),
            ("freehold_kv_usage_ratio", "KV {{worker}}"),
        ], "percentunit", 0.87),
    ]  # fmt: skip


def _panel(title: str, lines: Sequence[tuple[str, str]], unit: str, limit: float | None = None) -> dict[str, Any]:
    """`limit` is drawn as a line."""
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if limit is not None:
        steps.append({"color": "red", "value": limit})
    custom = {"drawStyle": "line", "fillOpacity": 5, "thresholdsStyle": {"mode": "off" if limit is None else "line"}}
    return {
        "type": "timeseries",
        "title": title,
        "datasource": _SOURCE,
        "targets": [
            {"refId": chr(65 + number), "expr": expr, "legendFormat": legend, "datasource": _SOURCE}
            for number, (expr, legend) in enumerate(lines)
        ],
        "fieldConfig": {
            "defaults": {"unit": unit, "min": 0, "custom": custom, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}


def _variants() -> dict[str, Any]:
    query = "label_values(freehold_request_outcomes_total, variant)"
    return {
        "name": "variant", "type": "query", "datasource": _SOURCE, "label": "Model variant", "multi": True,
        "includeAll": True, "query": {"query": query, "refId": "variant"}, "definition": query, "refresh": 2,
    }  # fmt: skip
