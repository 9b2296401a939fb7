"""Lets a sending process run the moment it wakes, while it needs little of a processor.

The fair scheduler of Linux makes whoever wakes wait for the end of another's slice, some milliseconds on a full
machine; short slices or a better niceness changed nothing of that. So where the system allows it (root, or
CAP_SYS_NICE) the process asks for real time, and gives it back for good once it uses half of a core: it must never
starve the server.
"""

from __future__ import annotations

import os

LIMIT_SHARE = 0.5
OVER_S = 1.0
"""Measured over so long: a burst of new connections is no reason."""


class Urgency:
    def __init__(self) -> None:
        self.on = False
        self._cpu_s = 0.0
        self._at_s = 0.0

    def begin(self, cpu_s: float, now_s: float) -> None:
        self._cpu_s, self._at_s = cpu_s, now_s
        self.on = _schedule("SCHED_RR", 1)

    def check(self, cpu_s: float, now_s: float) -> None:
        """Now and then: is the process still one that needs little?"""
        if not self.on or now_s - self._at_s < OVER_S:
            return
        if cpu_s - self._cpu_s > LIMIT_SHARE * (now_s - self._at_s):
            self.on = not _schedule("SCHED_OTHER", 0)
        self._cpu_s, self._at_s = cpu_s, now_s


def _schedule(policy: str, priority: int) -> bool:
    """True if the system took it; False where it doesn't know it (macOS) or doesn't allow it."""
    try:
        os.sched_setscheduler(0, getattr(os, policy), os.sched_param(priority))
    except (AttributeError, OSError):
        return False
    return True
