"""When is one trial's verdict certain? As early as the data allow, looked at as often as one likes.

Each objective's share of misses is tested by a confidence sequence on *effective* requests, so neighbours that waited
together count once. A rising backlog is never a pass; if the newest requests miss as well, it is a fail: there is no
steady state to wait for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from freehold.core import Record
from freehold.sizing.dependence import design_effect, tail_effect
from freehold.sizing.evidence import View
from freehold.sizing.posterior import Weighed
from freehold.slo import Objective
from freehold.stats import evidence_against

Verdict = Literal["pass", "fail", "open"]

PASS_TIMES = 10.0
"""Times that a long answer takes, before a rate may pass."""
FEWEST = 20
"""Requests before any verdict."""
CERTAIN_MISSES = 12
"""From so many misses on, their own clustering tells the design effect; below, that of the largest 5 % stands in."""

CAUTION = 1.4
"""By how much a design effect from a few dozen blocks is enlarged, so that the interval covers as often as it says
(`benchmarks/knee.py` counts)."""


class Standing(Record, frozen=True):
    """One objective in one trial, so far: the share of misses among `units`, each `effect` of which are worth one."""

    objective: Objective
    share: float
    units: float
    effect: float
    verdict: Verdict

    @property
    def effective(self) -> float:
        return self.units / self.effect


def standings(view: View, alpha: float = 0.05) -> tuple[Standing, ...]:
    """How each objective stands; `alpha` is the chance that any of the verdicts is ever wrong."""
    each = alpha / max(1, len(view.trial.objectives))
    return tuple(_standing(view, i, objective, each) for i, objective in enumerate(view.trial.objectives))


def _standing(view: View, i: int, objective: Objective, alpha: float) -> Standing:
    units = float(view.units[i].sum())
    if not units or view.requests < FEWEST:
        return Standing(objective=objective, share=math.nan, units=0.0, effect=1.0, verdict="open")
    share = float(view.misses[i].sum()) / units
    effect = _effect(view, i)
    effective = units / effect
    prior = (0.5, 0.5 * (1 - objective.allowed) / objective.allowed)
    certain = evidence_against(objective.allowed, share * effective, effective, prior) >= -math.log(alpha)
    verdict: Verdict = "open"
    if certain:
        verdict = "fail" if share > objective.allowed else ("pass" if _long_enough(view) else "open")
    if view.is_rising and verdict != "fail":
        verdict = "fail" if _late_share(view, i) > max(4 * objective.allowed, 0.2) else "open"
    return Standing(objective=objective, share=share, units=units, effect=effect, verdict=verdict)


def _effect(view: View, i: int) -> float:
    """The design effect of objective i. Where misses are few it can't be seen in them, so that of the largest values
    stands in: longer waits cluster no more than shorter ones."""
    own = design_effect(view.misses[i], view.units[i])
    if view.misses[i].sum() >= CERTAIN_MISSES:
        return own
    values = view.values_ms[i]
    if not np.isfinite(values).any():
        values = view.rows[:, 2] - view.rows[:, 1]
    top = values[np.isfinite(values)].max(initial=0.0)
    return max(own, tail_effect(np.minimum(values, top), 0.05) * float(view.units[i].mean()))


def _long_enough(view: View) -> bool:
    """A queue takes its time to build up: a trial of a few answers' length has not seen what this rate does."""
    took_s = view.rows[:, 2] - view.rows[:, 1]
    usual_s = float(np.quantile(took_s[np.isfinite(took_s)], 0.95)) if np.isfinite(took_s).any() else math.inf
    return view.trial.now_s - view.warm_s >= PASS_TIMES * usual_s


def _late_share(view: View, i: int) -> float:
    """Share of misses in the last quarter of what can be judged."""
    last = slice(-max(1, view.requests // 4), None)
    return float(view.misses[i][last].sum()) / max(1.0, float(view.units[i][last].sum()))


def overall(each: tuple[Standing, ...]) -> Verdict:
    """All objectives must be kept: one that fails decides, and a pass needs all."""
    verdicts = {standing.verdict for standing in each}
    if "fail" in verdicts:
        return "fail"
    return "pass" if verdicts == {"pass"} else "open"


def weighed(told: Sequence[tuple[float, Standing]]) -> list[Weighed]:
    """What (rate, standing) of one objective in all trials weigh together. Each design effect is drawn towards that
    of all: where by chance few requests waited the effect looks small as well, and lucky trials would outweigh
    unlucky ones."""
    told = [(rate, standing) for rate, standing in told if standing.units]
    if not told:
        return []
    units = sum(standing.units for _, standing in told)
    shared = sum(standing.units * standing.effect for _, standing in told) / units
    weights = []
    for rate, standing in told:
        effect = CAUTION * math.sqrt(standing.effect * shared)
        weights.append(Weighed(rate, standing.share * standing.units / effect, standing.units / effect))
    return weights
