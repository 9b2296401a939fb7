"""How many instances: the smallest fleet that keeps the SLO on the owner's own traffic, when each carries no more than
was measured.

The simulator is first slowed until one simulated instance breaks the SLO where the measured one does, at the lower end
of its interval; by how much it had to be slowed is its own error, and is told. Then the trace is played through fleets
of 1, 2, 4, ... instances until one holds, and the gap is halved. Erlang C stands beside it as a check that knows
nothing of batches: it treats each place in a batch as a server.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from freehold.core import Record
from freehold.errors import UsageError
from freehold.profile import step_ms
from freehold.sizing.capacity import Capacity
from freehold.sizing.cells import play_in_cells
from freehold.sizing.work import DONE, Fleet, Floats, Played, Work
from freehold.slo import Objective

MOST_INSTANCES = 100_000
CALIBRATION_REQUESTS = 8_000
SLOWEST = (0.02, 50.0)
"""What the steps may be slowed by: beyond, one of the two capacities is of something else."""
PRECISION = 0.02
"""Of the simulated capacity, relative."""
PEAK_S = 60.0
"""Peak utilisation is that of the busiest minute."""


class Kept(Record, frozen=True):
    """How one objective fared in a play."""

    objective: str
    allowed: float
    missed: float
    """Share."""

    @property
    def holds(self) -> bool:
        return self.missed <= self.allowed


class Tried(Record, frozen=True):
    """One fleet that was played."""

    instances: int
    kept: tuple[Kept, ...]


class Answer(Record, frozen=True):
    """The smallest fleet that holds, and how it fares."""

    instances: int
    """Without redundancy."""
    with_spare: int
    """With what was asked for on top (N+1)."""
    kept: tuple[Kept, ...]
    mean_per_s: float
    peak_per_s: float
    utilisation_mean: float
    """Of the fleet without its spare."""
    utilisation_peak: float
    erlang_instances: int
    """By Erlang C, as a check."""
    slowness: float
    """What the simulator had to be slowed by to agree with the measurement: 1.0 is no error."""
    simulated_per_s: float
    """Capacity of one instance before that."""
    tried: tuple[Tried, ...] = ()
    """Every fleet that was played, by size."""


def size(
    work: Work, fleet: Fleet, objectives: tuple[Objective, ...], capacity: Capacity, spare: int = 0, stretch: int = 0
) -> Answer:
    """The answer for `work`; `fleet` brings profile and overheads, `stretch` says how `capacity` was measured (see
    `asked_at`). Raises `UsageError` where no fleet can hold, as a request alone on an idle instance already misses."""
    before = simulated_capacity(work, fleet, objectives, stretch)
    slowness = calibrate(work, fleet, objectives, capacity.low, before, stretch)
    slowed = msgspec.structs.replace(fleet, slowness=fleet.slowness * slowness)
    instances, tried = smallest(work, slowed, objectives)
    mean_per_s, peak_per_s = rates(work.arrival_s)
    wide = max(1, instances)
    return Answer(
        instances=instances,
        with_spare=instances + spare,
        kept=next(each.kept for each in tried if each.instances == instances),
        mean_per_s=mean_per_s,
        peak_per_s=peak_per_s,
        utilisation_mean=mean_per_s / (capacity.rate_per_s * wide),
        utilisation_peak=peak_per_s / (capacity.rate_per_s * wide),
        erlang_instances=erlang_instances(work, slowed, objectives),
        slowness=slowness,
        simulated_per_s=before,
        tried=tried,
    )


def smallest(work: Work, fleet: Fleet, objectives: tuple[Objective, ...]) -> tuple[int, tuple[Tried, ...]]:
    """The fewest replicas with which every objective is kept, and every fleet that was played, by size."""
    tried: dict[int, Tried] = {}

    def holds(replicas: int) -> bool:
        played = play_in_cells(work, msgspec.structs.replace(fleet, replicas=replicas))
        tried[replicas] = Tried(instances=replicas, kept=fares(work, played, objectives))
        return all(kept.holds for kept in tried[replicas].kept)

    low, high = 0, 1
    while not holds(high):
        low, high = high, high * 2
        if high > MOST_INSTANCES:
            alone = "Even an instance for each request is too slow for it, or a request fails by itself."
            raise UsageError("No number of instances keeps this SLO.", alone, "Ask for less, or serve a faster model.")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high, tuple(tried[replicas] for replicas in sorted(tried))


def fares(work: Work, played: Played, objectives: tuple[Objective, ...]) -> tuple[Kept, ...]:
    """Each objective's share of misses. What never ended well misses all of them."""
    failed = played.outcome != DONE
    found = []
    for each in objectives:
        if each.metric == "error":
            missed = float(failed.mean())
        else:
            values = _values_ms(work, played, each)
            known = failed | ~np.isnan(values)
            missed = float((failed | (values > each.limit_ms))[known].mean()) if known.any() else 0.0
        found.append(Kept(objective=str(each), allowed=each.allowed, missed=missed))
    return tuple(found)


