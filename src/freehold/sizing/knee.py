"""The knee: the highest rate at which every objective is still kept, found in few short trials.

A ladder of closed loops guesses it (`bracket.py`), open-loop trials near the guess test it, each ended as soon as its verdict
is certain or all its time is used (`sequential.py`), and what all of them show is gathered in one distribution (`posterior.py`), whose
median is the next rate to try. The search ends when its interval is narrow enough or the time is over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from freehold.core import Record
from freehold.sizing.bracket import Ladder, Rung, guess
from freehold.sizing.evidence import Trial, View
from freehold.sizing.posterior import Posterior, grid, half_width, lowest, spread_of
from freehold.sizing.probe import Probe
from freehold.sizing.sequential import Standing, Verdict, overall, standings, weighed
from freehold.sizing.slo import Objective

Outcome = Literal["found", "none", "beyond"]
"""`none`: no rate keeps the SLO. `beyond`: it holds at all rates that this client can send."""

LOOK = 1.12
"""A trial is looked at each time it has become this much longer."""
FIRST_LOOK_S = 1.0


class Plan(Record, frozen=True):
    """How much time the search may take, and how narrow the interval should be."""

    longest_s: float = 600.0
    """Measuring time of everything together."""
    precision: float = 0.06
    """Half the width of the interval, as a share of the knee, at which the search ends."""
    confidence: float = 0.9
    trials: int = 5
    """Into about so many trials the time is divided; those that end early leave theirs to the others."""
    ladder_share: float = 0.15
    """Of the time, at most, for the closed loops."""


class Tried(Record, frozen=True):
    """One open-loop trial, ended."""

    rate_per_s: float
    seconds: float
    verdict: Verdict
    standings: tuple[Standing, ...]
    rising: bool


class Found(Record, frozen=True):
    """Where the knee is, and what was done to find it."""

    outcome: Outcome
    knee_per_s: float
    low_per_s: float
    high_per_s: float
    confidence: float
    seconds: float
    ladder: tuple[Rung, ...]
    tried: tuple[Tried, ...]


Watch = Callable[[str, Trial | None, View | None], None]
"""Told what goes on: in words, and the trial with its latest view if one is running."""


class Search:
    """One search of one server. `run` it; the trials stay in `trials` with all their samples."""

    def __init__(
        self, probe: Probe, objectives: Sequence[Objective], plan: Plan | None = None, watch: Watch | None = None
    ) -> None:
        self.probe = probe
        self.objectives = tuple(objectives)
        self.plan = plan or Plan()
        self.watch = watch or (lambda *_: None)
        self.ladder = Ladder(self.objectives)
        self.trials: list[Trial] = []
        self.views: list[View] = []
        self.tried: list[Tried] = []
        self.seconds = 0.0

    def run(self, seed: int = 0) -> Found:
        plan = self.plan
        self.watch("ladder", None, None)
        self.ladder.climb(self.probe, plan.longest_s * plan.ladder_share)
        self.seconds = self.ladder.seconds
        rates = grid(self.ladder.capacity_per_s)
        self.posteriors = [
            Posterior(rates, guess(self.ladder, i), objective.allowed) for i, objective in enumerate(self.objectives)
        ]
        while self._goes_on():
            self._try(self._next_rate(), seed + len(self.tried))
        return self._found()

    # ---- one trial after another ----------------------------------------------------------------------

    def _spread(self) -> tuple[float, float, float]:
        cumulated = lowest(self.posteriors)
        return spread_of(self.posteriors[0].rates, cumulated, self.plan.confidence)

    def _goes_on(self) -> bool:
        left_s = self.plan.longest_s - self.seconds
        low, _, high = self._spread()
        return left_s > 0.03 * self.plan.longest_s and (
            len(self.tried) < 2 or half_width(low, high) > self.plan.precision
        )

    def _next_rate(self) -> float:
        """The median of where the knee may be."""
        return min(self._spread()[1], self.probe.ceiling_per_s)

    def _try(self, rate_per_s: float, seed: int) -> None:
        left_s = self.plan.longest_s - self.seconds
        longest_s = min(left_s, max(self.plan.longest_s / self.plan.trials, left_s / 2))
        trial = Trial(self.objectives, rate_per_s)
        view, each = trial.view(), ()
        look_s = FIRST_LOOK_S
        running = self.probe.open(rate_per_s, seed)
        try:
            for now_s, samples in running:
                trial.add(now_s, samples)
                if now_s < look_s and now_s < longest_s:
                    continue
                look_s = now_s * LOOK
                view = trial.view()
                each = standings(view)
                self.watch("trial", trial, view)
                if now_s >= longest_s or self._decided(trial, view, each):
                    break
        finally:
            close = getattr(running, "close", None)
            if close is not None:
                close()
        self.seconds += trial.now_s
        self.trials.append(trial)
        self.views.append(view)
        self.tried.append(
            Tried(
                rate_per_s=rate_per_s,
                seconds=trial.now_s,
                verdict=overall(each),
                standings=each,
                rising=view.is_rising,
            )
        )
        self._weigh()

    def _decided(self, trial: Trial, view: View, each: tuple[Standing, ...]) -> bool:
        if overall(each) != "open":
            return True
        if view.is_rising or not each or not self.tried:
            return False
        self._weigh((trial.rate_per_s, each))
        low, _, high = self._spread()
        return half_width(low, high) <= self.plan.precision

    def _weigh(self, running: tuple[float, tuple[Standing, ...]] | None = None) -> None:
        told = [(tried.rate_per_s, tried.standings) for tried in self.tried if tried.standings]
        if running is not None:
            told.append(running)
        for i, posterior in enumerate(self.posteriors):
            posterior.update(weighed([(rate, each[i]) for rate, each in told]))

    def _found(self) -> Found:
        low, middle, high = self._spread()
        return Found(
            outcome="found",
            knee_per_s=middle,
            low_per_s=low,
            high_per_s=high,
            confidence=self.plan.confidence,
            seconds=self.seconds,
            ladder=tuple(self.ladder.rungs),
            tried=tuple(self.tried),
        )


def no_rate() -> float:
    return math.nan
