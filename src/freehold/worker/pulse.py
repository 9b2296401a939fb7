"""The sign of life of a process: one number in shared memory, the time by which it will have moved again.

The process writes it whenever it begins something; its supervisor reads it. No system call, no thread, no message:
a process that is stopped or hangs in native code just doesn't write, and its time passes. While it loads, and after
`hold`, there is no such time.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
import tempfile
import time
import weakref

_DUE = struct.Struct("d")
GATEWAY_S = 6.0
"""A gateway's loop turns at least this often."""
CONFIRM_S = 1.5
"""The time must have been over for this long of the watcher's own time: a machine that stood still hangs nobody."""


class Pulse:
    """Both ends: made of the file descriptor of a shared page, which a child inherits."""

    def __init__(self, fd: int) -> None:
        self._page = mmap.mmap(fd, mmap.PAGESIZE)

    def beat(self, within_s: float) -> None:
        """Alive now, and again within this time."""
        _DUE.pack_into(self._page, 0, time.monotonic() + within_s)

    def hold(self) -> None:
        """What comes now has no bound: loading."""
        _DUE.pack_into(self._page, 0, math.inf)

    @property
    def due_s(self) -> float:
        """On the monotonic clock, which all processes of a machine share."""
        due_s: float = _DUE.unpack_from(self._page, 0)[0]
        return due_s


class Watch:
    """The supervisor's end. `fd` is for the child to inherit."""

    def __init__(self) -> None:
        with tempfile.TemporaryFile() as file:
            file.truncate(mmap.PAGESIZE)
            self.fd = os.dup(file.fileno())
        self._closing = weakref.finalize(self, os.close, self.fd)
        self._pulse = Pulse(self.fd)
        self._late_since_s: float | None = None
        self.begin()

    def begin(self) -> None:
        """A new life starts, by loading."""
        self._pulse.hold()
        self._late_since_s = None

    def late_s(self, now_s: float) -> float:
        """For how long it should have moved, if this looks like a hang; else 0. Ask about once a second."""
        late_s = now_s - self._pulse.due_s
        if late_s <= 0:
            self._late_since_s = None
            return 0.0
        if self._late_since_s is None:
            self._late_since_s = now_s
        return late_s if now_s - self._late_since_s >= CONFIRM_S else 0.0

    def close(self) -> None:
        """Nobody will inherit it any more."""
        self._closing()
