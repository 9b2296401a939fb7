"""A queue and one worker in virtual time, for tests of admission: the decisions are the shipped ones."""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass, field

from freehold.admission import Ask, Limits, Pace, decide
from freehold.backlog import Backlog


@dataclass
class Simulation:
    """A worker with `pace.places` places; every answer is as long as expected. The order is that of `order.py`."""

    pace: Pace
    limits: Limits = field(default_factory=lambda: Limits(requests=4096))
    backlog: Backlog = field(default_factory=Backlog)
    now_s: float = 0.0
    late: int = 0
    in_time_s: list[float] = field(default_factory=list)
    first_retries: list[bool] = field(default_factory=list)
    _arrivals: list[tuple[float, int, Ask, bool]] = field(default_factory=list)
    _waiting: dict[str, tuple[tuple[int, float, int], Ask]] = field(default_factory=dict)
    _running: dict[str, tuple[int, float, Ask]] = field(default_factory=dict)

    def arrive(self, at_s: float, number: int, ask: Ask) -> None:
        heapq.heappush(self._arrivals, (at_s, number, ask, False))

    def run(self, *, obedient: bool = True) -> None:
        while self._arrivals or self._waiting or self._running:
            self._decide_until(self.now_s, obedient=obedient)
            self._claim()
            if self._running:
                self._decide_until(self.now_s + self.pace.step_s, obedient=obedient)  # while the step goes on
                self._step()
            elif self._arrivals:
                self.now_s = max(self.now_s, self._arrivals[0][0])

    def _decide_until(self, at_s: float, *, obedient: bool) -> None:
        while self._arrivals and self._arrivals[0][0] <= at_s:
            self._decide(*heapq.heappop(self._arrivals), obedient=obedient)

    def _decide(self, at_s: float, number: int, ask: Ask, again: bool, *, obedient: bool) -> None:
        digest, id = str(number).encode(), str(number)
        promised = self.backlog.redeem(digest, at_s)
        left = sum(ask.answers * ask.answer_tokens - done for done, _, ask in self._running.values())
        verdict = decide(ask, self.backlog.line(ask, self.pace, at_s, left, promised=promised), self.pace, self.limits)
        if again:
            self.first_retries.append(not verdict.reason)
        if not verdict.reason:
            self.backlog.add(id, ask, self.pace, at_s)
            self._waiting[id] = (ask.priority, at_s + ask.due_in_s, number), ask
        elif verdict.retry_after_s is not None:
            self.backlog.promise(digest, ask, self.pace, at_s, verdict.retry_after_s)
            if obedient and not again:
                back_s = at_s + math.ceil(verdict.retry_after_s * 1000) / 1000
                heapq.heappush(self._arrivals, (back_s, number, ask, True))

    def _claim(self) -> None:
        while self._waiting and len(self._running) < self.pace.places:
            id = min(self._waiting, key=lambda each: self._waiting[each][0])
            (_, due_s, _), ask = self._waiting.pop(id)
            self.backlog.begin(id)
            self._running[id] = 0, due_s, ask

    def _step(self) -> None:
        self.now_s += self.pace.step_s
        for id, (done, due_s, ask) in list(self._running.items()):
            if done + 1 < ask.answer_tokens:
                self._running[id] = done + 1, due_s, ask
                continue
            del self._running[id]
            self.backlog.end(id)
            if self.now_s <= due_s:
                self.in_time_s.append(self.now_s)
            else:
                self.late += 1


def poisson(rate: float, seconds: float, seed: int) -> list[float]:
    dice, at_s, times = random.Random(seed), 0.0, []
    while (at_s := at_s + dice.expovariate(rate)) < seconds:
        times.append(at_s)
    return times
