"""When a worker looks into the ledger for work, and what it finds there."""

from __future__ import annotations

from freehold.clock import Clock
from freehold.ledger.protocol import Claim, Ledger
from freehold.worker.presence import Presence
from freehold.worker.reach import AGAIN_S, Reach

LOOK_EVERY_S = 1.0
"""A worker looks into the ledger this often even if nobody wakes it."""
EXPIRE_EVERY_S = 0.1
"""How often a look also ends what waits past its deadline. A claim never takes such a one anyway."""


class Claims:
    """`waits`: somebody said that there is work, or there was more than could be taken."""

    def __init__(self, ledger: Ledger, model: str, presence: Presence, reach: Reach, clock: Clock) -> None:
        self.waits = True
        self._ledger = ledger
        self._model = model
        self._presence = presence
        self._reach = reach
        self._clock = clock
        self._next_look_s = 0.0
        self._next_expire_s = 0.0

    @property
    def next_look_in_s(self) -> float:
        return max(0.0, self._next_look_s - self._clock.monotonic_s())

    def due(self, room: int) -> bool:
        """Whether to look now, with room for so many answers."""
        if self._presence.draining:
            return False
        return self._clock.monotonic_s() >= self._next_look_s or (self.waits and room > 0)

    def look(self, room: int) -> tuple[list[Claim], list[str]]:
        """Claims, and the ids of requests whose deadline passed in the queue."""
        room = 1 if self._presence.once else room
        self._next_look_s = self._clock.monotonic_s() + (LOOK_EVERY_S if self._reach.good else AGAIN_S)
        self.waits = False
        overdue: list[str] = []
        claims: list[Claim] = []
        if not self._reach.good:
            return claims, overdue
        with self._reach.trying():
            overdue = self._expired()
            self._presence.heart.between()
            claims = self._ledger.claim(self._presence.owner, room, self._model, self._presence.lots)
        self.waits = bool(claims) or room < 1
        self._presence.claimed(len(claims), self._clock.monotonic_s())
        return claims, overdue

    def _expired(self) -> list[str]:
        if self._clock.monotonic_s() < self._next_expire_s:
            return []
        self._next_expire_s = self._clock.monotonic_s() + EXPIRE_EVERY_S
        return self._ledger.expire()
