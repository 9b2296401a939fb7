"""Answers that were told whole while the ledger was away: their ends are with their worker alone.

Should it die before the ledger is back, the gateway says how they ended. Else they would be made again, and might even
end otherwise than their reader was told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from freehold.gateway.fleet import Line
from freehold.gateway.inbox import Inbox
from freehold.ledger.group import AsyncLedger
from freehold.ledger.protocol import Progress


class Unrecorded:
    def __init__(self, ledger: AsyncLedger) -> None:
        self._ledger = ledger
        self._ends: dict[str, tuple[Line, int, Inbox]] = {}

    def note(self, line: Line, ids: Sequence[str], inboxes: Mapping[str, Inbox]) -> None:
        """`line` tells the ends of these, and can't record them now."""
        for id in ids:
            inbox = inboxes.get(id)
            if inbox is not None and inbox.workers.get(id) is line:
                self._ends[id] = line, inbox.attempts[id], inbox

    def of(self, line: Line) -> list[Progress]:
        """What is lost with that worker."""
        return [
            Progress(id, attempt, [chunk for chunk in inbox.chunks if chunk.id == id])
            for id, (teller, attempt, inbox) in self._ends.items()
            if teller is line
        ]

    async def look(self) -> None:
        """Forget those that have been recorded."""
        for id, (_, attempt, _) in list(self._ends.items()):
            told = await self._ledger.progress(id)
            if told is None or told.state == "done" or told.attempt > attempt:
                del self._ends[id]
