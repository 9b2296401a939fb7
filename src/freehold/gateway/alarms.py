"""Deadlines of what waits: whoever's passes is told at once, though no worker looks into the queue just then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from freehold.core import Request

AFTER_DEADLINE_S = 0.002
"""A store calls a request overdue at its deadline, and a timer may ring a little early."""


class Alarms:
    """One for each waiting request that has a deadline; `ring` is called in the event loop."""

    def __init__(self, ring: Callable[[], object]) -> None:
        self._ring = ring
        self._set: dict[str, asyncio.TimerHandle] = {}

    def set(self, request: Request) -> None:
        if request.deadline_unix_s is not None:
            left_s = max(0.0, request.deadline_unix_s - time.time()) + AFTER_DEADLINE_S
            self._set[request.id] = asyncio.get_running_loop().call_later(left_s, self._ring)

    def clear(self, id: str) -> None:
        alarm = self._set.pop(id, None)
        if alarm is not None:
            alarm.cancel()
