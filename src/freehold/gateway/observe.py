"""What this gateway remembers of what it saw: rows of requests become slots of ten seconds, windows and history.

The end of each slot calls `on_slot`; what can't wait for it calls `on_event`.
Everything here runs in the event loop, once a request or once a second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from freehold.settings import ObserveConfig
from freehold.telemetry.slot import SLOT_S, Event, Slot

KEPT_SLOTS = int(3600 / SLOT_S)


class Observe:
    """`slots` are those of the last hour, oldest first; all before the open one."""

    def __init__(self, config: ObserveConfig) -> None:
        self.config = config
        self.slots: deque[Slot] = deque(maxlen=KEPT_SLOTS)
        self.on_slot: list[Callable[[Slot], None]] = []
        """Called with each slot that has ended."""
        self.on_event: list[Callable[[Event], None]] = []
        """Called at once."""
