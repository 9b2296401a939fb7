"""Whether the ledger is within a worker's reach: once it fails, it is left alone for a moment, and the answers go on.

A ledger that is away may take seconds to say so, which every running answer would wait for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from freehold import log
from freehold.clock import Clock
from freehold.errors import StoreError
from freehold.worker.heart import Heart

AGAIN_S = 0.5


class Reach:
    """Ask it before a call that can be made later; wrap every call in `trying`."""

    def __init__(self, clock: Clock, heart: Heart) -> None:
        self._clock = clock
        self._heart = heart
        self._next_try_s = 0.0
        self._why = ""

    @property
    def good(self) -> bool:
        """The last call went well, or it is time to try again."""
        return not self._why or self._clock.monotonic_s() >= self._next_try_s

    @contextmanager
    def trying(self) -> Iterator[None]:
        """A `StoreError` within ends the block, is told once, and is forgotten when a call goes well."""
        self._heart.between()
        try:
            yield
        except StoreError as error:
            self._next_try_s = self._clock.monotonic_s() + AGAIN_S
            if str(error) != self._why:
                self._why = str(error)
                log.event("ledger.failed", level="error", why=self._why)
            return
        if self._why:
            self._why = ""
            log.event("ledger.back")
