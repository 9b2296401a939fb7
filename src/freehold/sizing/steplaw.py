"""Fits a step law to what was seen: the steps a server logged, or what a client can tell of a server it can't see into.

The fit is non-negative least squares on relative errors, so that a step of 2 ms counts as much as one of 200. With four
figures at most, every set of those that may be above zero is tried: no iteration, no tolerance. Relative errors lean to
the quick steps, the more the steps scatter; so the whole is scaled to take as long as all that was seen, or a fleet
planned with it would be too small.
Source of the method: Lawson and Hanson, Solving Least Squares Problems (1974), chapter 23, by enumeration.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from freehold.core import Record, StepRecord
from freehold.errors import UsageError
from freehold.profile import StepLaw
from freehold.sample import Sample

Floats = NDArray[np.float64]
LEAST = 20
"""Fewer observations than this fit nothing."""
SLOWEST_SHARE = 0.02
"""Of the steps, the slowest are left out of the shape; they count in the time that all took."""


class Fit(Record, frozen=True):
    law: StepLaw
    error: float
    """Median of |fitted - seen| / seen."""
    seen: int
    """Observations that went in."""
    gap_ms: float = 0.0
    """Mean pause between busy steps, where the server tells."""


def fit_steps(steps: Sequence[StepRecord]) -> Fit:
    """From a step log (`GET /freehold/workers/NAME/steps`). Steps whose figures the engine hides count for nothing.
    Raises `UsageError` with fewer than `LEAST` of the others."""
    told = [s for s in steps if s.prefill_tokens is not None and s.context_tokens is not None and s.running > 0]
    if len(told) < LEAST:
        why = f"{len(steps)} were seen, and of {len(told)} the engine tells what they did."
        raise UsageError("Too few steps to fit a law to.", why, f"Put load on it: at least {LEAST} are needed.")
    columns = np.array([[1.0, s.prefill_tokens or 0, s.running, s.context_tokens or 0] for s in told])
    ms = np.array([s.step_ms for s in told])
    kept = ms <= np.quantile(ms, 1.0 - SLOWEST_SHARE)
    factors = np.array(non_negative(columns[kept], ms[kept]))
    factors *= _whole(columns @ factors, ms)
    base, prefill, sequence, context = factors.tolist()
    law = StepLaw(
        base_ms=base, prefill_ms_per_token=prefill, sequence_ms=sequence, context_ms_per_token=context
    )  # fmt: skip
    gaps = [s.gap_ms for s in told if s.gap_ms is not None]
    error = relative_error(columns[kept], ms[kept], factors)
    return Fit(law=law, error=error, seen=int(kept.sum()), gap_ms=float(np.mean(gaps)) if gaps else 0.0)


def fit_samples(samples: Sequence[Sample]) -> Fit:
    """From a client's view: the time between an answer's tokens is a step's, with as many sequences as answers were
    under way at its middle; what the first token took beyond one step and the queue read the prompt. The context's
    share can't be told apart from the client and stays in the others. Raises `UsageError` with too few answers."""
    told = [s for s in samples if s.outcome == "ok" and s.first_s is not None and s.output_tokens > 2]
    if len(told) < LEAST:
        why = f"{len(samples)} requests were seen; {len(told)} of them streamed more than two tokens."
        raise UsageError("Too few answers to fit a law to.", why, f"At least {LEAST} are needed.")
    firsts = np.array([s.first_s for s in told], dtype=float)
    ends = np.array([s.end_s for s in told])
    outputs = np.array([s.output_tokens for s in told])
    begun, ended = np.sort(firsts), np.sort(ends)
    middles = (firsts + ends) / 2.0
    running = np.searchsorted(begun, middles, "right") - np.searchsorted(ended, middles, "left")
    ms = (ends - firsts) * 1000.0 / (outputs - 1)
    columns = np.column_stack([np.ones(len(told)), np.maximum(1, running)])
    factors = np.array(non_negative(columns, ms))
    factors *= _whole(columns @ factors * (outputs - 1), ms * (outputs - 1))
    base, sequence = factors.tolist()
    waits = np.array([(s.first_s or 0.0) - s.sent_s for s in told]) * 1000.0
    waits -= np.array([s.queue_ms or 0.0 for s in told]) + columns @ factors
    prompts = np.array([max(1, s.input_tokens) for s in told])
    calm = running <= np.quantile(running, 0.25)
    prefill = max(0.0, float(np.median(waits[calm] / prompts[calm])))
    law = StepLaw(base_ms=base, sequence_ms=sequence, prefill_ms_per_token=prefill)
    return Fit(law=law, error=relative_error(columns, ms, factors), seen=len(told))


def fit_levels(levels: Sequence[tuple[int, float, float, float]]) -> Fit:
    """From batch sizes alone, where an engine hides its steps: (streams, ms of one token for each, ms until all had
    their first token, context tokens). The law is the measured points themselves; reading a prompt is what the first
    tokens took beyond a step, by the median."""
    points = tuple((streams, ms) for streams, ms, _, _ in levels)
    if len(points) > 1 and points[-1][1] < points[-2][1]:  # noise: a law's last slope must not fall
        points = (*points[:-1], (points[-1][0], points[-2][1]))
    prefill = [max(0.0, first - ms) / max(1.0, streams * context) for streams, ms, first, context in levels]
    law = StepLaw(batch_points=points, prefill_ms_per_token=float(np.median(prefill)))
    return Fit(law=law, error=0.0, seen=len(levels))


def non_negative(columns: Floats, values: Floats) -> list[float]:
    """The non-negative factors of `columns` with the least sum of squared relative errors."""
    weight = 1.0 / np.maximum(values, 1e-9)
    a, b = columns * weight[:, None], values * weight
    count = columns.shape[1]
    best, found = float("inf"), np.zeros(count)
    for size in range(1, count + 1):
        for chosen in combinations(range(count), size):
            part, *_ = np.linalg.lstsq(a[:, chosen], b, rcond=None)
            left = float(np.sum((a[:, chosen] @ part - b) ** 2))
            if (part >= 0).all() and left < best - 1e-12:
                best, found = left, np.zeros(count)
                found[list(chosen)] = part
    return [float(x) for x in found]


def _whole(fitted: Floats, seen: Floats) -> float:
    """What the fit must be multiplied by to take as long as all that was seen."""
    return float(seen.sum() / max(fitted.sum(), 1e-12))


def relative_error(columns: Floats, values: Floats, factors: Floats) -> float:
    return float(np.median(np.abs(columns @ factors - values) / np.maximum(values, 1e-9)))
