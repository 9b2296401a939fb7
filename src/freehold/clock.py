"""Time, in one place, so that tests can turn the hands: monotonic for durations, unix for records."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def monotonic_s(self) -> float: ...
    def unix_s(self) -> float: ...
    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own clocks."""

    monotonic_s = staticmethod(time.monotonic)
    unix_s = staticmethod(time.time)
    sleep = staticmethod(time.sleep)


class VirtualClock:
    """Moves only when told to, or by sleeping: an hour passes in microseconds."""

    def __init__(self, start_s: float = 0.0) -> None:
        self._now_s = start_s

    def monotonic_s(self) -> float:
        return self._now_s

    unix_s = monotonic_s

    def sleep(self, seconds: float) -> None:
        self._now_s += max(0.0, seconds)
