"""Lets a sending process run the moment a request is due, while it needs little of a processor.

The fair scheduler of Linux makes whoever wakes wait for the end of another's slice, some milliseconds on a full
machine; short slices or a better niceness changed nothing of that. So where the system allows it (root, or
CAP_SYS_NICE) the process is in real time shortly before a request is due. Not all the time: woken for every single
token it would need half as much again. It gives real time up for good once it uses half of a core, for it must never
starve the server.
"""

from __future__ import annotations

import os

EARLY_S = 0.015
"""So long before a request is due: longer than the waits that were seen on a full machine."""
LIMIT_SHARE = 0.5
OVER_S = 1.0
"""Measured over so long: a burst of new connections is no reason."""


class Urgency:
    def __init__(self) -> None:
        self._allowed = False
        self._on = False
        self._cpu_s = 0.0
        self._at_s = 0.0

    def begin(self, cpu_s: float, now_s: float) -> None:
        self._cpu_s, self._at_s = cpu_s, now_s
        self._allowed = True

    def set(self, wanted: bool) -> None:
        """Be in real time, or be like any other."""
        if self._allowed and wanted != self._on:
            self._allowed = _schedule("SCHED_RR", 1) if wanted else _schedule("SCHED_OTHER", 0)
            self._on = wanted

    def check(self, cpu_s: float, now_s: float) -> None:
        """Now and then: is the process still one that needs little?"""
        if now_s - self._at_s < OVER_S:
            return
        if cpu_s - self._cpu_s > LIMIT_SHARE * (now_s - self._at_s):
            self.set(False)
            self._allowed = False
        self._cpu_s, self._at_s = cpu_s, now_s


def _schedule(policy: str, priority: int) -> bool:
    """True if the system took it; False where it doesn't know it (macOS) or doesn't allow it."""
    try:
        os.sched_setscheduler(0, getattr(os, policy), os.sched_param(priority))
    except (AttributeError, OSError):
        return False
    return True
