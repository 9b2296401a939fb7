"""The last steps of an engine: what each did, how long it took, and how long the engine then stood still.

The gap (end of one step to the start of the next) is the price of everything that isn't inference. A fixed
ring, so that a worker that runs for months holds as much as one that has just started. `freehold workers --steps`
reads it. What the steps cost is also added up, for the gateway to hear of about once a second.
"""

from __future__ import annotations

from collections import deque

from freehold.core import ModelCard, StepRecord
from freehold.engine.base import Step
from freehold.pipe import StepSums
from freehold.sketch import Sketch

KEPT = 4096


class StepLog:
    """The newest `kept` steps, and totals since the start."""

    def __init__(self, kept: int = KEPT) -> None:
        self.records: deque[StepRecord] = deque(maxlen=kept)
        self.steps = 0
        self.tokens = 0
        self._last_end_s: float | None = None
        self._fresh = _Fresh()

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
        self._fresh.add(record)

    def fresh(self, card: ModelCard | None) -> StepSums | None:
        """The steps since the last call, added up; None where there were none."""
        fresh, self._fresh = self._fresh, _Fresh()
        return fresh.sums(card) if fresh.steps else None

    def last(self, count: int) -> list[StepRecord]:
        """The newest `count` that are kept, oldest first."""
        return list(self.records)[-count:] if count > 0 else []

    def pause(self) -> None:
        """Nothing runs: the time until the next step is no gap."""
        self._last_end_s = None


class _Fresh:
    """Steps that were not told yet."""

    __slots__ = ("context_tokens", "hidden", "lone_ms", "lone_tokens", "running", "step_ms", "steps", "tokens")

    def __init__(self) -> None:
        self.steps = self.tokens = self.running = self.context_tokens = self.lone_tokens = 0
        self.hidden = False
        """The engine doesn't say what one of them read."""
        self.lone_ms = 0.0
        self.step_ms = Sketch()

    def add(self, record: StepRecord) -> None:
        self.steps += 1
        self.tokens += record.tokens
        self.running += record.running
        self.step_ms.add(record.step_ms)
        if record.context_tokens is None:
            self.hidden = True
        else:
            self.context_tokens += record.context_tokens
        if record.running == 1 and record.prefill_tokens == 0:
            self.lone_tokens += record.tokens
            self.lone_ms += record.step_ms

    def sums(self, card: ModelCard | None) -> StepSums:
        """A step reads every weight once, and the cache of every sequence in it."""
        bytes_read = None
        if card is not None and card.weight_bytes and not self.hidden:
            bytes_read = float(self.steps * card.weight_bytes + self.context_tokens * card.kv_bytes_per_token)
        return StepSums(
            self.steps, self.tokens, self.running, self.lone_tokens, self.lone_ms / 1000.0, bytes_read,
            self.step_ms.told(),
        )  # fmt: skip
