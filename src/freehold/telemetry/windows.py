"""The last 10 s, minute, 5 minutes, hour and day, in bounded memory.

A window is a sum of slots. Each slot that closes is kept for the short windows, and merged into the minute and the ten
minutes it lies in; so a window begins up to one of its slots early: 5 minutes are told to within 10 s, an hour to
within a minute, a day to within ten. Time is monotonic here: a clock that is set changes no window.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence

import msgspec

from freehold.telemetry.slot import SLOT_S, Slot
from freehold.telemetry.sums import Sums

LEVELS = ((SLOT_S, 31), (60.0, 61), (600.0, 145))
"""(seconds of a slot, slots kept): 5 minutes, an hour, a day, each with one slot more for the open one."""
WINDOWS_S = {"10s": 10.0, "1m": 60.0, "5m": 300.0, "1h": 3600.0, "1d": 86_400.0}


_Span = tuple[float, float, int]


class Whole:
    """Several slots together."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.parts: dict[str, Sums] = {}
        self.queue_depth = 0
        """The most there was; so `running`."""
        self.running = 0
        self.workers_ready = 0
        """At the end."""
        self.restarts = 0
        self.deaths: Counter[str] = Counter()
        self.cost_usd: float | None = None
        self.api_usd: float | None = None

    def add(self, slot: Slot) -> None:
        self.seconds += slot.seconds
        for variant, part in slot.parts.items():
            self.part(variant).add(part)
        self.queue_depth = max(self.queue_depth, slot.queue_depth)
        self.running = max(self.running, slot.running)
        self.workers_ready = slot.workers.get("ready", 0) + slot.workers.get("busy", 0)
        self.restarts += slot.restarts
        self.deaths.update(slot.deaths)
        self.cost_usd = plus(self.cost_usd, slot.cost_usd)
        self.api_usd = plus(self.api_usd, slot.api_usd)

    def merge(self, other: Whole) -> None:
        self.seconds += other.seconds
        for variant, sums in other.parts.items():
            self.part(variant).merge(sums)
        self.queue_depth = max(self.queue_depth, other.queue_depth)
        self.running = max(self.running, other.running)
        self.workers_ready = other.workers_ready
        self.restarts += other.restarts
        self.deaths.update(other.deaths)
        self.cost_usd = plus(self.cost_usd, other.cost_usd)
        self.api_usd = plus(self.api_usd, other.api_usd)

    def part(self, variant: str) -> Sums:
        found = self.parts.get(variant)
        if found is None:
            found = self.parts[variant] = Sums()
        return found


class Windows:
    """Told every slot as it closes."""

    def __init__(self) -> None:
        self._levels: list[deque[tuple[float, Whole]]] = [deque(maxlen=kept) for _, kept in LEVELS]
        """(begin, what was closed into it), oldest first."""
        self._pasts: dict[float, tuple[_Span, Whole]] = {}
        """By window, what doesn't change any more: whoever looks every two seconds has little added up anew."""

    def add(self, slot: Slot, begin_s: float) -> None:
        """`begin_s`: when it began, on a monotonic clock."""
        for (level_s, _), wholes in zip(LEVELS, self._levels, strict=True):
            at_s = begin_s - begin_s % level_s
            if not wholes or wholes[-1][0] != at_s:
                wholes.append((at_s, Whole()))
            wholes[-1][1].add(slot)

    def follow(self, older: Windows) -> None:
        """What another saw, before this one began, belongs to these windows too."""
        self._pasts.clear()
        for mine, before in zip(self._levels, older._levels, strict=True):
            for at_s, whole in reversed(before):
                if len(mine) == mine.maxlen:
                    break
                if mine and mine[0][0] <= at_s:
                    whole.merge(mine[0][1])
                    mine[0] = (at_s, whole)
                else:
                    mine.appendleft((at_s, whole))

    def _past(self, window_s: float, wholes: Sequence[tuple[float, Whole]]) -> Whole:
        span = (wholes[0][0], wholes[-1][0], len(wholes)) if wholes else (0.0, 0.0, 0)
        known = self._pasts.get(window_s)
        if known is None or known[0] != span:
            past = Whole()
            for _, each in wholes:
                past.merge(each)
            known = self._pasts[window_s] = span, past
        return known[1]

    def coarse(self) -> list[tuple[float, Whole]]:
        """A day in slots of ten minutes, oldest first; not to be changed."""
        return list(self._levels[-1])

    def over(self, window_s: float, now_s: float, open: Whole | None = None) -> Whole:
        """The last `window_s` seconds, with the slot that is still `open`: a fresh one, the caller's."""
        fits = (i for i, (slot_s, kept) in enumerate(LEVELS) if window_s <= slot_s * (kept - 1))
        level = next(fits, len(LEVELS) - 1)
        slot_s = LEVELS[level][0]
        within = [each for each in self._levels[level] if each[0] + slot_s > now_s - window_s]
        whole = Whole()
        whole.merge(self._past(window_s, within[:-1]))
        for _, newest in within[-1:]:  # it may still grow
            whole.merge(newest)
        if open is not None:
            whole.merge(open)
        return whole


def plus(one: float | None, other: float | None) -> float | None:
    """Of what is known; None if nothing is."""
    return other if one is None else one if other is None else one + other


def joined(one: Slot, other: Slot) -> Slot:
    """Two gateways' slots of the same ten seconds; how things stood is as the later one tells."""
    parts = {}
    for variant in one.parts.keys() | other.parts.keys():
        sums = Sums()
        for slot in (one, other):
            if variant in slot.parts:
                sums.add(slot.parts[variant])
        parts[variant] = sums.part()
    return msgspec.structs.replace(
        other, parts=parts, seconds=max(one.seconds, other.seconds),
        queue_depth=max(one.queue_depth, other.queue_depth), restarts=max(one.restarts, other.restarts),
        deaths={name: max(one.deaths.get(name, 0), n) for name, n in (one.deaths | other.deaths).items()},
        load_failures=one.load_failures | other.load_failures, load_s=one.load_s | other.load_s,
        cost_usd=max(filter(None, (one.cost_usd, other.cost_usd)), default=None),
        api_usd=plus(one.api_usd, other.api_usd), gaps=min(one.gaps, other.gaps),
    )  # fmt: skip


def whole_of(slots: Iterable[Slot]) -> Whole:
    whole = Whole()
    for slot in slots:
        whole.add(slot)
    return whole
