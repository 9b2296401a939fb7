"""Sketches over the last 10 s, minute, 5 minutes, hour and day, in bounded memory.

A value goes into the open slot of ten seconds and nowhere else. A slot that closes is kept for the short windows, and
merged into the minute and the ten minutes it lies in. A window is a sum of slots, so it begins up to one of its slots
early: 5 minutes are told to within 10 s, an hour to within a minute, a day to within ten.
"""

from __future__ import annotations

from collections import deque

from freehold.clock import Clock, SystemClock
from freehold.sketch import Sketch

LEVELS = ((10.0, 31), (60.0, 61), (600.0, 145))
"""(seconds of a slot, slots kept): 5 minutes, an hour, a day, each with one slot more for the open one."""
WINDOWS_S = {"10s": 10.0, "1m": 60.0, "5m": 300.0, "1h": 3600.0, "1d": 86_400.0}


class Windows:
    """One metric of one variant."""

    __slots__ = ("_clock", "_ends_s", "_levels", "_open")

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock: Clock = clock or SystemClock()
        self._levels: list[deque[tuple[float, Sketch]]] = [deque(maxlen=kept) for _, kept in LEVELS]
        """(begin of the slot, what was closed into it), oldest first."""
        self._open = Sketch()
        self._ends_s = 0.0
        """When the open slot closes; 0 before the first value."""

    def add(self, value: float) -> None:
        now_s = self._clock.monotonic_s()
        if now_s >= self._ends_s:
            self._turn(now_s)
        self._open.add(value)

    def over(self, window_s: float) -> Sketch:
        """The sketch of the last `window_s` seconds: a fresh one, the caller's."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._ends_s:
            self._turn(now_s)
        level = next((i for i, (slot_s, kept) in enumerate(LEVELS) if window_s <= slot_s * (kept - 1)), len(LEVELS) - 1)
        slot_s = LEVELS[level][0]
        whole = Sketch()
        whole.merge(self._open)
        for begin_s, sketch in reversed(self._levels[level]):
            if begin_s + slot_s <= now_s - window_s:
                break
            whole.merge(sketch)
        return whole

    def _turn(self, now_s: float) -> None:
        """Close the open slot into all levels, and begin the one that `now_s` lies in."""
        slot_s = LEVELS[0][0]
        if self._open.count:
            begin_s = self._ends_s - slot_s
            for (level_s, _), slots in zip(LEVELS, self._levels, strict=True):
                at_s = begin_s - begin_s % level_s
                if slots and slots[-1][0] == at_s:
                    slots[-1][1].merge(self._open)
                else:
                    fresh = Sketch()
                    fresh.merge(self._open)
                    slots.append((at_s, fresh))
        self._open = Sketch()
        self._ends_s = now_s - now_s % slot_s + slot_s
