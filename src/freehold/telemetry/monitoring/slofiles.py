"""The SLO as Sloth and OpenSLO want it: the share of requests that kept every objective, over 30 days."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from freehold.slo import Objective
from freehold.telemetry.monitoring.promql import ended, missed_ratio
from freehold.telemetry.monitoring.yaml import dump

NOTE = "Written by `freehold export`."
SLOTH_WINDOW = "{{.window}}"


def allowed(objectives: Sequence[Objective]) -> float:
    """Share of requests that may miss any of them: at most the sum."""
    return min(0.999, sum(each.allowed for each in objectives))


def sloth(objectives: Sequence[Objective]) -> str:
    told = ", ".join(map(str, objectives))
    misses = f"sum({ended(SLOTH_WINDOW)} * ({missed_ratio(SLOTH_WINDOW)}))"
    one: dict[str, Any] = {
        "name": "requests",
        "objective": round(100 * (1 - allowed(objectives)), 6),
        "description": f"Requests keep {told}.",
        "sli": {"events": {"error_query": misses, "total_query": f"sum({ended(SLOTH_WINDOW)})"}},
        "alerting": {
            "name": "FreeholdBudget",
            "labels": {"service": "freehold"},
            "annotations": {"summary": f"Requests miss {told} too often."},
            "page_alert": {"labels": {"severity": "critical"}},
            "ticket_alert": {"labels": {"severity": "warning"}},
        },
    }
    return dump({"version": "prometheus/v1", "service": "freehold", "slos": [one]}, NOTE)


def openslo(objectives: Sequence[Objective]) -> str:
    told = ", ".join(map(str, objectives))
    good = "sum(freehold_good_requests_total)"
    total = 'sum(freehold_request_outcomes_total{outcome=~"ok|failed|expired|refused"})'
    spec: dict[str, Any] = {
        "description": f"Requests keep {told}.",
        "service": "freehold",
        "indicator": {
            "metadata": {"name": "freehold-good-requests"},
            "spec": {"ratioMetric": {"counter": True, "good": _from(good), "total": _from(total)}},
        },
        "timeWindow": [{"duration": "30d", "isRolling": True}],
        "budgetingMethod": "Occurrences",
        "objectives": [{"displayName": told, "target": round(1 - allowed(objectives), 9)}],
    }
    metadata = {"name": "freehold-requests", "displayName": "Freehold: requests that kept the SLO"}
    return dump({"apiVersion": "openslo/v1", "kind": "SLO", "metadata": metadata, "spec": spec}, NOTE)


def _from(query: str) -> dict[str, Any]:
    return {"metricSource": {"type": "Prometheus", "spec": {"query": query}}}
