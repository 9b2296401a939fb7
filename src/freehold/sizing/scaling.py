"""What more instances bring, and where the rest went: a closed loop with the same users for each, against one alone.

With u users an instance, n instances ideally answer n times as much, each request in the time that it takes on one. By
Little's law throughput is users over response time, so whatever is lost is what responses take longer, and that is cut
into parts: the client, the queue, the network, uneven batches (routing), and the same batch running slower (hardware
that the instances share). The last two are told apart by one instance's own step times at other batch sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from freehold.core import Record, StepRecord
from freehold.sample import Sample
from freehold.stats import t_quantile

BLOCKS = 10
"""Of time, whose counts tell how sure a throughput is."""
CONFIDENCE = 0.9
WORDS = {
    "client": "the client itself",
    "queue": "waiting for a place",
    "network": "network and HTTP",
    "routing": "uneven batches (routing)",
    "hardware": "hardware they share (memory bandwidth, cores)",
    "engine": "the engines, unevenly filled or slower (their steps aren't told)",
}


class Pace(Record, frozen=True):
    """One worker's steps during a level, as its server logged them; a step counts as often as it gave tokens."""

    worker: str
    tokens: int
    running: float
    """Sequences that took part."""
    step_ms: float
    """With the gap before it."""


class Times(Record, frozen=True):
    """Where a mean answer's milliseconds went. `network` is None where the server doesn't tell its own time."""

    client: float
    queue: float
    network: float | None
    engine: float

    @property
    def total(self) -> float:
        return self.client + self.queue + (self.network or 0.0) + self.engine


class Level(Record, frozen=True):
    """So many instances under so many users together, measured."""

    instances: int
    users: int
    seconds: float
    answers: int
    failed: float
    """Share of what ended."""
    per_s: float
    low: float
    high: float
    """90 % interval of `per_s`."""
    tokens_per_s: float
    p50_ms: float
    p99_ms: float
    times: Times
    output_tokens: float
    """Of a mean answer."""
    client_cpu: float
    """Of one core, the busiest sending process."""
    paces: tuple[Pace, ...] = ()


class Scaled(Record, frozen=True):
    """A level against one instance alone."""

    efficiency: float
    """Of instances times one's throughput."""
    low: float
    high: float
    lost: dict[str, float]
    """By part, as shares of the ideal; they add up to 1 less the efficiency. Empty where nothing is lost."""


def level(
    instances: int, users: int, window_s: tuple[float, float], samples: Sequence[Sample], cpu: float,
    paces: tuple[Pace, ...] = (),
) -> Level:  # fmt: skip
    """From the samples whose answers ended in the window."""
    begun_s, ended_s = window_s
    inside = [s for s in samples if begun_s <= s.end_s < ended_s and s.outcome not in ("cancelled", "unsent")]
    answered = [s for s in inside if s.outcome == "ok"]
    spell_s = ended_s - begun_s
    ends = np.array([s.end_s for s in answered])
    counts = np.histogram(ends, BLOCKS, (begun_s, ended_s))[0] * BLOCKS / spell_s
    per_s = len(answered) / spell_s
    reach = t_quantile((1 + CONFIDENCE) / 2, BLOCKS - 1) * float(counts.std(ddof=1)) / math.sqrt(BLOCKS)
    took_ms = np.array([1000 * (s.end_s - s.intended_s) for s in answered] or [math.nan])
    tokens = sum(s.output_tokens for s in answered)
    return Level(
        instances=instances, users=users, seconds=spell_s, answers=len(answered),
        failed=1 - len(answered) / len(inside) if inside else 0.0, per_s=per_s, low=max(0.0, per_s - reach),
        high=per_s + reach, tokens_per_s=tokens / spell_s, p50_ms=float(np.quantile(took_ms, 0.5)),
        p99_ms=float(np.quantile(took_ms, 0.99)), times=times(answered),
        output_tokens=tokens / max(1, len(answered)), client_cpu=cpu, paces=paces,
    )  # fmt: skip


def times(answered: Sequence[Sample]) -> Times:
    count = max(1, len(answered))
    client = sum(1000 * (s.sent_s - s.intended_s) for s in answered) / count
    queue = sum(s.queue_ms or 0.0 for s in answered) / count
    total = sum(1000 * (s.end_s - s.intended_s) for s in answered) / count
    told = [s for s in answered if s.served_ms is not None and s.first_s is not None]
    network = None
    if told and len(told) == len(answered):
        network = sum(max(0.0, 1000 * ((s.first_s or 0.0) - s.sent_s) - (s.served_ms or 0.0)) for s in told) / count
    return Times(client=client, queue=queue, network=network, engine=total - client - queue - (network or 0.0))


