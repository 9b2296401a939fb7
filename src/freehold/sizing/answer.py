"""The search's answer in one record: the knee, what to plan with, why it breaks, and a row for each rate.

What the commands print and keep; whoever sizes a fleet divides by its lower bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from freehold.core import Record, Sample
from freehold.sizing.bracket import Rung
from freehold.sizing.capacity import Capacity
from freehold.sizing.cause import Cause, cause
from freehold.sizing.found import Found, Outcome
from freehold.sizing.knee import Search
from freehold.sizing.sequential import Standing, Verdict
from freehold.sizing.summary import Row, row
from freehold.stats import share_sequence

NEAR = 1.5
"""Trials up to so many times the knee tell why it breaks there; farther up everything breaks."""


class Judgement(Record, frozen=True):
    """One objective in one trial."""

    objective: str
    misses: float | None
    """Share; None before anything could be judged."""
    low: float
    high: float
    """Where that share lies at 95 %, however often one looked."""
    allowed: float
    effective: float
    """Independent requests the trial is worth for this."""
    verdict: Verdict


class Rate(Record, frozen=True):
    """One rate that was tried."""

    row: Row
    verdict: Verdict
    rising: bool
    """The backlog rose: no steady state, so its percentiles tell of the trial's length only."""
    late: bool
    warm_up_s: float
    judgements: tuple[Judgement, ...]


class Answer(Record, frozen=True):
    """Rates are requests/s. `high_per_s` is None where nothing bounds it."""

    outcome: Outcome
    knee_per_s: float
    low_per_s: float
    high_per_s: float | None
    confidence: float
    recommended_per_s: float
    headroom: float
    objectives: tuple[str, ...]
    binding: str
    cause: Cause
    seconds: float
    """Measuring time."""
    ladder: tuple[Rung, ...]
    rates: tuple[Rate, ...]


def answer(search: Search, found: Found, headroom: float = 0.2) -> Answer:
    """`headroom`: the share below the knee at which to run."""
    rates = tuple(_rate(search, i) for i in range(len(search.tried)))
    return Answer(
        outcome=found.outcome,
        knee_per_s=found.knee_per_s,
        low_per_s=found.low_per_s,
        high_per_s=found.high_per_s if math.isfinite(found.high_per_s) else None,
        confidence=found.confidence,
        recommended_per_s=(1 - headroom) * found.knee_per_s,
        headroom=headroom,
        objectives=tuple(str(objective) for objective in search.objectives),
        binding=str(found.binding),
        cause=_cause(search, found),
        seconds=found.seconds,
        ladder=found.ladder,
        rates=tuple(sorted(rates, key=lambda each: each.row.rate_per_s)),
    )


def capacity_of(told: Answer, samples: Sequence[Sample], source: str) -> Capacity:
    """The knee as the money and the sizing read it."""
    answered = [sample for sample in samples if sample.outcome == "ok"]
    asked = [sample for sample in samples if sample.outcome not in ("unsent", "cancelled")]
    count = max(1, len(answered))
    return Capacity(
        rate_per_s=told.knee_per_s,
        low=told.low_per_s,
        high=told.high_per_s if told.high_per_s is not None else told.knee_per_s,
        slo=", ".join(told.objectives),
        input_tokens=sum(sample.input_tokens for sample in answered) / count,
        output_tokens=sum(sample.output_tokens for sample in answered) / count,
        success_share=_success(told, asked, answered),
        source=source,
    )


def _success(told: Answer, asked: Sequence[Sample], answered: Sequence[Sample]) -> float:
    """Of the requests at rates that kept the SLO; of all, where none did."""
    kept = [rate.row for rate in told.rates if rate.verdict == "pass"]
    if kept:
        return 1.0 - sum(row.failed * row.requests for row in kept) / max(1, sum(row.requests for row in kept))
    return len(answered) / len(asked) if asked else 1.0


def _rate(search: Search, i: int) -> Rate:
    trial, view, tried = search.trials[i], search.views[i], search.tried[i]
    kept = [sample for sample in trial.samples if sample.intended_s >= view.warm_s]
    return Rate(
        row=row(trial.rate_per_s, trial.now_s - view.warm_s, kept, search.objectives),
        verdict=tried.verdict,
        rising=tried.rising,
        late=tried.late,
        warm_up_s=view.warm_s,
        judgements=tuple(_judgement(standing) for standing in tried.standings),
    )


def _judgement(standing: Standing) -> Judgement:
    known = not math.isnan(standing.share)
    low, high = share_sequence(standing.share * standing.effective if known else 0.0, standing.effective)
    return Judgement(
        objective=str(standing.objective),
        misses=standing.share if known else None,
        low=low,
        high=high,
        allowed=standing.objective.allowed,
        effective=standing.effective,
        verdict=standing.verdict,
    )


def _cause(search: Search, found: Found) -> Cause:
    """From the trials just above the knee, or whatever missed most; with one user alone, from that user's."""
    calm = search.ladder.samples[0]
    if not search.trials:
        return cause(found.binding, calm, calm)
    over = [t for t in search.trials if found.knee_per_s <= t.rate_per_s <= NEAR * found.knee_per_s]
    trials = over or [max(search.trials, key=lambda trial: trial.rate_per_s)]
    if any(tried.late for tried in search.tried) and found.outcome != "found":
        trials = [trial for trial, tried in zip(search.trials, search.tried, strict=True) if tried.late]
    return cause(found.binding, calm, [sample for trial in trials for sample in trial.samples])
