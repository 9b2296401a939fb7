"""How a server stands, for alert rules: its queue, its workers, whether anything moves. A reading for each worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from freehold.telemetry.past import Past, turned_away
from freehold.telemetry.rules import Rule
from freehold.telemetry.slot import Part, Slot


class Reading(NamedTuple):
    """The value of a metric for one set of labels, and the numbers behind it."""

    labels: dict[str, str]
    value: float
    numbers: dict[str, float] = {}
    why: str = ""
    """What was said of it, where words say more than the value."""


def ended(part: Part) -> int:
    return part.ok + part.failed + part.expired + part.cancelled + turned_away(part)


def queue_depth(past: Past, rule: Rule) -> Iterator[Reading]:
    yield Reading({}, max(slot.queue_depth for slot in past.last(rule.window_s)))


def queue_per_batch(past: Past, rule: Rule) -> Iterator[Reading]:
    """Against the last batch size known: with no worker left the queue is no shorter."""
    depth = max(slot.queue_depth for slot in past.last(rule.window_s))
    if past.batch_limit:
        numbers = {"queue_depth": float(depth), "batch_limit": float(past.batch_limit)}
        yield Reading({}, depth / past.batch_limit, numbers)


def workers_ready(past: Past, rule: Rule) -> Iterator[Reading]:
    yield Reading({}, max(_ready(slot) for slot in past.last(rule.window_s)))


def _ready(slot: Slot) -> int:
    return slot.workers.get("ready", 0) + slot.workers.get("busy", 0)


def stalled(past: Past, rule: Rule) -> Iterator[Reading]:
    """1: in every slot of the window something waited or ran, and nothing ended or moved."""
    slots = list(past.last(rule.window_s))
    stuck = all(
        (slot.queue_depth or slot.running) and not any(ended(part) or _moved(part) for part in slot.parts.values())
        for slot in slots
    )
    yield Reading({}, float(stuck), {"queue_depth": slots[0].queue_depth, "running": slots[0].running})


def _moved(part: Part) -> bool:
    """Tokens were given out, or a prompt was read; an engine that hides its steps turns without doing either."""
    return part.step_tokens > 0 or (part.steps > 0 and part.bytes_read is not None)


def silence(past: Past, rule: Rule) -> Iterator[Reading]:
    yield Reading({}, 0.0)


def by_worker(of: Callable[[Slot], Mapping[str, float]]) -> Callable[[Past, Rule], Iterator[Reading]]:
    """The sum over the window."""

    def read(past: Past, rule: Rule) -> Iterator[Reading]:
        found: dict[str, float] = {}
        for slot in past.last(rule.window_s):
            for worker, count in of(slot).items():
                found[worker] = found.get(worker, 0.0) + count
        for worker in sorted(found):
            yield Reading({"worker": worker}, found[worker])

    return read


def greatest(of: Callable[[Slot], Mapping[str, float]]) -> Callable[[Past, Rule], Iterator[Reading]]:
    def read(past: Past, rule: Rule) -> Iterator[Reading]:
        found: dict[str, float] = {}
        for slot in past.last(rule.window_s):
            for worker, value in of(slot).items():
                found[worker] = max(found.get(worker, 0.0), value)
        for worker in sorted(found):
            yield Reading({"worker": worker}, found[worker])

    return read


def load_failures(past: Past, rule: Rule) -> Iterator[Reading]:
    found: dict[str, tuple[int, str]] = {}
    for slot in past.last(rule.window_s):
        for worker, why in slot.load_failures.items():
            count, newest = found.get(worker, (0, why))
            found[worker] = (count + 1, newest)
    for worker, (count, why) in sorted(found.items()):
        yield Reading({"worker": worker}, count, why=named(worker, why))


def named(worker: str, why: str) -> str:
    """Whose it was, unless that is said already."""
    return why if not why or why.startswith(worker) else f"{worker}: {why}"


def memory_share(slot: Slot) -> dict[str, float]:
    """By worker, of its limit; 0.9 is where it is replaced."""
    limits = slot.memory_limit_bytes
    return {worker: used / limits[worker] for worker, used in slot.memory_bytes.items() if limits.get(worker)}
