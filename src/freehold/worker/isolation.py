"""What keeps a process that answers one request from harming the others: its limits, set before a model is loaded.

Address space and processor time are the kernel's to enforce; it gives way to the gateway when the machine is busy, and
leaves no core file with a prompt in it.
"""

from __future__ import annotations

import os
import resource
import signal
from contextlib import suppress

from freehold.worker.presence import Presence

NICE = 5
GRACE_S = 5
"""Native code that doesn't return in this time after the limit is ended by the kernel."""


def isolate(presence: Presence, memory_limit_bytes: int, cpu_limit_s: float) -> None:
    """For the rest of this process. 0 is no limit. At the end of its processor time `presence.overspent` is set."""

    def overspent(number: int, frame: object) -> None:
        presence.overspent = True

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_limit_bytes:
        with suppress(ValueError):  # a hard limit that is lower already
            resource.setrlimit(resource.RLIMIT_AS, (memory_limit_bytes, memory_limit_bytes))
    if cpu_limit_s:
        signal.signal(signal.SIGXCPU, overspent)
        whole_s = max(1, round(cpu_limit_s))
        with suppress(ValueError):
            resource.setrlimit(resource.RLIMIT_CPU, (whole_s, whole_s + GRACE_S))
    os.nice(NICE)
