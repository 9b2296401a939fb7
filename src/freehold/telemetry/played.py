"""A load run as slots, so that alert rules can be tried on it: what its server would have told, as far as a client saw.

Latencies count from the intended send time here. How much waited comes from the queue times that a server tells; steps,
memory and cost can't be seen from outside. Pure.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from freehold.sample import Sample
from freehold.sketch import Sketch
from freehold.slo import Objective, e2e_ms, judge, tpot_ms, ttft_ms
from freehold.telemetry.row import MISSES
from freehold.telemetry.slot import SLOT_S, Metric, Part, Slot

REFUSED = min(MISSES)
"""A client sees a 429 or 503, not always the code behind it."""


class _Open:
    """One slot while it is being filled."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = defaultdict(int)
        self.tokens: dict[str, int] = defaultdict(int)
        self.sketches: dict[Metric, Sketch] = {}

    def add(self, sample: Sample, objectives: Sequence[Objective]) -> None:
        outcome = {"timeout": "failed", "unsent": ""}.get(sample.outcome, sample.outcome)
        if not outcome:
            return
        self.counts[outcome] += 1
        self.tokens["prompt"] += sample.input_tokens
        self.tokens["cached"] += sample.cached_tokens
        self.tokens["completion"] += sample.output_tokens
        if outcome != "ok":
            return
        self.counts["good"] += not any(judge(each, sample).misses for each in objectives)
        self.tokens["useful"] += sample.output_tokens
        self._measure("e2e", e2e_ms(sample))
        self._measure("ttft", ttft_ms(sample))
        self._measure("tpot", tpot_ms(sample))
        self._measure("queue", sample.queue_ms)
        for gap_ms in sample.gaps_ms:
            self._measure("itl", gap_ms)

    def _measure(self, metric: Metric, value_ms: float | None) -> None:
        if value_ms is not None:
            self.sketches.setdefault(metric, Sketch()).add(value_ms)

    def part(self) -> Part:
        return Part(
            ok=self.counts["ok"], failed=self.counts["failed"], cancelled=self.counts["cancelled"],
            refused={REFUSED: self.counts["refused"]} if self.counts["refused"] else {}, good=self.counts["good"],
            prompt_tokens=self.tokens["prompt"], cached_tokens=self.tokens["cached"],
            completion_tokens=self.tokens["completion"], useful_tokens=self.tokens["useful"],
            sketches={metric: sketch.told() for metric, sketch in self.sketches.items()},
        )  # fmt: skip


def slots_of(
    samples: Iterable[Sample], variant: str, begin_unix_s: float = 0.0, *, objectives: Sequence[Objective] = (),
    batch_limit: int = 0, slot_s: float = SLOT_S,
) -> Iterator[Slot]:  # fmt: skip
    """In order, from the first that ended to the last, none left out. `samples` in any order."""
    opened: dict[int, _Open] = defaultdict(_Open)
    waits: list[tuple[float, int]] = []
    runs: list[tuple[float, int]] = []
    for sample in samples:
        opened[math.floor(sample.end_s / slot_s)].add(sample, objectives)
        if sample.queue_ms is not None:
            claimed_s = sample.sent_s + sample.queue_ms / 1000.0
            waits += ((sample.sent_s, 1), (claimed_s, -1))
            runs += ((claimed_s, 1), (sample.end_s, -1))
    if not opened:
        return
    first, last = min(opened), max(opened)
    depths, running = _most(waits, first, last, slot_s), _most(runs, first, last, slot_s)
    for number in range(first, last + 1):
        parts = {variant: opened[number].part()} if number in opened else {}
        yield Slot(
            begin_unix_s=begin_unix_s + slot_s * number, seconds=slot_s, parts=parts, batch_limit=batch_limit,
            queue_depth=depths[number - first], running=running[number - first],
        )  # fmt: skip


def _most(changes: list[tuple[float, int]], first: int, last: int, slot_s: float) -> list[int]:
    """The greatest count in each slot, of what comes (+1) and goes (-1)."""
    most, now, place = [0] * (last - first + 1), 0, 0
    changes.sort()
    for number in range(first, last + 1):
        most[number - first] = now
        while place < len(changes) and changes[place][0] < slot_s * (number + 1):
            now += changes[place][1]
            most[number - first] = max(most[number - first], now)
            place += 1
    return most
