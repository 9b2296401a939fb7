"""What is added up of one variant: while a slot is open, over a window, and since the start: one noun for all three."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from freehold.sketch import Sketch, of
from freehold.telemetry.row import Row
from freehold.telemetry.slot import Metric, Part

COUNTS = (
    "ok", "failed", "cancelled", "expired", "good", "runaway", "looped", "prompt_tokens", "cached_tokens",
    "completion_tokens", "useful_tokens", "useful_prompt_tokens", "useful_cached_tokens",
    "steps", "step_tokens", "step_running", "step_s", "busy_s", "lone_tokens", "lone_s",
)  # fmt: skip


class Sums:
    """Mutable twin of `Part`; `part()` is what goes into a slot, `add` takes it up again."""

    def __init__(self) -> None:
        self.ok = self.failed = self.cancelled = self.expired = self.good = self.runaway = self.looped = 0
        self.prompt_tokens = self.cached_tokens = self.completion_tokens = self.useful_tokens = 0
        self.useful_prompt_tokens = self.useful_cached_tokens = 0
        self.steps = self.step_tokens = self.step_running = self.lone_tokens = 0
        self.step_s = self.busy_s = self.lone_s = 0.0
        self.bytes_read: float | None = None
        self.refused: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.sketches: dict[Metric, Sketch] = {}
        self.longer_answers: float | None = None
        self.rambling = False
        self.batch_limit = 0

    def sketch(self, metric: Metric) -> Sketch:
        """The one to add to."""
        found = self.sketches.get(metric)
        if found is None:
            found = self.sketches[metric] = Sketch()
        return found

    def count(self, row: Row) -> None:
        """A request has ended. Latencies are those of requests that were answered whole while somebody waited."""
        self.prompt_tokens += row.prompt_tokens
        self.cached_tokens += row.cached_tokens
        self.completion_tokens += row.completion_tokens
        self.runaway += row.runaway
        self.looped += row.looped
        if row.outcome == "refused":
            self.refused[row.code] += 1
            return
        setattr(self, row.outcome, getattr(self, row.outcome) + 1)
        if row.outcome != "ok":
            if row.outcome == "failed":
                self.failures[row.code] += 1
            return
        self.good += row.good
        self.useful_tokens += row.completion_tokens
        self.useful_prompt_tokens += row.prompt_tokens
        self.useful_cached_tokens += row.cached_tokens
        if row.background:
            return
        self.sketch("e2e").add(row.delivered_ms)
        if row.first_ms is not None:
            self.sketch("ttft").add(row.first_ms)
        if (tpot_ms := row.tpot_ms) is not None:
            self.sketch("tpot").add(tpot_ms)
        if (queue_ms := row.queue_ms) is not None:
            self.sketch("queue").add(queue_ms)

    def merge(self, other: Sums) -> None:
        """As if all that was counted there had been counted here; how things stand is as there."""
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if other.bytes_read is not None:
            self.bytes_read = (self.bytes_read or 0.0) + other.bytes_read
        self.refused.update(other.refused)
        self.failures.update(other.failures)
        for metric, sketch in other.sketches.items():
            self.sketch(metric).merge(sketch)
        if other.longer_answers is not None:
            self.longer_answers = other.longer_answers
        self.rambling = other.rambling
        self.batch_limit = other.batch_limit or self.batch_limit

    def add(self, part: Part) -> None:
        self.merge(sums_of(part))

    def part(self) -> Part:
        told = {name: getattr(self, name) for name in COUNTS}
        return Part(
            **told,
            refused=dict(self.refused),
            failures=dict(self.failures),
            sketches={metric: sketch.told() for metric, sketch in self.sketches.items() if sketch.count},
            longer_answers=self.longer_answers,
            rambling=self.rambling,
            bytes_read=self.bytes_read,
            batch_limit=self.batch_limit,
        )

    @property
    def empty(self) -> bool:
        """Nothing has happened."""
        counted = self.ok or self.failed or self.cancelled or self.expired or self.steps
        return not (counted or self.refused or any(sketch.count for sketch in self.sketches.values()))


def sums_of(part: Part) -> Sums:
    found = Sums()
    for name in COUNTS:
        setattr(found, name, getattr(part, name))
    found.refused, found.failures = Counter(part.refused), Counter(part.failures)
    found.sketches = {metric: of(told) for metric, told in part.sketches.items()}
    found.longer_answers, found.rambling = part.longer_answers, part.rambling
    found.bytes_read, found.batch_limit = part.bytes_read, part.batch_limit
    return found


def all_together(sums: Iterable[Sums]) -> Sums:
    """Of several variants; rambling if one is."""
    whole, rambling = Sums(), False
    for each in sums:
        whole.merge(each)
        rambling = rambling or each.rambling
    whole.rambling = rambling
    return whole
