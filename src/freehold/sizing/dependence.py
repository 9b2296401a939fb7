"""How much a row of dependent requests is worth: design effect, effective sample size, percentiles with an interval.

In a queue neighbours wait together, so a thousand requests may say no more than thirty. Nothing here assumes that
they are independent: spread is always taken between stretches of time, never between requests.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from freehold.core import Record
from freehold.stats import t_quantile

Floats = NDArray[np.float64]

BLOCKS = (40, 20, 10)
"""Stretches to cut a trial into, from many to few."""
ALIKE = 0.3
"""Neighbouring stretches that correlate more than this are too short."""
SECTIONS = ((20.0, 12), (10.0, 8), (0.0, 4))
"""(effective requests beyond the percentile, sections): with few, only wide sections see the whole of the
dependence."""

UPWARD = 1.5
"""With the fewest sections, the upper end is so much farther off: what a short row misses are the rare longest waits,
and without this nearly all that the interval failed to hold lay above it (M/M/1 at load 0.8 to 0.9)."""


class Interval(Record, frozen=True):
    """A figure and where it lies with the stated confidence; infinite where the data can't bound it."""

    value: float
    low: float
    high: float
    effective: float
    """How many independent requests the data are worth."""


def share_variance(misses: Floats, units: Floats, blocks: int) -> tuple[float, float]:
    """(variance of the share of misses, correlation of neighbouring blocks), from the ratio estimator over `blocks`
    stretches of equally many requests (Cochran 1977, 6.4)."""
    edges = np.linspace(0, len(misses), blocks + 1).astype(int)[:-1]
    missed, counted = np.add.reduceat(misses, edges), np.add.reduceat(units, edges)
    total = float(counted.sum())
    off = missed - missed.sum() / total * counted
    square = float((off**2).sum())
    alike = float((off[1:] * off[:-1]).sum()) / square if square else 0.0
    return square / total**2 * blocks / (blocks - 1), alike


def design_effect(misses: Floats, units: Floats) -> float:
    """By how much the share's variance exceeds that of independent requests, at least 1. Blocks are as short as they
    can be without being alike; data too few for blocks of ten count as wholly dependent within each of them."""
    total = float(units.sum())
    share = float(misses.sum()) / total if total else 0.0
    if not 0 < share < 1:
        return 1.0
    fair = share * (1 - share) / total
    worst = 1.0
    for blocks in BLOCKS:
        if len(misses) < 2 * blocks:
            continue
        variance, alike = share_variance(misses, units, blocks)
        worst = max(worst, variance / fair)
        if alike < ALIKE:
            break
    return worst


def tail_effect(values: Floats, share: float) -> float:
    """The design effect of being among the largest `share` of `values`, wherever that begins."""
    beyond = (values > np.quantile(values, 1 - share, method="higher")).astype(float)
    return design_effect(beyond, np.ones(len(values)))


def percentile(values: Floats, q: float, confidence: float = 0.95) -> Interval:
    """The q-quantile of `values` (in order of time, infinite for failures) with an interval that holds under
    dependence.

    Sectioning on the logarithm (Asmussen and Glynn 2007, III.5; Nakayama 2014): the quantile of the whole, the spread
    of the sections' quantiles about it, Student's t. A short row sees too few of the rare long waits, and its
    sections even fewer; what they lack beside the whole moves the centre up (the jackknife's correction). With under
    four requests beyond the percentile in a section there is no upper end.
    """
    n, beyond = len(values), 1 - q
    if n == 0:
        return Interval(value=math.nan, low=0.0, high=math.inf, effective=0.0)
    value = float(np.quantile(values, q, method="higher"))
    effective = n / tail_effect(values, max(beyond, 0.05))
    sections = next(count for least, count in SECTIONS if effective * beyond >= least)
    size = n // sections
    if size * min(beyond, 0.5) < 4 or not math.isfinite(value) or value <= 0:
        low = float(np.quantile(values, max(0.0, q - 3 * math.sqrt(q * beyond / max(effective, 1.0))), method="lower"))
        return Interval(value=value, low=low if math.isfinite(low) else value, high=math.inf, effective=effective)
    whole = math.log(value)
    parts = np.quantile(values[: size * sections].reshape(sections, size), q, axis=1, method="higher")
    if not (np.isfinite(parts).all() and (parts > 0).all()):
        return Interval(value=value, low=0.0, high=math.inf, effective=effective)
    parts = np.log(parts)
    centre = whole + max(0.0, whole - float(parts.mean())) / (sections - 1)
    error = math.sqrt(float(((parts - whole) ** 2).sum()) / (sections - 1) / sections)
    reach = t_quantile((1 + confidence) / 2, sections - 1) * error
    upward = UPWARD if sections == SECTIONS[-1][1] else 1.0
    low, high = min(value, math.exp(centre - reach)), max(value, math.exp(centre + upward * reach))
    return Interval(value=value, low=low, high=high, effective=effective)
