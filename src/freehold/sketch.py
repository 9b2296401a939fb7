"""Percentiles with a guaranteed error that can be merged: DDSketch.

A value x lies in bin ceil(log_gamma(x)) with gamma = (1 + a) / (1 - a), so that every value of a bin is within the
share a of the one told for it. Counts of bins add up, so the sketch of a whole is the sum of its parts' sketches,
whatever the parts are: workers, gateways, minutes. Source: Masson, Rim and Lee, DDSketch, VLDB 2019.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

ERROR = 0.01
"""Greatest relative error of a quantile."""
GAMMA = (1.0 + ERROR) / (1.0 - ERROR)
LEAST, MOST = 1e-6, 1e12
"""Values below `LEAST` count as zero, those above `MOST` as `MOST`: at most 2,073 bins, whatever comes."""

_PER_LOG = 1.0 / math.log(GAMMA)
_log, _ceil = math.log, math.ceil


class Told(msgspec.Struct, frozen=True, array_like=True):
    """A sketch at rest: bins sorted by number, each with its count."""

    zeros: int
    total: float
    least: float
    most: float
    numbers: list[int]
    counts: list[int]


class Sketch:
    """Add and ask; not for several threads at once."""

    __slots__ = ("bins", "count", "least", "most", "total", "zeros")

    def __init__(self) -> None:
        self.bins: dict[int, int] = {}
        self.zeros = 0
        self.count = 0
        self.total = 0.0
        self.least = math.inf
        self.most = -math.inf

    def add(self, value: float) -> None:
        """Count one value, 0 or more; a negative one (a clock that went back) counts as 0, NaN is the caller's bug."""
        if value > LEAST:
            number = _ceil(_log(value if value < MOST else MOST) * _PER_LOG)
            bins = self.bins
            bins[number] = bins.get(number, 0) + 1
        else:
            self.zeros += 1
            value = max(value, 0.0)
        self.count += 1
        self.total += value
        if value < self.least:
            self.least = value
        if value > self.most:
            self.most = value

    def add_all(self, values: Sequence[float]) -> None:
        """As `add` of each, at about two thirds of its price."""
        if not values:
            return
        if min(values) <= LEAST or max(values) >= MOST:
            for value in values:
                self.add(value)
            return
        bins = self.bins
        for number, count in Counter(map(_ceil, map(_PER_LOG.__mul__, map(_log, values)))).items():
            bins[number] = bins.get(number, 0) + count
        self.count += len(values)
        self.total += sum(values)
        self.least = min(self.least, min(values))
        self.most = max(self.most, max(values))

    def merge(self, other: Sketch) -> None:
        """As if all that was added to `other` had been added here."""
        bins = self.bins
        for number, count in other.bins.items():
            bins[number] = bins.get(number, 0) + count
        self.zeros += other.zeros
        self.count += other.count
        self.total += other.total
        self.least = min(self.least, other.least)
        self.most = max(self.most, other.most)

    def quantile(self, q: float) -> float | None:
        """The value of which the share `q` lies at or below, within `ERROR`; None of nothing. Of n sorted values it is
        number ceil(q n), at least the first."""
        if not self.count:
            return None
        rank = max(1, _ceil(q * self.count - 1e-9))
        seen = self.zeros
        if rank <= seen:
            return 0.0
        for number in sorted(self.bins):
            seen += self.bins[number]
            if rank <= seen:
                return min(max(2.0 * GAMMA**number / (GAMMA + 1.0), self.least), self.most)
        return self.most

    def above(self, limit: float) -> int:
        """How many values are over `limit`, give or take those within `ERROR` of it."""
        if limit <= LEAST:
            return self.count - self.zeros
        number = _ceil(_log(limit) * _PER_LOG)
        return sum(count for bin_, count in self.bins.items() if bin_ > number)

    @property
    def mean(self) -> float | None:
        return self.total / self.count if self.count else None

    # ---- at rest ----------------------------------------------------------------------------------

    def told(self) -> Told:
        numbers = sorted(self.bins)
        return Told(
            zeros=self.zeros, total=self.total, least=self.least, most=self.most,
            numbers=numbers, counts=[self.bins[number] for number in numbers],
        )  # fmt: skip


def of(told: Told) -> Sketch:
    """The sketch that `told` was."""
    found = Sketch()
    found.bins = dict(zip(told.numbers, told.counts, strict=True))
    found.zeros, found.total, found.least, found.most = told.zeros, told.total, told.least, told.most
    found.count = told.zeros + sum(told.counts)
    return found


def together(parts: Iterable[Sketch]) -> Sketch:
    """The sketch of all parts."""
    whole = Sketch()
    for part in parts:
        whole.merge(part)
    return whole
