"""What a simulation is given and what it tells: the work as columns, the fleet, and what became of each request."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from freehold.core import Record
from freehold.profile import Profile

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WAITING, DONE, EXPIRED, REFUSED, CUT = range(5)
"""`Played.outcome`: EXPIRED never started, CUT was stopped by its deadline."""


class Work(Record, frozen=True):
    """A trace as columns, sorted by arrival. `due_s` (absolute) and `rank` are optional."""

    arrival_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    due_s: Floats | None = None
    rank: Floats | None = None
    """Who is next among those that wait: the smaller one; ties go by arrival."""


class Fleet(Record, frozen=True):
    """What plays it."""

    profile: Profile
    replicas: int
    slowness: float = 1.0
    """Every step takes this many times as long: how a law is fitted to what was measured live."""
    gap_ms: float = 0.0
    """Between the end of a step and the begin of the next."""
    overhead_ms: float = 0.0
    """What HTTP, queue and pipe add to each request before its first token."""
    max_batch: int = 0
    """0: the profile's sweet spot."""


class Played(Record, frozen=True):
    """What became of each request, in the order of the trace. Times are NaN where they never came."""

    claimed_s: Floats
    first_s: Floats
    end_s: Floats
    outcome: NDArray[np.int8]
    busy_s: Floats
    """Of each replica."""
    steps: int
    put_back: int
    """Answers that gave their room in the KV cache up and read their prompt again."""


Admit = Callable[[int, float, int, int], bool]
"""(number, now_s, waiting, running) -> whether the request is taken. Asked at its arrival."""
