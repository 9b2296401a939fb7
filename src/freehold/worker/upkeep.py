"""Housekeeping of the ledger's file beside the supervisor, so that neither gateway nor worker stops for it."""

from __future__ import annotations

import threading

from freehold import log
from freehold.errors import StoreError
from freehold.ledger.open import open_ledger

EVERY_S = 1.0
LEAVE_S = 5.0
"""The last to close the file empties and removes its log."""


class Upkeep:
    """A thread with its own connection: it may wait for a slow disk, the supervisor may not."""

    def __init__(self, store_path: str) -> None:
        self._store_path = store_path
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_up, name="upkeep", daemon=True)

    def __enter__(self) -> Upkeep:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(LEAVE_S)

    def _keep_up(self) -> None:
        try:
            ledger = open_ledger(self._store_path)
        except StoreError as error:
            log.event("upkeep.failed", level="error", why=str(error))
            return
        while not self._over.wait(EVERY_S):
            try:
                ledger.keep_up()
            except StoreError as error:  # a full disk, say: those who write will say so too
                log.event("upkeep.failed", level="error", why=str(error))
        ledger.close()