def pace(worker: str, steps: Sequence[StepRecord]) -> Pace | None:
    """None where the engine hides its steps, or made no token in them."""
    weights = np.array([step.tokens for step in steps], float)
    if not weights.sum():
        return None
    running = np.array([step.running for step in steps], float)
    ms = np.array([step.step_ms + (step.gap_ms or 0.0) for step in steps])
    return Pace(
        worker=worker, tokens=int(weights.sum()), running=float(np.average(running, weights=weights)),
        step_ms=float(np.average(ms, weights=weights)),
    )  # fmt: skip


def scaled(alone: Level, other: Level, vertical: Sequence[Level]) -> Scaled:
    """`other` against `alone`; `vertical` are levels of one instance with more users, whose steps tell what a larger
    batch costs by itself."""
    ideal = other.instances * alone.per_s
    efficiency = other.per_s / ideal if ideal else 0.0
    off = math.hypot(_relative(alone), _relative(other))
    grown = _grown(alone, other, [alone, *vertical])
    total = sum(grown.values())
    missing = max(0.0, 1.0 - efficiency)
    lost = {name: missing * ms / total for name, ms in grown.items() if ms > 0} if total > 0 and missing else {}
    return Scaled(efficiency=efficiency, low=efficiency * (1 - off), high=efficiency * (1 + off), lost=lost)


def _relative(of: Level) -> float:
    return (of.high - of.low) / 2 / of.per_s if of.per_s else 0.0


def _grown(alone: Level, other: Level, ones: Sequence[Level]) -> dict[str, float]:
    """By how many milliseconds each part of a mean answer grew; nothing below 0."""
    before, after = alone.times, other.times
    engine = after.engine - before.engine
    grown = {"client": after.client - before.client, "queue": after.queue - before.queue}
    if before.network is not None and after.network is not None:
        grown["network"] = after.network - before.network
    uneven_ms = _uneven_ms(other, ones)
    if uneven_ms is None:
        grown["engine"] = engine
    else:
        routing = max(0.0, min(engine, uneven_ms * other.output_tokens))
        grown |= {"routing": routing, "hardware": engine - routing}
    return {name: max(0.0, ms) for name, ms in grown.items()}


def _uneven_ms(other: Level, ones: Sequence[Level]) -> float | None:
    """Milliseconds that a step takes longer because its batch is larger than one instance's share alone; None where
    the steps aren't told, or one instance was seen with one batch only."""
    points = sorted((each.paces[0].running, each.paces[0].step_ms) for each in ones if len(each.paces) == 1)
    tokens = sum(each.tokens for each in other.paces)
    if len(points) < 2 or not tokens or len(other.paces) != other.instances:
        return None
    sizes, ms = (list(column) for column in zip(*points, strict=True))
    own = ones[0].paces[0]
    return sum(each.tokens * (_step_ms(each.running, sizes, ms) - own.step_ms) for each in other.paces) / tokens


def _step_ms(running: float, sizes: list[float], ms: list[float]) -> float:
    """Between the measured batches, and on along the first two or the last two."""
    if running < sizes[0] and sizes[1] > sizes[0]:
        return max(0.0, ms[0] - (sizes[0] - running) * (ms[1] - ms[0]) / (sizes[1] - sizes[0]))
    return float(np.interp(running, sizes, ms))


def usd_per_million_tokens(of: Level, usd_per_hour: float) -> float:
    """Output tokens, with all that runs costing `usd_per_hour` together."""
    return usd_per_hour / max(1e-9, of.tokens_per_s * 3600 / 1e6)


def sentence(counts: Sequence[Level], found: Sequence[Scaled], vertical: Sequence[Level], unit: str) -> str:
    """What came of it: the largest level against one, where the rest went, and one instance with as many users."""
    alone, last, of = counts[0], counts[-1], found[-1]
    text = (
        f"{last.instances} {unit} answer {last.per_s / alone.per_s:.2f} times as much as 1 "
        f"({of.efficiency:.0%} of ideal, 90 %: {of.low:.0%} to {of.high:.0%})"
    )
    if of.high >= 1.0:
        text += ", not certainly less than ideal"
    elif of.lost:
        name, share = max(of.lost.items(), key=lambda each: each[1])
        text += f"; most of the rest went to {WORDS[name]} ({share:.0%} of the ideal)"
    text += "."
    same = next((each for each in vertical if each.users == last.users), None)
    if same is None:
        return text
    times_ = last.per_s / same.per_s if same.per_s else math.inf
    close = abs(math.log(max(times_, 1e-9))) <= math.hypot(_relative(last), _relative(same))
    beside = "as much as" if close else f"{times_:.2f} times as much as"
    return f"{text} With the same {last.users} users they answer {beside} one with the larger batch."
