"""Servers whose knee is known: a queue, a batch server, a continuous batcher; all in virtual time.

What the search is judged by (`benchmarks/knee.py`) and tried out on. Each is a `Probe`. An hour passes in well under a
second: a queue is two cumulative sums, the others jump from event to event.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from freehold.core import Record
from freehold.sample import Sample
from freehold.sizing.probe import Trial

Floats = NDArray[np.float64]
LONGEST_S = 400.0
"""No trial of a synthetic server is longer."""


class Run(Record, frozen=True):
    """What happened: one entry a request, in the order of arrival. Times in seconds."""

    arrived: Any
    first: Any
    end: Any
    output_tokens: Any


class Server(Protocol):
    """`open` serves given arrivals; `closed` keeps `users` busy for `requests` requests."""

    def open(self, arrivals: Floats, rng: np.random.Generator) -> Run: ...
    def closed(self, users: int, requests: int, rng: np.random.Generator) -> Run: ...


class Queue(Record, frozen=True):
    """One server, first come first served. `cv2` is the squared coefficient of variation of its service times:
    1 exponential (M/M/1), 0 constant, else gamma."""

    service_s: float
    cv2: float = 1.0

    def _services(self, n: int, rng: np.random.Generator) -> Floats:
        if not self.cv2:
            return np.full(n, self.service_s)
        return rng.gamma(1 / self.cv2, self.service_s * self.cv2, n)

    def open(self, arrivals: Floats, rng: np.random.Generator) -> Run:
        """Lindley's recursion as a running maximum."""
        services = self._services(len(arrivals), rng)
        total = np.cumsum(services)
        end = total + np.maximum.accumulate(arrivals - (total - services))
        return Run(arrived=arrivals, first=end, end=end, output_tokens=np.ones(len(end), int))

    def closed(self, users: int, requests: int, rng: np.random.Generator) -> Run:
        end = np.cumsum(self._services(requests, rng))
        arrived = np.concatenate([np.zeros(min(users, requests)), end[: max(0, requests - users)]])
        return Run(arrived=arrived, first=end, end=end, output_tokens=np.ones(requests, int))


class Batches(Record, frozen=True):
    """Takes what waits, `most` at a time, and serves it together in `base_s + each_s * n`, a little uneven."""

    base_s: float
    each_s: float
    most: int
    spread: float = 0.1

    def open(self, arrivals: Floats, rng: np.random.Generator) -> Run:
        return self._serve(arrivals.tolist(), rng, math.inf, 0)

    def closed(self, users: int, requests: int, rng: np.random.Generator) -> Run:
        return self._serve([0.0] * min(users, requests), rng, requests, users)

    def _serve(self, arrived: list[float], rng: np.random.Generator, requests: float, users: int) -> Run:
        noise = iter(rng.lognormal(0, self.spread, len(arrived) if not users else int(requests)).tolist())
        end: list[float] = []
        now_s, served = 0.0, 0
        while served < len(arrived):
            now_s = max(now_s, arrived[served])
            taken = served
            while taken < len(arrived) and taken < served + self.most and arrived[taken] <= now_s:
                taken += 1
            now_s += (self.base_s + self.each_s * (taken - served)) * next(noise)
            end += [now_s] * (taken - served)
            if users:
                arrived += [now_s] * min(taken - served, int(requests) - len(arrived))
            served = taken
        done = np.array(end)
        return Run(arrived=np.array(arrived), first=done, end=done, output_tokens=np.ones(len(end), int))


class Steps(Record, frozen=True):
    """Continuous batching on a step law: a step takes `base_s + sequence_s * running`, and longer by `prefill_s` for
    each prompt that is read in it; every running answer gets one token a step. Answers are geometric with mean
    `tokens`."""

    base_s: float
    sequence_s: float
    prefill_s: float
    tokens: float
    most: int

    def open(self, arrivals: Floats, rng: np.random.Generator) -> Run:
        return self._serve(arrivals.tolist(), rng, len(arrivals), 0)

    def closed(self, users: int, requests: int, rng: np.random.Generator) -> Run:
        return self._serve([0.0] * min(users, requests), rng, requests, users)

    def _serve(self, arrived: list[float], rng: np.random.Generator, requests: int, users: int) -> Run:
        wanted = 1 + rng.geometric(1 / self.tokens, requests)
        lengths = wanted.tolist()
        first, end = [0.0] * requests, [0.0] * requests
        running: list[tuple[int, int]] = []
        now_s, step, admitted = 0.0, 0, 0
        while running or admitted < len(arrived):
            if not running:
                now_s = max(now_s, arrived[admitted])
            fresh = admitted
            while admitted < len(arrived) and len(running) < self.most and arrived[admitted] <= now_s:
                heapq.heappush(running, (step + lengths[admitted], admitted))
                admitted += 1
            # the step that reads the new prompts, then plain steps until somebody ends or somebody new gets in
            pace_s = self.base_s + self.sequence_s * len(running)
            now_s += pace_s + self.prefill_s * (admitted - fresh)
            first[fresh:admitted] = [now_s] * (admitted - fresh)
            step += 1
            jump = running[0][0] - step
            if jump > 0 and admitted < len(arrived) and len(running) < self.most:
                jump = min(jump, max(0, math.ceil((arrived[admitted] - now_s) / pace_s)))
            step += jump
            now_s += jump * pace_s
            while running and running[0][0] <= step:
                end[heapq.heappop(running)[1]] = now_s
                if users and len(arrived) < requests:
                    arrived.append(now_s)
        return Run(arrived=np.array(arrived), first=np.array(first), end=np.array(end), output_tokens=wanted)


# ---- a server as a probe ----------------------------------------------------------------------------


class Synthetic:
    """`server` seen through the window of `probe.py`: Poisson arrivals, samples every `tick_s` of virtual time."""

    def __init__(self, server: Server, ceiling_per_s: float = math.inf, tick_s: float = 0.5, seed: int = 0) -> None:
        self.server = server
        self.ceiling_per_s = ceiling_per_s
        self.tick_s = tick_s
        self.seed = seed

    def open(self, rate_per_s: float, seed: int) -> Trial:
        rng = np.random.default_rng([seed, 0])
        arrivals = poisson(rate_per_s, LONGEST_S, rng)
        return self._play(self.server.open(arrivals, rng))

    def closed(self, users: int) -> Trial:
        rng = np.random.default_rng([self.seed, users])
        return self._play(self.server.closed(users, 400 + 40 * users, rng))

    def _play(self, run: Run) -> Trial:
        order = np.argsort(run.end, kind="stable")
        numbers = order.tolist()
        columns = [column[order].tolist() for column in (run.arrived, run.first, run.end, run.output_tokens)]
        samples = (
            Sample(number=i, intended_s=a, sent_s=a, end_s=e, first_s=f, outcome="ok", status=200, output_tokens=t)
            for i, a, f, e, t in zip(numbers, *columns, strict=True)
        )
        last_s = float(run.end.max(initial=0.0))
        waiting: Iterator[Sample] = samples
        ahead: Sample | None = next(waiting, None)
        now_s = 0.0
        while now_s < min(last_s, LONGEST_S):
            now_s += self.tick_s
            ended = []
            while ahead is not None and ahead.end_s <= now_s:
                ended.append(ahead)
                ahead = next(waiting, None)
            yield now_s, ended


def poisson(rate_per_s: float, seconds: float, rng: np.random.Generator) -> Floats:
    """Arrival times in (0, seconds)."""
    n = rng.poisson(rate_per_s * seconds)
    return np.sort(rng.uniform(0, seconds, n))
