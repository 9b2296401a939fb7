"""What each rate was like: percentiles of every latency, throughput, goodput and failures, one row a trial.

Rows are made of samples and nothing else, so a folder of samples gives the same table again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from freehold.core import Record
from freehold.sample import Sample
from freehold.sizing.dependence import Interval, percentile
from freehold.slo import VALUES, Objective, judge

PERCENTILES = (0.5, 0.95, 0.99)


class Spread(Record, frozen=True):
    """One latency in ms: its percentiles, each with an interval that holds under dependence."""

    p50: Interval
    p95: Interval
    p99: Interval


class Row(Record, frozen=True):
    """One trial. Latencies are of answered requests, from the intended send time; failures are counted beside them."""

    rate_per_s: float
    seconds: float
    requests: int
    answered_per_s: float
    good_per_s: float
    """Answers that kept every objective (a gap too long spoils an answer), a second."""
    failed: float
    """Share of requests refused, failed or timed out."""
    late_p99_ms: float
    """How late the client sent."""
    output_tokens_per_s: float
    latencies: dict[str, Spread]
    """By metric: e2e, ttft, itl, tpot, queue; those that could be measured."""


def row(rate_per_s: float, seconds: float, samples: Sequence[Sample], objectives: Sequence[Objective]) -> Row:
    """The row of one trial; `samples` without its warm-up, `seconds` long."""
    asked = sorted((s for s in samples if s.outcome not in ("unsent", "cancelled")), key=lambda s: s.number)
    answered = [s for s in asked if s.outcome == "ok"]
    good = sum(all(judge(objective, s).misses == 0 for objective in objectives) for s in answered)
    late_ms = [1000 * (s.sent_s - s.intended_s) for s in asked]
    spell_s = max(seconds, 1e-9)
    return Row(
        rate_per_s=rate_per_s,
        seconds=seconds,
        requests=len(asked),
        answered_per_s=len(answered) / spell_s,
        good_per_s=good / spell_s,
        failed=1 - len(answered) / len(asked) if asked else 0.0,
        late_p99_ms=float(np.quantile(late_ms, 0.99)) if late_ms else 0.0,
        output_tokens_per_s=sum(s.output_tokens for s in answered) / spell_s,
        latencies={metric: spread for metric in (*VALUES, "itl") if (spread := _spread(metric, answered)) is not None},
    )


def _spread(metric: str, answered: Sequence[Sample]) -> Spread | None:
    if metric == "itl":
        values = [gap for sample in answered for gap in sample.gaps_ms]
    else:
        values = [value for sample in answered if (value := VALUES[metric](sample)) is not None]
    if not values:
        return None
    p50, p95, p99 = (percentile(np.array(values, float), q) for q in PERCENTILES)
    return Spread(p50=p50, p95=p95, p99=p99)
