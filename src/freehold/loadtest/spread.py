"""How values are spread, in memory that doesn't grow: counts in buckets each 1 % wider than the last.

A quantile is within 0.5 % of the true one, and spreads add up exactly. Source: DDSketch (Masson, Rim and Lee, VLDB
2019), with numpy's counting instead of a store.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

GROWTH = 1.01
LEAST = 1e-4
BUCKETS = 2600
"""From 0.1 us to longer than a day, in milliseconds."""


class Spread:
    """Of values of 0 or more."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0.0
        self.most = 0.0
        self._counts = np.zeros(BUCKETS, dtype=np.int64)

    def add(self, values: npt.NDArray[np.float64]) -> None:
        if not values.size:
            return
        self.count += values.size
        self.sum += float(values.sum())
        self.most = max(self.most, float(values.max()))
        places = np.ceil(np.log(np.maximum(values, LEAST) / LEAST) / math.log(GROWTH)).astype(np.int64)
        self._counts += np.bincount(np.minimum(places, BUCKETS - 1), minlength=BUCKETS)

    def quantile(self, p: float) -> float:
        """NaN without values."""
        if not self.count:
            return float("nan")
        place = int(np.searchsorted(np.cumsum(self._counts), max(1, math.ceil(p * self.count))))
        middle = LEAST * GROWTH**place * 2 / (1 + GROWTH)
        return 0.0 if place == 0 else min(middle, self.most)
