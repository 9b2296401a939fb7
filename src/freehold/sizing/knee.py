"""The knee: the highest rate at which every objective is still kept, found in few short trials.

A ladder of closed loops guesses it (`bracket.py`), open-loop trials near the guess test it, each ended as soon as its
verdict is certain or all its time is used (`sequential.py`), and what all of them show is gathered in one
distribution (`posterior.py`), whose median is the next rate to try. The search ends when its interval is narrow
enough or the time is over.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from freehold.errors import FreeholdError
from freehold.sizing.bracket import Ladder, Rung, guess
from freehold.sizing.evidence import Trial, View
from freehold.sizing.found import Found, Outcome, Plan, Progress, Tried, Watch
from freehold.sizing.posterior import Posterior, grid, half_width, lowest, spread_of
from freehold.sizing.probe import Probe, end
from freehold.sizing.sequential import Standing, overall, standings, weighed
from freehold.slo import Objective
from freehold.stats import evidence_against

LOOK = 1.12
"""A trial is looked at each time it has become this much longer."""
FIRST_LOOK_S = 1.0
SPENT = 0.97
"""With this share of the time used, another trial would show nothing."""
LATE_SHARE = 0.1
LATE_MS = 5.0
"""A client whose p99 lateness exceeds this and that share of the tightest limit can't blame the server."""
CERTAIN = 0.05
"""Chance of calling an SLO hopeless that isn't."""


