"""When each request of a run is to be sent: one absolute schedule, made once, from one seed.

Every kind of arrivals is first drawn at a rate of 1 and then bent to the wanted rate over time, so that a ramp of
Poisson arrivals is exactly a Poisson process whose rate rises. The schedule is an array of seconds since the run began;
it is dealt out to processes in turn, so their union is the asked process, however many there are. Nothing here sends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from freehold.core import Record
from freehold.errors import UsageError

Times = npt.NDArray[np.float64]
"""Seconds since the run began, rising."""
Kind = Literal["constant", "poisson", "gamma"]
Stream = Literal["arrivals", "lengths", "prompts", "think"]
STREAMS: tuple[Stream, ...] = ("arrivals", "lengths", "prompts", "think")


def dice(seed: int, stream: Stream, number: int = 0) -> np.random.Generator:
    """The random numbers of one purpose. All come from one seed tree; no two purposes share a number."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(STREAMS.index(stream), number)))


class Phase(Record, frozen=True):
    """A stretch of a run in which the rate goes in a straight line from `start_per_s` to `end_per_s`."""

    seconds: float
    start_per_s: float
    end_per_s: float


class Rate:
    """The asked rate over time: phases one after another. Raises `UsageError` where they mean nothing."""

    def __init__(self, phases: Sequence[Phase]) -> None:
        for phase in phases:
            if not (0 < phase.seconds < float("inf") and min(phase.start_per_s, phase.end_per_s) >= 0):
                raise UsageError(
                    f"{phase.seconds:g} s from {phase.start_per_s:g} to {phase.end_per_s:g} requests/s is no phase.",
                    next="Give a length above 0 and rates of 0 or more.",
                )
        self.phases = tuple(phases)
        lengths_s = [phase.seconds for phase in phases]
        counts = [phase.seconds * (phase.start_per_s + phase.end_per_s) / 2 for phase in phases]
        self._starts_s = np.concatenate(([0.0], np.cumsum(lengths_s)))
        self._counts = np.concatenate(([0.0], np.cumsum(counts)))
        if self.total <= 0:
            raise UsageError("The rate is 0 all the time.", next="Ask for more than 0 requests/s.")

    @property
    def seconds(self) -> float:
        return float(self._starts_s[-1])

    @property
    def total(self) -> float:
        """Requests expected in the whole run."""
        return float(self._counts[-1])

    def expected(self, times_s: Times) -> Times:
        """Requests expected until each time: the integral of the rate."""
        times_s = np.clip(times_s, 0.0, self.seconds)
        index, since_s, start, slope = self._within(self._starts_s, times_s)
        return np.asarray(self._counts[index] + start * since_s + slope * since_s**2 / 2)

    def when(self, counts: Times) -> Times:
        """The inverse of `expected`: the moment by which so many requests are expected."""
        index, more, start, slope = self._within(self._counts, counts)
        # of the two ways to write a quadratic's root, the one that holds for a slope of 0 too
        root = start + np.sqrt(np.maximum(start**2 + 2 * slope * more, 0.0))
        return np.asarray(self._starts_s[index] + np.divide(2 * more, root, out=np.zeros_like(more), where=root > 0))

    def _within(self, edges: Times, values: Times) -> tuple[npt.NDArray[np.intp], Times, Times, Times]:
        """For each value: its phase, how far beyond the phase's edge, and that phase's first rate and slope."""
        index = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(self.phases) - 1)
        start = np.array([phase.start_per_s for phase in self.phases])
        slope = np.array([(phase.end_per_s - phase.start_per_s) / phase.seconds for phase in self.phases])
        return index, values - edges[index], start[index], slope[index]


def steady(per_s: float, seconds: float) -> Rate:
    return Rate([Phase(seconds=seconds, start_per_s=per_s, end_per_s=per_s)])


def ramp(start_per_s: float, end_per_s: float, seconds: float) -> Rate:
    return Rate([Phase(seconds=seconds, start_per_s=start_per_s, end_per_s=end_per_s)])


def steps(rates_per_s: Sequence[float], seconds_each: float) -> Rate:
    return Rate([Phase(seconds=seconds_each, start_per_s=rate, end_per_s=rate) for rate in rates_per_s])


def arrivals(rate: Rate, kind: Kind = "poisson", *, burstiness: float = 1.0, seed: int = 0) -> Times:
    """The schedule of `kind` under `rate`. With `gamma`, gaps have the shape `burstiness`: 1 is Poisson, smaller comes
    in bursts (dispersion 1 / burstiness over long windows), larger is more even."""
    if kind == "gamma" and not 0 < burstiness < float("inf"):
        raise UsageError(f"A burstiness of {burstiness:g} is none.", next="1 is Poisson; smaller means bursts.")
    if kind == "constant":
        return rate.when(np.arange(0.0, rate.total))
    chance = dice(seed, "arrivals")
    shape = burstiness if kind == "gamma" else 1.0
    return rate.when(_renewals(rate.total, lambda count: chance.gamma(shape, 1.0 / shape, count)))


def constant(per_s: float, seconds: float) -> Times:
    """Evenly spaced, the first at 0."""
    return arrivals(steady(per_s, seconds), "constant")


def poisson(per_s: float, seconds: float, seed: int = 0) -> Times:
    return arrivals(steady(per_s, seconds), "poisson", seed=seed)


def gamma(per_s: float, seconds: float, burstiness: float, seed: int = 0) -> Times:
    return arrivals(steady(per_s, seconds), "gamma", burstiness=burstiness, seed=seed)


def _renewals(until: float, gaps: Callable[[int], Times]) -> Times:
    """Sums of random gaps of mean 1, as far as `until`."""
    blocks: list[Times] = []
    reached = 0.0
    while reached < until:
        block = reached + np.cumsum(gaps(max(64, int((until - reached) * 1.1))))
        reached = float(block[-1])
        blocks.append(block)
    found = np.concatenate(blocks)
    return np.asarray(found[found < until])
