"""The first guess of the knee, in seconds: a closed loop of 1, 2, 4, ... users, checked by Little's law.

What a server gives with n requests inside says nearly all about it. With the throughput X(n) of each rung, its number
of requests under Poisson arrivals is a birth-death chain with death rates X(n) (a flow-equivalent server: Chandy,
Herzog and Woo 1975), and a request that finds n inside fares as one of n + 1 users did. That gives the share of
misses at any rate. It is a guess, which open-loop trials then test; it is exact for one FIFO server.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from freehold.core import Record
from freehold.sample import Sample
from freehold.sizing.probe import Probe, end
from freehold.slo import Objective, judge

Floats = NDArray[np.float64]

MOST_USERS = 1024
GAINS = 1.06
"""Twice the users must bring this much more throughput, or the server is full."""
ROUNDS = 4
"""Answers a user gets on a rung, the first of which is warm-up."""
FEWEST = 12
"""Answers on a rung at least."""
PLENTY = 96
"""Answers on a rung where they come quickly."""
SLOPES = (3.0, 40.0)
"""Where the slope may lie at first: a ladder sees it dimly."""
LITTLE_OFF = 0.15
LITTLE_BROKEN = 0.5
"""A rung that is off by so much is no measurement; it isn't used, and the ladder ends."""
LEVELS = np.linspace(0, 1, 65)
MOST_INSIDE = 2000


class Rung(Record, frozen=True):
    """One step of the ladder: so many users, each always waiting for an answer."""

    users: int
    seconds: float
    requests: int
    per_s: float
    mean_s: float
    missed: tuple[float, ...]
    """Share of misses of each objective."""
    failed: float
    little: float
    """Throughput times time over users: 1 by Little's law. Below, the client didn't keep its users busy."""

    @property
    def holds(self) -> bool:
        return abs(self.little - 1) <= LITTLE_OFF


class Ladder:
    """The rungs, and the samples' values of each for guessing."""

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self.objectives = tuple(objectives)
        self.rungs: list[Rung] = []
        self.samples: list[list[Sample]] = []
        self.seconds = 0.0

    @property
    def capacity_per_s(self) -> float:
        """The most answers per second that any number of users got, chance smoothed out."""
        return float(rising_fit([rung.per_s for rung in self.rungs], [rung.requests for rung in self.rungs])[-1])

    def climb(
        self,
        probe: Probe,
        longest_s: float,
        told: Callable[[Rung], None] = lambda _: None,
        clear: Callable[[Rung], bool] = lambda _: True,
    ) -> None:
        """Double the users until throughput gains nothing more, half of the answers miss, or `longest_s` is over. One
        user alone stays for as long again where it isn't `clear` whether the objectives can be kept at all."""
        users, flat = 1, 0
        while users <= MOST_USERS and self.seconds < longest_s:
            rung, samples = self._stand(probe, users, (longest_s - self.seconds) / 2)
            if users == 1 and not clear(rung):
                rung, samples = self._stand(probe, users, longest_s, clear)
                longest_s += self.seconds
            before = self.rungs[-1].per_s if self.rungs else 0.0
            if self.rungs and (rung.requests < min(users, FEWEST) or abs(rung.little - 1) > LITTLE_BROKEN):
                break  # cut off before every user had answers, or in a burst of them: it says nothing of the pace
            self.rungs.append(rung)
            self.samples.append(samples)
            told(rung)
            flat = flat + 1 if rung.per_s < before * GAINS else 0
            if flat >= 2 or rung.failed > 0.5 or rung.per_s > probe.ceiling_per_s:
                break
            if flat and any(missed > 0.5 for missed in rung.missed):
                break
            users *= 2

    def _stand(
        self, probe: Probe, users: int, longest_s: float, clear: Callable[[Rung], bool] | None = None
    ) -> tuple[Rung, list[Sample]]:
        """Stay on a rung until it has enough answers, or is `clear`. Those begun before each user's second don't
        count."""
        enough, plenty = max(FEWEST, ROUNDS * users), max(PLENTY, ROUNDS * users)
        worth_s = longest_s / 10
        trial = probe.closed(users)
        samples: list[Sample] = []
        now_s = 0.0
        try:
            for now_s, ended in trial:
                samples += ended
                count = len(samples)
                if clear is None:
                    enough_seen = count >= plenty or (count >= enough and now_s >= worth_s)
                else:
                    enough_seen = count >= enough and clear(_counted(users, now_s, samples, self.objectives)[0])
                if enough_seen or now_s >= longest_s:
                    break
        finally:
            end(trial)
        self.seconds += now_s
        return _counted(users, now_s, samples, self.objectives)


