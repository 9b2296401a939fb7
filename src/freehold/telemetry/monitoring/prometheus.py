"""Prometheus' rule file: percentiles and the share of misses recorded, and every alert rule that it can decide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from freehold.telemetry.monitoring.promql import HISTOGRAMS, expression, missed_ratio, quantile, recorded, span, window
from freehold.telemetry.monitoring.yaml import dump
from freehold.telemetry.rules import Rule

RECORDED = (0.5, 0.95, 0.99)
OVER = "5m"
HOURLY = ("cost_ratio",)
"""Gauges that look back an hour by themselves."""


def rules_file(rules: Sequence[Rule]) -> str:
    """The file's text, with what can't be said there in a comment."""
    alerts = [(rule, expression(rule)) for rule in rules]
    left_out = [rule.name for rule, said in alerts if said is None]
    heading = "Written by `freehold export`: the alert rules of this server. Scrape it as the job `freehold`."
    if left_out:
        heading += f"\nOnly Freehold itself can decide: {', '.join(left_out)}."
    groups = [
        {"name": "freehold-recording", "rules": _recording(rules)},
        {"name": "freehold-alerts", "rules": [_alert(rule, said) for rule, said in alerts if said is not None]},
    ]
    return dump({"groups": groups}, heading)


def _recording(rules: Sequence[Rule]) -> list[dict[str, Any]]:
    """Names are level:metric:operations, as Prometheus' own guide asks."""
    found = [
        {"record": f"variant:{name}:p{100 * q:g}_rate{OVER}", "expr": quantile(q, metric, OVER)}
        for metric, name in HISTOGRAMS.items()
        for q in RECORDED
    ]
    burns = [rule for rule in rules if rule.metric == "burn_rate"]
    windows = {window(each) for rule in burns for each in (rule.window_s, rule.short_s or rule.window_s)}
    return found + [{"record": recorded(over), "expr": missed_ratio(over)} for over in sorted(windows)]


def _alert(rule: Rule, said: str) -> dict[str, Any]:
    name = "Freehold" + "".join(part.capitalize() for part in rule.name.replace("_", "-").split("-"))
    told: dict[str, Any] = {"alert": name, "expr": said}
    if rule.for_s and rule.metric not in HOURLY:
        told["for"] = span(rule.for_s)
    if rule.clear_for_s >= 1:
        told["keep_firing_for"] = span(rule.clear_for_s)
    told["labels"] = {**rule.labels, "severity": rule.severity}
    told["annotations"] = {
        "summary": f"{rule.what or rule.name}: {{{{ $value }}}}",
        "description": rule.advice or f"{rule.metric} crossed {rule.threshold:g}.",
    }
    return told
