"""The ends of answers on their way into the ledger: none is forgotten when the ledger can't be written just then."""

from __future__ import annotations

from collections.abc import Sequence

from freehold import log
from freehold.ledger.protocol import Ended, Ledger
from freehold.worker.job import Job
from freehold.worker.presence import Presence
from freehold.worker.reach import Reach


class Ends:
    """`waiting` are those to be tried again."""

    def __init__(self, ledger: Ledger, presence: Presence, reach: Reach) -> None:
        self.waiting: list[Ended] = []
        self._ledger = ledger
        self._presence = presence
        self._reach = reach

    def record(self, jobs: Sequence[Job], now_s: float) -> list[str]:
        """Tell the ledger. If it can't be written now, they are kept and tried again: the ids of those."""
        if not jobs:
            return []
        ended = [job.ended(self._presence.name, now_s) for job in jobs]
        self._presence.ended([each.result for each in ended])
        self.waiting += ended
        if self._reach.good:
            with self._reach.trying():
                self.again()
        return [end.id for end in ended if end in self.waiting]

    def again(self) -> None:
        """Record those that wait. Raises `StoreError`."""
        if not self.waiting:
            return
        self._presence.heart.between()
        recorded = self._ledger.finish_all(self.waiting)
        for end, known in zip(self.waiting, recorded, strict=True):
            if not known:
                log.event("request.outdated", level="warning", id=end.id, attempt=end.attempt)
        self.waiting = []
