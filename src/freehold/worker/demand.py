"""How much waits and runs of each model, read in the ledger: the one place where all that was accepted is, whichever
gateway took it, and whenever.
"""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from freehold import log
from freehold.core import Record
from freehold.errors import StoreError
from freehold.ledger.open import open_ledger
from freehold.ledger.protocol import Ledger

EVERY_S = 0.25
LEAVE_S = 5.0


class Queue(Record, frozen=True):
    """Of one model."""

    waiting: int = 0
    running: int = 0
    due_s: float = math.inf
    """On the monotonic clock: the deadline of the one that is next."""


class Demand:
    """A thread with its own connection, as `Upkeep`. `fileno()` is readable when `queues` has changed."""

    def __init__(self, store_path: str, models: Sequence[str]) -> None:
        self.queues: dict[str, Queue] = dict.fromkeys(models, Queue())
        """As last read; replaced whole."""
        self._store_path = store_path
        self._look = threading.Event()
        self._over = False
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._thread = threading.Thread(target=self._watch, name="demand", daemon=True)

    def __enter__(self) -> Demand:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._look.set()
        self._thread.join(LEAVE_S)
        self._reader.close()
        self._writer.close()

    def fileno(self) -> int:
        return self._reader.fileno()

    def look(self) -> None:
        """Something was accepted just now."""
        self._look.set()

    def heard(self) -> None:
        """Somebody looks at `queues`: not readable until they change again."""
        with suppress(BlockingIOError):
            self._reader.recv(512)

    def _watch(self) -> None:
        ledger: Ledger | None = None
        while not self._over:
            try:
                ledger = ledger or open_ledger(self._store_path)
                self._read(ledger)
            except StoreError as error:  # those who accept and claim say so too; what was read last stands
                log.event("demand.failed", level="error", why=str(error))
            self._look.wait(EVERY_S)
            self._look.clear()
        if ledger is not None:
            ledger.close()

    def _read(self, ledger: Ledger) -> None:
        offset_s = time.monotonic() - time.time()
        depths = {model: ledger.depth(model) for model in self.queues}
        queues = {
            model: Queue(waiting=depth.queued, running=depth.running, due_s=depth.next_due_unix_s + offset_s)
            for model, depth in depths.items()
        }
        if queues != self.queues:
            self.queues = queues
            with suppress(BlockingIOError):  # it is readable already
                self._writer.send(b"!")