def _counted(
    users: int, now_s: float, samples: list[Sample], objectives: tuple[Objective, ...]
) -> tuple[Rung, list[Sample]]:
    """The rung without each user's first answer, and the samples it is made of."""
    kept = sorted(samples, key=lambda sample: sample.end_s)
    since_s = kept[min(users, len(kept) // 4) - 1].end_s if len(kept) >= ROUNDS else 0.0
    counted = [sample for sample in kept if sample.end_s > since_s]
    if not counted:  # they all ended at once
        since_s, counted = 0.0, kept
    return _rung(users, now_s, counted, since_s, objectives), counted


def _rung(users: int, seconds: float, counted: list[Sample], since_s: float, objectives: tuple[Objective, ...]) -> Rung:
    spell_s = counted[-1].end_s - since_s if counted else 0.0
    per_s = len(counted) / spell_s if spell_s > 0 else 0.0
    mean_s = sum(sample.end_s - sample.intended_s for sample in counted) / max(1, len(counted))
    missed = []
    for objective in objectives:
        judged = [judge(objective, sample) for sample in counted]
        missed.append(sum(each.misses for each in judged) / max(1, sum(each.units for each in judged)))
    failed = sum(sample.outcome != "ok" for sample in counted) / max(1, len(counted))
    return Rung(
        users=users,
        seconds=seconds,
        requests=len(counted),
        per_s=per_s,
        mean_s=mean_s,
        missed=tuple(missed),
        failed=failed,
        little=per_s * mean_s / users,
    )


# ---- the guess --------------------------------------------------------------------------------------


class Guess(Record, frozen=True):
    """Where the ladder sees the knee of one objective, and how steeply misses grow there:
    `slope` is d ln(odds of a miss) / d ln(rate)."""

    rate_per_s: float
    slope: float


def guess(ladder: Ladder, which: int) -> Guess:
    """The rate at which objective number `which` is just kept, by the birth-death chain."""
    objective = ladder.objectives[which]
    rungs = ladder.rungs
    inside = np.arange(1, MOST_INSIDE + 1, dtype=np.float64)
    users = np.array([rung.users for rung in rungs], float)
    per_s = rising_fit([rung.per_s for rung in rungs], [rung.requests for rung in rungs])
    death = np.exp(np.interp(np.log(inside), np.log(users), np.log(per_s)))
    missing = _missing(ladder, which, inside, death)
    rates = death[-1] * np.linspace(0.02, 0.995, 160)
    shares = np.array([_share_at(rate, death, missing) for rate in rates])
    odds = np.log(np.clip(shares, 1e-9, 1 - 1e-9) / (1 - np.clip(shares, 1e-9, 1 - 1e-9)))
    wanted = math.log(objective.allowed / (1 - objective.allowed))
    over = np.flatnonzero(odds >= wanted)
    at = int(over[0]) if len(over) else len(rates) - 1
    low, high = max(0, at - 4), min(len(rates) - 1, at + 2)
    slope = (odds[high] - odds[low]) / math.log(rates[high] / rates[low])
    return Guess(rate_per_s=float(rates[at]), slope=float(np.clip(slope, *SLOPES)))


def _share_at(rate: float, death: Floats, missing: Floats) -> float:
    """Share of misses under Poisson arrivals: a request that finds n inside becomes one of n + 1."""
    weight = np.concatenate([[0.0], np.cumsum(math.log(rate) - np.log(death[:-1]))])
    chance = np.exp(weight - weight.max())
    return float((chance * missing).sum() / chance.sum())


def _missing(ladder: Ladder, which: int, inside: Floats, death: Floats) -> Floats:
    """Share of misses among n users for each n: the rungs' quantiles, joined between rungs and stretched beyond the
    last one as the time there grows, n / X(n)."""
    objective = ladder.objectives[which]
    curves, users = [], []
    for rung, samples in zip(ladder.rungs, ladder.samples, strict=False):
        values = [v.value_ms for v in (judge(objective, s) for s in samples) if v.value_ms is not None]
        if values and objective.metric != "error":
            curves.append(np.quantile(values, LEVELS))
            users.append(rung.users)
    failed = np.interp(np.log(inside), np.log([r.users for r in ladder.rungs]), [r.failed for r in ladder.rungs])
    if not curves or objective.metric == "itl":
        # gaps: their share is measured on each rung
        shares = [rung.missed[which] for rung in ladder.rungs]
        return np.asarray(np.interp(np.log(inside), np.log([r.users for r in ladder.rungs]), shares))
    table = np.array(curves)
    joined = np.stack([np.interp(np.log(inside), np.log(users), column) for column in table.T], axis=1)
    last = users[-1]
    beyond = inside > last
    stretch = (inside[beyond] / death[beyond]) / (last / death[last - 1])
    if objective.metric in ("e2e", "ttft", "queue"):
        joined[beyond] *= stretch[:, None]
    kept = np.array([np.interp(objective.limit_ms, row, LEVELS, left=0.0, right=1.0) for row in joined])
    return np.asarray(failed + (1 - failed) * (1 - kept))


def rising_fit(values: Sequence[float], weights: Sequence[float]) -> Floats:
    """The closest row that never falls (isotonic regression by pooling adjacent violators)."""
    blocks: list[list[float]] = []
    for value, weight in zip(values, weights, strict=True):
        blocks.append([value, max(weight, 1e-9), 1])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            value_, weight_, count = blocks.pop()
            last = blocks[-1]
            last[0] = (last[0] * last[1] + value_ * weight_) / (last[1] + weight_)
            last[1] += weight_
            last[2] += count
    return np.concatenate([np.full(int(count), max(value, 1e-9)) for value, _, count in blocks])
