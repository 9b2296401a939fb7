"""How often a worker's loop looks up from its steps."""

from __future__ import annotations

LOOK_EVERY_S = 1.0
"""A worker looks into the ledger this often even if nobody wakes it."""
CANCEL_EVERY_S = 0.1
"""Cancels arrive over the pipe; without one, the ledger tells within this time."""
EXPIRE_EVERY_S = 0.1
"""How often a claim also ends what waits past its deadline."""
SAVE_EVERY_S = 0.05
"""How often what was made goes into the ledger, of all answers together."""


class Every:
    """Due at once, and then when so many seconds have passed since it was due last."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next_s = 0.0

    def due(self, now_s: float) -> bool:
        if now_s < self._next_s:
            return False
        self._next_s = now_s + self._seconds
        return True
