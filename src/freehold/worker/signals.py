"""SIGTERM and SIGINT as a count: the first asks to finish, the second insists. For the main thread.

The handlers only count and wake whoever waits on `fileno()`; what to do is decided in the loops.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from types import FrameType


class StopSignals:
    """Installed on creation. `insist` is called, inside the handler, at the second signal."""

    def __init__(self, insist: Callable[[], None] = lambda: os._exit(1)) -> None:
        self.count = 0
        self._also: list[int] = []
        self._watches_children = False
        self._insist = insist
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def watch_children(self) -> None:
        """A child's end wakes the waiter too."""
        self._watches_children = True
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def watch(self, *numbers: int) -> None:
        """These wake the waiter too; `took` says whether one came."""
        for number in numbers:
            signal.signal(number, lambda number, frame: self._also.append(number))

    def took(self, number: int) -> bool:
        """It came since the last call."""
        came = number in self._also
        self._also = [each for each in self._also if each != number]
        return came

    def fileno(self) -> int:
        return self._reader.fileno()

    def asked(self) -> bool:
        """Somebody wants this process to finish. Also empties the wake-up line, if anything can be in it."""
        if not self.count and not self._watches_children:
            return False
        try:
            while self._reader.recv(512):
                pass
        except BlockingIOError:
            pass
        return self.count > 0

    def close(self) -> None:
        """Back to the system's own handling."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        self._reader.close()
        self._writer.close()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 1:
            self._insist()
