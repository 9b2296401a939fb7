"""Who is next: one pure decision, used by every store and by whoever predicts a queue.

Priority class first, then the earliest deadline, then arrival. A store keeps the parts of `key` where it
can walk them in order (SQLite: an index); a test holds store and key to the same order. Fair shares among
tenants will stand between deadline and arrival.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from freehold.core import Request


class Key(NamedTuple):
    """Compares as requests are served: the smaller one first."""

    priority: int
    due_unix_s: float
    """Infinity without a deadline, so that any deadline goes first within its class."""
    arrival: int


def key(request: Request, arrival: int) -> Key:
    due = math.inf if request.deadline_unix_s is None else request.deadline_unix_s
    return Key(request.priority, due, arrival)


def overdue(request: Request, now_unix_s: float) -> bool:
    """Its deadline has passed: it must not be started any more."""
    return request.deadline_unix_s is not None and request.deadline_unix_s <= now_unix_s


def take(answers: Sequence[int], room: int) -> int:
    """How many of the queue's first requests fit into `room` places, each wanting `answers[i]` of them.

    The first is taken even if it is wider than the room, or it would wait for ever; nobody overtakes one
    that doesn't fit, or wide requests would starve.
    """
    if room < 1:
        return 0
    taken = used = 0
    for wanted in answers:
        if taken and used + wanted > room:
            break
        taken += 1
        used += wanted
        if used >= room:
            break
    return taken
