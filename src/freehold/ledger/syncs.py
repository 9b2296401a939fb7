"""The disk's part of a group commit, in a thread of its own: the ledger's thread commits the next group meanwhile.

What waits meanwhile is covered by one sync, the newest commit's: it covers all that was committed before.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
Sync = Callable[[], None]


class Syncs(Generic[T]):
    """`done` is called in the thread with what was put together with a sync, and what the sync raised."""

    def __init__(self, done: Callable[[list[T], Exception | None], None]) -> None:
        self._done = done
        self._waiting: queue.SimpleQueue[tuple[list[T], Sync] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="ledger-sync", daemon=True)
        self._thread.start()

    def put(self, what: list[T], sync: Sync) -> None:
        self._waiting.put((what, sync))

    def close(self) -> None:
        """When this returns all is done that was put."""
        self._waiting.put(None)
        self._thread.join()

    def _serve(self) -> None:
        last = False
        while not last:
            what, sync, last = self._gather()
            if sync is None:
                return
            error: Exception | None = None
            try:
                sync()
            except Exception as raised:  # noqa: BLE001  whoever waits gets it
                error = raised
            self._done(what, error)

    def _gather(self) -> tuple[list[T], Sync | None, bool]:
        """Everything that waits, at least one; the newest sync; whether it is the end."""
        what: list[T] = []
        sync: Sync | None = None
        while (next := self._waiting.get()) is not None:
            what += next[0]
            sync = next[1]
            if self._waiting.empty():
                return what, sync, False
        return what, sync, True