class Search:
    """One search of one server. `run` it; the trials stay in `trials` with all their samples."""

    def __init__(
        self, probe: Probe, objectives: Sequence[Objective], plan: Plan | None = None, watch: Watch | None = None
    ) -> None:
        self.probe = probe
        self.objectives = tuple(objectives)
        self.plan = plan or Plan()
        self.watch = watch or (lambda _: None)
        self.ladder = Ladder(self.objectives)
        self.trials: list[Trial] = []
        self.views: list[View] = []
        self.tried: list[Tried] = []
        self.seconds = 0.0
        self.ceiling_per_s = probe.ceiling_per_s
        self.posteriors: list[Posterior] = []

    def run(self, seed: int = 0) -> Found:
        """Raises `FreeholdError` where no request is ever answered."""
        self.ladder.climb(
            self.probe,
            self.plan.longest_s * self.plan.ladder_share,
            lambda rung: self.watch(Progress(seconds=self.ladder.seconds, rung=rung)),
            lambda rung: self._hopeless(rung) is not None or not self._misses(rung),
        )
        self.seconds = self.ladder.seconds
        _must_answer(self.ladder)
        if self._hopeless(self.ladder.rungs[0]) is not None:
            return self._found("none")
        self._lay_out(self.ladder.capacity_per_s)
        while self._goes_on():
            self._try(self._next_rate(), seed + len(self.tried))
            if self._holds_at_the_ceiling():
                return self._found("beyond")
            top = self.posteriors[0].rates[-1]
            if self._spread()[1] > 0.9 * top:
                self._lay_out(2 * top)
        return self._found("none" if self._spread()[1] < 1.5 * self.posteriors[0].rates[0] else "found")

    def _misses(self, alone: Rung) -> bool:
        return any(share > each.allowed for each, share in zip(self.objectives, alone.missed, strict=True))

    def _hopeless(self, alone: Rung) -> Objective | None:
        """An objective that one user alone already breaks for certain, if there is one."""
        for objective, share in zip(self.objectives, alone.missed, strict=True):
            against = evidence_against(objective.allowed, share * alone.requests, alone.requests)
            if share > objective.allowed and against > -np.log(CERTAIN):
                return objective
        return None

    # ---- one trial after another ----------------------------------------------------------------------

    def _lay_out(self, capacity_per_s: float) -> None:
        rates = grid(capacity_per_s)
        self.posteriors = [
            Posterior(rates, guess(self.ladder, i), objective.allowed) for i, objective in enumerate(self.objectives)
        ]
        self._weigh()

    def _spread(self) -> tuple[float, float, float]:
        return spread_of(self.posteriors[0].rates, lowest(self.posteriors), self.plan.confidence)

    def _goes_on(self) -> bool:
        low, _, high = self._spread()
        unsure = len(self.tried) < 2 or half_width(low, high) > self.plan.precision
        return unsure and self.seconds < SPENT * self.plan.longest_s

    def _next_rate(self) -> float:
        """The median of where the knee may be."""
        return min(self._spread()[1], self.ceiling_per_s)

    def _holds_at_the_ceiling(self) -> bool:
        last = self.tried[-1]
        return last.rate_per_s >= self.ceiling_per_s and last.verdict == "pass"

    def _try(self, rate_per_s: float, seed: int) -> None:
        left_s = self.plan.longest_s - self.seconds
        longest_s = min(left_s, max(self.plan.longest_s / self.plan.trials, left_s / 2))
        trial = Trial(self.objectives, rate_per_s)
        view = self._play(trial, longest_s, seed)
        each = standings(view)
        late = _late(trial)
        verdict = overall(each)
        if late and verdict != "pass":
            self.ceiling_per_s = min(self.ceiling_per_s, rate_per_s) * 0.9
        self.seconds += max(trial.now_s, FIRST_LOOK_S)  # one of too few requests to last would else be free, for ever
        self.trials.append(trial)
        self.views.append(view)
        self.tried.append(
            Tried(
                rate_per_s=rate_per_s,
                seconds=trial.now_s,
                verdict=verdict,
                standings=each,
                rising=view.is_rising,
                late=late,
            )
        )
        self._weigh()

    def _play(self, trial: Trial, longest_s: float, seed: int) -> View:
        """Run one trial until its verdict is certain, the interval narrow enough, or `longest_s` over."""
        view, look_s = trial.view(), FIRST_LOOK_S
        running = self.probe.open(trial.rate_per_s, seed)
        try:
            for now_s, samples in running:
                trial.add(now_s, samples)
                if now_s < look_s and now_s < longest_s:
                    continue
                look_s = now_s * LOOK
                view = trial.view()
                self._show(trial, view)
                if now_s >= longest_s or self._decided(trial, view):
                    break
        finally:
            end(running)
        return view

    def _show(self, trial: Trial, view: View) -> None:
        low, _, high = self._spread()
        self.watch(
            Progress(
                seconds=self.seconds + trial.now_s,
                number=len(self.tried) + 1,
                rate_per_s=trial.rate_per_s,
                trial_s=trial.now_s,
                requests=view.requests,
                rising=view.is_rising,
                low_per_s=low,
                high_per_s=high,
            )
        )

    def _decided(self, trial: Trial, view: View) -> bool:
        each = standings(view)
        if overall(each) != "open":
            return True
        if view.is_rising or not self.tried:
            return False
        self._weigh((trial.rate_per_s, each))
        low, _, high = self._spread()
        return half_width(low, high) <= self.plan.precision

    def _weigh(self, running: tuple[float, tuple[Standing, ...]] | None = None) -> None:
        told = [
            (tried.rate_per_s, tried.standings) for tried in self.tried if not tried.late or tried.verdict == "pass"
        ]
        if running is not None:
            told.append(running)
        for i, posterior in enumerate(self.posteriors):
            posterior.update(weighed([(rate, each[i]) for rate, each in told]))

    # ---- the answer -------------------------------------------------------------------------------------

    def _found(self, outcome: Outcome) -> Found:
        low = knee = high = 0.0
        if outcome == "beyond":
            low, knee, high = self.ceiling_per_s, self.ceiling_per_s, float("inf")
        elif outcome == "found":
            low, knee, high = self._spread()
            if knee > self.ceiling_per_s:  # what lies above it was never tried
                low, knee, high = min(low, self.ceiling_per_s), self.ceiling_per_s, float("inf")
        return Found(
            outcome=outcome,
            knee_per_s=knee,
            low_per_s=low,
            high_per_s=high,
            confidence=self.plan.confidence,
            seconds=self.seconds,
            binding=self._binding(),
            ladder=tuple(self.ladder.rungs),
            tried=tuple(self.tried),
        )

    def _binding(self) -> Objective:
        """The objective that breaks first."""
        hopeless = self._hopeless(self.ladder.rungs[0])
        if hopeless is not None or not self.posteriors:
            return hopeless or self.objectives[0]
        middles = [spread_of(p.rates, np.cumsum(p.chances), 0.5)[1] for p in self.posteriors]
        return self.objectives[int(np.argmin(middles))]


def _late(trial: Trial) -> bool:
    """Did the client itself fail to send on time?"""
    limits = [objective.limit_ms for objective in trial.objectives if objective.limit_ms]
    late_ms = [1000 * (sample.sent_s - sample.intended_s) for sample in trial.samples if sample.outcome != "unsent"]
    allowed_ms = max(LATE_MS, LATE_SHARE * min(limits, default=0.0))
    return bool(late_ms) and float(np.quantile(late_ms, 0.99)) > allowed_ms


def _must_answer(ladder: Ladder) -> None:
    first = ladder.rungs[0] if ladder.rungs else None
    if first is None or not first.requests:
        raise FreeholdError(
            "No answer came in the time a single user had.",
            f"One user waited for {ladder.seconds:.0f} s.",
            "Give the search more time, or ask for shorter answers.",
        )
    if first.failed == 1.0:
        told = next((s.error or f"status {s.status}" for s in ladder.samples[0]), "")
        raise FreeholdError(
            "Every request failed, already with one user.", f"The server said: {told}", "Mend that first."
        )
