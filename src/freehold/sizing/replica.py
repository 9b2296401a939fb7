"""One simulated instance between two events: its batch, its KV cache, and how long its steps last."""

from __future__ import annotations

import math
from collections import deque


def steps_within(x_ms: float, a_ms: float, b_ms: float) -> int:
    """The least whole k >= 1 whose steps, `a, a + b, a + 2 b, ...` ms long, together last at least `x_ms`."""
    if x_ms <= a_ms:
        return 1
    if b_ms <= 0.0:
        return math.ceil(x_ms / a_ms - 1e-9) if a_ms > 0 else 1
    linear = a_ms - b_ms / 2.0
    root = math.sqrt(linear * linear + 2.0 * b_ms * x_ms)
    k = 2.0 * x_ms / (linear + root) if linear > 0 else (root - linear) / b_ms  # the form that loses no digits
    return max(1, math.ceil(k - 1e-9))


class Replica:
    __slots__ = (
        "a_ms", "b_ms", "begun_s", "busy_s", "dues", "ends", "held", "joined", "kv", "places", "reading", "running",
        "steps", "stretch", "unread", "version",
    )  # fmt: skip

    def __init__(self, places: int) -> None:
        self.places = places
        self.running = 0
        """Answers claimed and not ended: held, reading or writing."""
        self.held: deque[int] = deque()
        """Claimed, but their prompt doesn't fit the KV cache yet."""
        self.reading: deque[int] = deque()
        self.unread: dict[int, int] = {}
        self.ends: list[tuple[int, int]] = []
        """(number of the step that writes its last token, request): a heap of the writers."""
        self.joined: dict[int, int] = {}
        """Writer -> the number of the step in which it wrote its first token (since it last read its prompt)."""
        self.dues: list[tuple[float, int]] = []
        """(deadline, request) of what was claimed, those that have ended included: a heap."""
        self.kv = 0
        self.steps = 0
        self.stretch = 0
        """Steps under way; 0 is idle."""
        self.begun_s = 0.0
        self.a_ms = self.b_ms = 0.0
        self.version = 0
        """Of the newest event put into the calendar for it; older ones are void."""
        self.busy_s = 0.0

    def lasts_s(self, steps: int) -> float:
        return (steps * self.a_ms + self.b_ms * steps * (steps - 1) / 2.0) / 1000.0
