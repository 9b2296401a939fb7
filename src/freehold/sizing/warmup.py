"""What of a trial may count: the warm-up is found and cut, and a backlog that rises forbids a verdict.

A trial begins with an empty server (too fast) and perhaps a cold one (too slow). Above capacity there is no steady
state at all, only a queue that grows: percentiles then say how long was measured, and nothing of the server.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from freehold.stats import t_cdf

Floats = NDArray[np.float64]

GROUP = 5
LATEST = 1 / 3
"""At most this part of a trial is warm-up; what has not settled by then is not cut but measured longer."""
POINTS = 96
WINDOWS = 8


def warm_from(values: Floats) -> int:
    """Index of the first value that counts; 0 where nothing shows that the beginning differs.

    Only a row on a certain slope is cut, by MSER-5 (White 1997): where the mean of the rest, over means of five, is
    most certain. Cutting always would favour quiet stretches over crowded ones, and make any server look better than
    it is. Logarithms are taken, so that one long wait isn't mistaken for the beginning; what isn't finite counts as
    the largest finite value.
    """
    groups = len(values) // GROUP
    finite = values[np.isfinite(values)]
    if groups < 6 or not len(finite):
        return 0
    seen = np.log(np.clip(values, max(finite.min(), 1e-6), max(finite.max(), 1e-6)))
    if settled(seen):
        return 0
    means = seen[: groups * GROUP].reshape(groups, GROUP).mean(axis=1)
    left = np.arange(groups, 0, -1)
    after = np.cumsum(means[::-1])[::-1]
    squares = np.cumsum((means**2)[::-1])[::-1]
    error = (squares - after**2 / left) / left**2
    return GROUP * int(np.argmin(error[: max(1, int(groups * LATEST))]))


def filled_from(waiting: Floats) -> int:
    """Index of the first moment at which the backlog is as large as it typically is: until then an empty server
    fills."""
    return int(np.argmax(waiting >= np.median(waiting))) if len(waiting) else 0


def settled(values: Floats, alpha: float = 0.01) -> bool:
    """Of eight stretches of `values`: do their means lie on no certain slope, and is the first like the others? Both
    are t-tests between stretches."""
    if len(values) < 2 * WINDOWS:
        return False
    parts = values[: len(values) // WINDOWS * WINDOWS].reshape(WINDOWS, -1).mean(axis=1)
    x = np.arange(WINDOWS) - (WINDOWS - 1) / 2
    slope = float((x * parts).sum() / (x**2).sum())
    rest = parts - parts.mean() - slope * x
    error = math.sqrt(float((rest**2).sum()) / (WINDOWS - 2) / float((x**2).sum()))
    others = parts[1:]
    off = abs(float(parts[0] - others.mean()))
    apart = float(others.std(ddof=1)) * math.sqrt(1 + 1 / len(others))
    return _likely(abs(slope), error, WINDOWS - 2, alpha) and _likely(off, apart, WINDOWS - 2, alpha)


def _likely(size: float, error: float, df: int, alpha: float) -> bool:
    """Would chance alone give a figure of this size?"""
    return size <= 1e-12 if error <= 1e-12 else 2 * (1 - t_cdf(size / error, df)) > alpha


def backlog(intended_s: Floats, end_s: Floats, until_s: float) -> tuple[Floats, Floats]:
    """(moments, requests wanted and not ended by then) at `POINTS` moments up to `until_s`. Infinite: not ended yet."""
    moments = np.linspace(0, until_s, POINTS + 1)[1:]
    begun = np.searchsorted(np.sort(intended_s), moments, side="right")
    return moments, (begun - np.searchsorted(np.sort(end_s), moments, side="right")).astype(float)


def rising(waiting: Floats, alpha: float = 0.05) -> bool:
    """Does the backlog rise, beyond what a queue does by chance?

    Tests the increments between the means of eight stretches for a mean over 0. For a backlog that wanders without a
    drift they are independent and the test is exact; for one that returns to its mean they cancel out and it is
    careful. The first stretch is left out: there the queue fills.
    """
    parts = waiting[: len(waiting) // WINDOWS * WINDOWS].reshape(WINDOWS, -1).mean(axis=1)[1:]
    steps = np.diff(parts)
    spread = float(steps.std(ddof=1))
    if parts[-1] < 4 or spread == 0:
        return bool(parts[-1] >= 4 and steps.mean() > 0)
    return t_cdf(float(steps.mean()) / (spread / math.sqrt(len(steps))), len(steps) - 1) > 1 - alpha
