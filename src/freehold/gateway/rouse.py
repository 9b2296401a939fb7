"""Wakes the workers: once for all that was accepted in one turn of the event loop."""

from __future__ import annotations

import asyncio

from freehold.gateway.fleet import Fleet
from freehold.pipe import Wake


class Rouse:
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._due = False

    def __call__(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._now)

    def _now(self) -> None:
        self._due = False
        for line in self._fleet.lines.values():
            line.send(Wake())
