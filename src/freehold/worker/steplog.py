"""The last steps of an engine: what each did, how long it took, and how long the engine then stood still.

The gap (end of one step to the start of the next) is the price of everything that isn't inference. A fixed
ring, so that a worker that runs for months holds as much as one that has just started. `freehold workers --steps`
reads it.
"""

from __future__ import annotations

from collections import deque

from freehold.core import StepRecord
from freehold.engine.base import Step

KEPT = 4096


class StepLog:
    """The newest `kept` steps, and totals since the start."""

    def __init__(self, kept: int = KEPT) -> None:
        self.records: deque[StepRecord] = deque(maxlen=kept)
        self.steps = 0
        self.tokens = 0
        self._last_end_s: float | None = None

    def add(self, step: Step, start_s: float, end_s: float) -> None:
        tokens = 0
        for chunk in step.chunks:
            tokens += chunk.tokens
        gap_ms = None if self._last_end_s is None else (start_s - self._last_end_s) * 1000.0
        record = StepRecord(
            step.prefill_tokens, step.running, step.context_tokens, tokens, (end_s - start_s) * 1000.0, gap_ms
        )
        self.records.append(record)
        self.steps += 1
        self.tokens += tokens
        self._last_end_s = end_s

    def last(self, count: int) -> list[StepRecord]:
        """The newest `count` that are kept, oldest first."""
        return list(self.records)[-count:] if count > 0 else []

    def pause(self) -> None:
        """Nothing runs: the time until the next step is no gap."""
        self._last_end_s = None
