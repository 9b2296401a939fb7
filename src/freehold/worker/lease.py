"""Keeps a worker's claims its own: a thread renews the lease, so that a long step doesn't lose it.

A stopped process renews nothing, nor does one that has not moved by the time its own heart said, as in a native call
that never returns: then the lease ends, and another worker goes on with the answers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from freehold import log
from freehold.clock import Clock, SystemClock
from freehold.errors import StoreError
from freehold.ledger.protocol import LEASE_S, Ledger
from freehold.worker.heart import Heart

RENEW_EVERY_S = LEASE_S / 4


class Lease:
    """`turned` is the loop's to call, often; the ledger is the thread's own."""

    def __init__(self, open: Callable[[], Ledger], owner: str, heart: Heart, clock: Clock | None = None) -> None:
        self._open = open
        self._owner = owner
        self._heart = heart
        self._clock: Clock = clock or SystemClock()
        self._holds = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(RENEW_EVERY_S)

    def turned(self, holds: bool) -> None:
        """The loop has come round; `holds`: it has claims."""
        self._holds = holds

    def due(self) -> bool:
        """Whether to renew now."""
        return self._holds and self._clock.monotonic_s() < self._heart.due_s

    def _keep(self) -> None:
        ledger: Ledger | None = None
        while not self._over.wait(RENEW_EVERY_S):
            if not self.due():
                continue
            try:
                ledger = ledger or self._open()
                ledger.renew(self._owner, LEASE_S)
            except StoreError as error:
                log.event("lease.failed", level="error", why=str(error))
        if ledger is not None:
            ledger.close()