def asked_at(work: Work, stretch: int, seed: int = 0) -> Work:
    """Requests of `work` at a mean of one a second, as a trial live asks them: drawn by lot with Poisson arrivals, or
    (`stretch` over 0) stretches of so many neighbours, each bent to the rate."""
    rng = np.random.default_rng(seed)
    count = len(work.arrival_s)
    if stretch <= 1 or count <= 2:
        rows = rng.integers(0, count, CALIBRATION_REQUESTS)
        unit = np.cumsum(rng.exponential(1.0, CALIBRATION_REQUESTS))
    else:
        size = min(stretch, count - 1)
        firsts = rng.integers(0, count - size, max(1, CALIBRATION_REQUESTS // size))
        rows = (firsts[:, None] + np.arange(size)[None, :]).ravel()
        spans = np.maximum(1e-9, work.arrival_s[firsts + size] - work.arrival_s[firsts])
        inside = (work.arrival_s[rows].reshape(-1, size) - work.arrival_s[firsts][:, None]) * (size / spans)[:, None]
        unit = (inside + size * np.arange(len(firsts))[:, None]).ravel()
    return Work(arrival_s=unit, prompt_tokens=work.prompt_tokens[rows], output_tokens=work.output_tokens[rows])


def simulated_capacity(
    work: Work, fleet: Fleet, objectives: tuple[Objective, ...], stretch: int = 0, seed: int = 0
) -> float:
    """The highest rate of such requests (`asked_at`) that one replica carries. 0: none."""
    unit = asked_at(work, stretch, seed)
    if not _carries(unit, fleet, objectives, 1e-6):
        return 0.0
    places = fleet.max_batch or fleet.profile.sweet_batch
    low, high = 0.0, max(1e-6, places / max(1e-9, _service_s(work, fleet, places)))  # more than it can bear
    while _carries(unit, fleet, objectives, high) and high < 1e6:
        low, high = high, high * 2.0
    while high - low > PRECISION * high:
        middle = (low + high) / 2.0
        low, high = (middle, high) if _carries(unit, fleet, objectives, middle) else (low, middle)
    return low


def calibrate(
    work: Work, fleet: Fleet, objectives: tuple[Objective, ...], measured_per_s: float, simulated_per_s: float,
    stretch: int = 0,
) -> float:  # fmt: skip
    """How much slower the steps must be for one simulated replica to just carry what the measured one does."""
    if measured_per_s <= 0:
        raise UsageError(
            "This SLO is out of reach for one instance.", "None was measured to keep it at any rate.",
            "Ask for less, or serve a faster model.",
        )  # fmt: skip
    unit = asked_at(work, stretch)

    def carries(slowness: float) -> bool:
        slowed = msgspec.structs.replace(fleet, slowness=fleet.slowness * slowness)
        return _carries(unit, slowed, objectives, measured_per_s)

    low = high = simulated_per_s / measured_per_s or 1.0
    while not carries(low):
        low, high = low / 1.5, low
        if low < SLOWEST[0]:
            raise UsageError(
                "The simulation and the measurement contradict each other.",
                f"One instance was measured to carry {measured_per_s:g} requests/s; simulated it never does.",
                "The machine was too busy to learn its pace: measure again, for longer.",
            )
    if low == high:
        high = low * 1.5
        while high < SLOWEST[1] and carries(high):
            low, high = high, high * 1.5
    while high / low > 1.0 + PRECISION:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if carries(middle) else (low, middle)
    return low


def _carries(unit: Work, fleet: Fleet, objectives: tuple[Objective, ...], rate_per_s: float) -> bool:
    """Whether one replica keeps the objectives at that rate of `unit`, which has one request a second."""
    asked = msgspec.structs.replace(unit, arrival_s=unit.arrival_s / rate_per_s)
    played = play_in_cells(asked, msgspec.structs.replace(fleet, replicas=1))
    return all(kept.holds for kept in fares(asked, played, objectives))


def rates(arrival_s: Floats) -> tuple[float, float]:
    """(mean, that of the busiest minute) requests a second. A trace of under a minute has one rate."""
    span_s = float(arrival_s[-1] - arrival_s[0])
    if span_s <= PEAK_S:
        mean = len(arrival_s) / max(span_s, 1e-9)
        return mean, mean
    counts = np.bincount(((arrival_s - arrival_s[0]) // PEAK_S).astype(np.int64))
    return len(arrival_s) / span_s, float(counts.max()) / PEAK_S


# ---- the check ------------------------------------------------------------------------------------


def erlang_c(servers: int, load: float) -> float:
    """Probability of waiting in M/M/c with `load` erlangs. Source: Erlang 1917; by the recursion of Erlang B."""
    if load >= servers:
        return 1.0
    blocked = 1.0
    for k in range(1, servers + 1):
        blocked = load * blocked / (k + load * blocked)
    return blocked / (1.0 - load / servers * (1.0 - blocked))


def erlang_instances(work: Work, fleet: Fleet, objectives: tuple[Objective, ...]) -> int:
    """Instances by Erlang C at the busiest minute: each place in a batch is a server whose service time is that of the
    trace's mean answer in a full batch; the wait may take what the tightest e2e or ttft objective leaves."""
    _, peak_per_s = rates(work.arrival_s)
    places = fleet.max_batch or fleet.profile.sweet_batch
    service_s = _service_s(work, fleet, places)
    load = peak_per_s * service_s
    for instances in range(max(1, math.ceil(load / places)), MOST_INSTANCES):
        servers = instances * places
        waits = erlang_c(servers, load)
        spare_per_s = (servers - load) / service_s
        if load < servers and all(
            waits * math.exp(-spare_per_s * max(0.0, _slack_s(each, service_s))) <= each.allowed for each in objectives
        ):
            return instances
    return MOST_INSTANCES


def _slack_s(objective: Objective, service_s: float) -> float:
    """How long a request may wait for a place."""
    if objective.metric == "e2e":
        return objective.limit_ms / 1000.0 - service_s
    return objective.limit_ms / 1000.0 if objective.metric in ("ttft", "queue") else math.inf


def _service_s(work: Work, fleet: Fleet, places: int) -> float:
    """Seconds a mean request holds its place in a full batch."""
    prompt, output = float(work.prompt_tokens.mean()), float(work.output_tokens.mean())
    context = int(places * (prompt + output / 2.0))
    step = step_ms(fleet.profile.step, 0, places, context) * fleet.slowness + fleet.gap_ms
    reading = fleet.profile.step.prefill_ms_per_token * prompt * places * fleet.slowness
    return (output * step + reading) / 1000.0


def _values_ms(work: Work, played: Played, objective: Objective) -> Floats:
    match objective.metric:
        case "e2e":
            seconds = played.end_s - work.arrival_s
        case "ttft":
            seconds = played.first_s - work.arrival_s
        case "queue":
            seconds = played.claimed_s - work.arrival_s
        case _:  # tpot; itl too, of which a play knows each answer's mean alone
            tokens = np.where(work.output_tokens > 1, work.output_tokens - 1.0, np.nan)
            seconds = (played.end_s - played.first_s) / tokens
    return np.asarray(seconds * 1000.0)
