"""The slots that alerts look back on: the last hour whole, and of the days before it the few sums that a budget or a
baseline needs.

Sums are kept as running totals, so that those of any time are one subtraction, and what is old is made coarser by
leaving out totals between.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping
from math import ceil
from typing import NamedTuple

from freehold.core import CardPace
from freehold.sketch import Sketch, Told
from freehold.telemetry.row import MISSES
from freehold.telemetry.slot import SLOT_S, Metric, Part, Slot

WHOLE_S = 3600.0
GRAIN_SLOTS = 6
"""What is older than `WHOLE_S` is known to within so many slots."""
SUMS_S = 8 * 86_400.0
WIDEST = 10
"""A quantile of too few values looks back so many windows at most."""


class Sums(NamedTuple):
    """Of some time: requests that ended, those that missed the SLO, those that ended well, and the cost."""

    ended: int = 0
    missed: int = 0
    ok: int = 0
    cost_usd: float = 0.0

    def plus(self, other: Sums) -> Sums:
        ended, missed, ok, cost_usd = other
        return Sums(self.ended + ended, self.missed + missed, self.ok + ok, self.cost_usd + cost_usd)

    def less(self, other: Sums) -> Sums:
        ended, missed, ok, cost_usd = other
        return Sums(self.ended - ended, self.missed - missed, self.ok - ok, self.cost_usd - cost_usd)


class Past:
    """Fed slot by slot; asked for what lay in the last so many seconds before the end of the newest one."""

    def __init__(self, slot_s: float = SLOT_S) -> None:
        self.slot_s = slot_s
        self.slots: deque[Slot] = deque()
        self.paces: Mapping[str, CardPace] = {}
        """What the profiles say of a step, by variant; nothing of what has none."""
        self.batch_limit = 0
        """The last one known."""
        self._ends_s: list[float] = []
        self._totals: list[dict[str, Sums]] = []
        """By variant ("": all, with the cost), from the beginning to the end of the same place in `_ends_s`."""
        self._coarse = 0
        """So many of them are a grain apart."""
        self._base: dict[str, Sums] = {}
        """The total before the first."""

    @property
    def now_s(self) -> float:
        """End of the newest slot, in unix time."""
        return self.slots[-1].begin_unix_s + self.slots[-1].seconds if self.slots else 0.0

    @property
    def begin_s(self) -> float:
        """End of the oldest slot of which sums are known."""
        return self._ends_s[0] if self._ends_s else 0.0

    def add(self, slot: Slot) -> bool:
        """Whether it follows on the one before: no slot is missing, and the clock wasn't put back."""
        follows = not self.slots or (not slot.gaps and abs(slot.begin_unix_s - self.now_s) < self.slot_s / 2)
        while self.slots and self.slots[-1].begin_unix_s >= slot.begin_unix_s:
            self.slots.pop()  # the clock was put back: what it called later hasn't been
        self.slots.append(slot)
        while self.slots[0].begin_unix_s < slot.begin_unix_s - WHOLE_S:
            self.slots.popleft()
        self.batch_limit = slot.batch_limit or self.batch_limit
        self._sum(slot)
        return follows

    def last(self, window_s: float) -> Iterator[Slot]:
        """The slots of the last `window_s`, newest first; at least the newest."""
        begin_s = self._begin_s(window_s)
        for slot in reversed(self.slots):
            if slot.begin_unix_s < begin_s:
                return
            yield slot

    def variants(self, window_s: float) -> list[str]:
        return sorted({variant for slot in self.last(window_s) for variant in slot.parts})

    def sketch(self, variant: str, metric: Metric, window_s: float, least: int) -> Sketch:
        """Of the last `window_s`; with fewer values than `least`, of as many windows as it takes, up to `WIDEST`."""
        found, begin_s = Sketch(), self._begin_s(window_s)
        for slot in self.last(window_s * WIDEST):
            if slot.begin_unix_s < begin_s and found.count >= least:
                break
            told = slot.parts[variant].sketches.get(metric) if variant in slot.parts else None
            if told is not None:
                pour(told, found)
        return found

    def sums(self, variant: str, from_s: float, to_s: float) -> Sums:
        """Of the slots between these times, to within a grain for what is older than an hour; "" is all variants."""
        return self._total(variant, to_s).less(self._total(variant, from_s))

    def last_sums(self, variant: str, window_s: float) -> Sums:
        return self.sums(variant, self.now_s - window_s, self.now_s)

    def _begin_s(self, window_s: float) -> float:
        return self.now_s - max(window_s, self.slots[-1].seconds if self.slots else 0.0) - self.slot_s / 100

    def _total(self, variant: str, until_s: float) -> Sums:
        place = bisect_right(self._ends_s, until_s + self.slot_s / 100) - 1
        return (self._totals[place] if place >= 0 else self._base).get(variant, Sums())

    def _sum(self, slot: Slot) -> None:
        end_s, grain_s = slot.begin_unix_s + slot.seconds, GRAIN_SLOTS * self.slot_s
        while self._ends_s and self._ends_s[-1] >= end_s - self.slot_s / 100:
            self._ends_s.pop()
            self._totals.pop()
        before = self._totals[-1] if self._totals else {}
        fresh = {variant: _sums_of(part) for variant, part in slot.parts.items()}
        fresh[""] = Sums(cost_usd=slot.cost_usd or 0.0)
        for variant in slot.parts:
            fresh[""] = fresh[""].plus(fresh[variant])
        self._totals.append(before | {name: before.get(name, Sums()).plus(each) for name, each in fresh.items()})
        self._ends_s.append(end_s)
        self._coarse = min(self._coarse, len(self._ends_s) - 1)
        while self._ends_s[self._coarse] < end_s - WHOLE_S:
            here = self._coarse
            if ceil(self._ends_s[here] / grain_s) == ceil(self._ends_s[here + 1] / grain_s):
                del self._ends_s[here], self._totals[here]
            else:
                self._coarse += 1
        gone = bisect_right(self._ends_s, end_s - SUMS_S)
        if gone:
            self._base = self._totals[gone - 1]
        del self._ends_s[:gone], self._totals[:gone]
        self._coarse = max(0, self._coarse - gone)


def missed(part: Part) -> int:
    """Of what ended: all but those that ended well in time. One that its client gave up misses nothing."""
    return part.ok - part.good + part.failed + part.expired + turned_away(part)


def turned_away(part: Part) -> int:
    """Refused for the server's lack; what a client asked wrongly is its own matter."""
    return sum(count for code, count in part.refused.items() if code in MISSES)


def _sums_of(part: Part) -> Sums:
    bad = missed(part)
    return Sums(ended=part.good + bad, missed=bad, ok=part.ok)


def pour(told: Told, into: Sketch) -> None:
    """Merge a sketch at rest into one that isn't."""
    bins = into.bins
    for number, count in zip(told.numbers, told.counts, strict=True):
        bins[number] = bins.get(number, 0) + count
    into.zeros += told.zeros
    into.count += told.zeros + sum(told.counts)
    into.total += told.total
    into.least = min(into.least, told.least)
    into.most = max(into.most, told.most)
