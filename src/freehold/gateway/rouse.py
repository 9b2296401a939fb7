"""Wakes the workers: once for all that was accepted in one turn of the event loop. And the supervisor, where a model is
away that may have been asked for.
"""

from __future__ import annotations

import asyncio

from freehold.gateway.fleet import Fleet
from freehold.gateway.supervisor import Supervisor
from freehold.pipe import Wake


class Rouse:
    def __init__(self, fleet: Fleet, supervisor: Supervisor) -> None:
        self._fleet = fleet
        self._supervisor = supervisor
        self._due = False

    def __call__(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._now)

    def _now(self) -> None:
        self._due = False
        for line in self._fleet.lines.values():
            line.send(Wake())
        if self._supervisor.line is not None and self._fleet.offers.some_away():
            self._supervisor.line.send(Wake())
