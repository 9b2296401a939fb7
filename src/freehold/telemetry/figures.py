"""The numbers that decide, computed from sums: here, for whoever is told them.

What can't be known is None, never a guess.
"""

from __future__ import annotations

from collections.abc import Sequence

from freehold.core import Record
from freehold.sketch import Sketch
from freehold.slo import Objective
from freehold.telemetry.row import MISSES
from freehold.telemetry.sums import Sums, all_together
from freehold.telemetry.windows import Whole

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
LEAST_LONE_TOKENS = 32
"""A single sequence's pace is known once it has made so many."""


class Batch(Record, frozen=True):
    """How much a batch gives. Rates count the time in steps alone."""

    mean: float | None = None
    """Sequences a step."""
    tokens_per_s_per_sequence: float | None = None
    efficiency: float | None = None
    """Of what as many lone sequences would give: 1 where a batch costs nothing."""


class Kept(Record, frozen=True):
    """How an objective stands."""

    text: str
    kept: bool | None
    """None: nothing tells."""
    value_ms: float | None
    """The percentile that the objective is about; None for an error rate."""
    limit_ms: float | None
    share_kept: float | None
    """Of the requests (of the gaps, for `itl`)."""


def percentiles(sketch: Sketch | None) -> dict[str, float | int | None]:
    """p50, p95, p99 in milliseconds, and how many they are of."""
    told: dict[str, float | int | None] = {
        name: None if sketch is None else _rounded(sketch.quantile(q)) for name, q in QUANTILES.items()
    }
    return told | {"count": 0 if sketch is None else sketch.count}


def batch(sums: Sums, lone_tokens_per_s: float | None) -> Batch:
    if not sums.steps or not sums.step_running:
        return Batch()
    mean = sums.step_running / sums.steps
    each = sums.step_tokens / (sums.step_s * mean) if sums.step_s else None
    efficiency = None if each is None or not lone_tokens_per_s else each / lone_tokens_per_s
    return Batch(mean=mean, tokens_per_s_per_sequence=each, efficiency=efficiency)


def lone_tokens_per_s(ever: Sums, lone_step_ms: float | None) -> float | None:
    """What one sequence alone gets: as measured here, else by the profile."""
    if ever.lone_tokens >= LEAST_LONE_TOKENS and ever.lone_s:
        return ever.lone_tokens / ever.lone_s
    return 1000.0 / lone_step_ms if lone_step_ms else None


def tokens_per_s(sums: Sums, seconds: float) -> float | None:
    """Given out by the steps; of answers that ended, where no step was told."""
    if not seconds:
        return None
    return (sums.step_tokens if sums.steps else sums.completion_tokens) / seconds


def mbu(sums: Sums, bandwidth_bytes_per_s: float | None) -> float | None:
    """Share of the memory bandwidth that its steps used while they ran."""
    if sums.bytes_read is None or not sums.busy_s or not bandwidth_bytes_per_s:
        return None
    return sums.bytes_read / sums.busy_s / bandwidth_bytes_per_s


def prefix_reuse(sums: Sums) -> float | None:
    """Share of the prompts' tokens that were found in the cache."""
    return sums.cached_tokens / sums.prompt_tokens if sums.prompt_tokens else None


def cost_share(sums: Sums, all_sums: Sums) -> float | None:
    """Of what the machine costs, this variant's part: by time in steps, else by tokens."""
    if all_sums.step_s:
        return sums.step_s / all_sums.step_s
    return sums.completion_tokens / all_sums.completion_tokens if all_sums.completion_tokens else None


def per_success_usd(cost_usd: float | None, successes: int) -> float | None:
    return cost_usd / successes if cost_usd is not None and successes else None


def misses(sums: Sums) -> int:
    """Requests that miss every objective: the server failed them, or had no room."""
    return sums.failed + sums.expired + sum(count for code, count in sums.refused.items() if code in MISSES)


def judged(objectives: Sequence[Objective], whole: Whole) -> list[Kept]:
    """How the objectives stand over a window, all variants together."""
    sums = all_together(whole.parts.values())
    return [_kept(each, sums) for each in objectives]


def _kept(objective: Objective, sums: Sums) -> Kept:
    failed = misses(sums)
    if objective.metric == "error":
        asked = sums.ok + failed
        share = 1.0 - failed / asked if asked else None
        kept = None if share is None else share >= 1.0 - objective.allowed
        return Kept(text=str(objective), kept=kept, value_ms=None, limit_ms=None, share_kept=share)
    sketch = sums.sketches.get(objective.metric)
    count = 0 if sketch is None else sketch.count
    if objective.metric == "itl":
        failed = 0  # a request that failed has no gaps to count
    value_ms = None if sketch is None else _rounded(sketch.quantile(1.0 - objective.allowed))
    over = failed + (sketch.above(objective.limit_ms) if sketch is not None else 0)
    share = 1.0 - over / (count + failed) if count + failed else None
    kept = None if share is None else share >= 1.0 - objective.allowed - 1e-12
    return Kept(text=str(objective), kept=kept, value_ms=value_ms, limit_ms=objective.limit_ms, share_kept=share)


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
