"""The ends of answers on their way into the ledger: none is forgotten when the ledger can't be written just then."""

from __future__ import annotations

from collections.abc import Sequence

from freehold import log
from freehold.errors import StoreError
from freehold.ledger.protocol import Ended, Ledger
from freehold.worker.job import Job
from freehold.worker.presence import Presence


class Ends:
    """`waiting` are those to be tried again."""

    def __init__(self, ledger: Ledger, presence: Presence) -> None:
        self.waiting: list[Ended] = []
        self._ledger = ledger
        self._presence = presence

    def record(self, jobs: Sequence[Job], now_s: float) -> None:
        """Tell the ledger. If it can't be written now, they are kept and tried again."""
        if not jobs:
            return
        ended = [job.ended(self._presence.name, now_s) for job in jobs]
        self._presence.ended([each.result for each in ended])
        try:
            recorded = self._ledger.finish_all(ended)
        except StoreError as error:
            log.event("ledger.failed", level="error", why=str(error))
            self.waiting += ended
            return
        for job, known in zip(jobs, recorded, strict=True):
            if not known:
                log.event("request.outdated", level="warning", id=job.id, attempt=job.attempt)

    def again(self) -> None:
        """Try those that wait. Raises `StoreError`."""
        if self.waiting:
            self._ledger.finish_all(self.waiting)
            self.waiting = []
