"""One trial as columns: every sample judged once when it comes, looked at as arrays whenever a verdict is sought.

Decides which requests may be judged at a moment: only those old enough that each has either ended or certainly missed
its limit. Otherwise the quick ones would be counted and the slow ones not yet, and every server would look good.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from freehold.sample import Sample
from freehold.sizing.warmup import backlog, filled_from, rising, warm_from
from freehold.slo import Objective, judge

Floats = NDArray[np.float64]

STUCK = 3.0
"""A request this many times older than any answer seen will not come."""


class Trial:
    """What one trial has shown so far. Feed it with `add`, then ask `view`."""

    def __init__(self, objectives: Sequence[Objective], rate_per_s: float) -> None:
        self.objectives = tuple(objectives)
        self.rate_per_s = rate_per_s
        self.now_s = 0.0
        self.samples: list[Sample] = []
        self._rows: list[tuple[float, ...]] = []

    def add(self, now_s: float, samples: Sequence[Sample]) -> None:
        self.now_s = now_s
        self.samples += samples
        for sample in samples:
            row: list[float] = [sample.number, sample.intended_s, sample.end_s, sample.sent_s]
            for objective in self.objectives:
                misses, units, value_ms = judge(objective, sample)
                row += (misses, units, math.inf if value_ms is None else value_ms)
            self._rows.append(tuple(row))

    def view(self) -> View:
        return View(self, np.array(self._rows, float).reshape(len(self._rows), 4 + 3 * len(self.objectives)))


class View:
    """A trial at one moment: `misses[i]`, `units[i]` and `values_ms[i]` of objective i, request by request in the
    order they were wanted, without warm-up and without those too young to judge."""

    def __init__(self, trial: Trial, rows: Floats) -> None:
        self.trial = trial
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        rows = _with_pending(rows, trial)
        old = rows[:, 1] <= trial.now_s - _patience_s(trial, rows)
        last_s = float(rows[-1, 1]) if len(rows) else 0.0
        self.moments_s, self.waiting = backlog(rows[:, 1], rows[:, 2], min(last_s, trial.now_s))
        self.is_rising = len(rows) >= 16 and rising(self.waiting)
        took = np.minimum(rows[:, 2], trial.now_s) - rows[:, 1]
        judged = rows[old]
        self.warm = 0
        if len(judged) and not self.is_rising:
            full_s = self.moments_s[filled_from(self.waiting)]
            self.warm = max(warm_from(took[old]), min(int(np.searchsorted(judged[:, 1], full_s)), len(judged) // 3))
        self.warm_s = float(judged[self.warm, 1]) if self.warm else 0.0
        self.rows = judged[self.warm :]
        self.requests = len(self.rows)
        columns = [self.rows[:, 4 + 3 * i : 7 + 3 * i] for i in range(len(trial.objectives))]
        self.misses = [column[:, 0] for column in columns]
        self.units = [column[:, 1] for column in columns]
        self.values_ms = [column[:, 2] for column in columns]


def _patience_s(trial: Trial, rows: Floats) -> float:
    """How old a request must be to be judged: past the limits on whole answers; for other metrics, as old as nearly
    every answer takes, since only an ended request tells its first token."""
    patience_s = max((o.limit_ms / 1000 for o in trial.objectives if o.metric == "e2e"), default=0.0)
    took = rows[:, 2] - rows[:, 1]
    took = took[np.isfinite(took)]
    if len(took) and any(o.metric != "e2e" for o in trial.objectives):
        patience_s = max(patience_s, float(np.quantile(took, 0.99)))
    return patience_s


def _with_pending(rows: Floats, trial: Trial) -> Floats:
    """Adds the requests that later ones have overtaken: sent, and not ended. One older than the limit on whole
    answers has missed it; to the other metrics it counts for nothing until it is far older than any answer."""
    if not len(rows):
        return rows
    missing = np.setdiff1d(np.arange(int(rows[-1, 0])), rows[:, 0].astype(int))
    if not len(missing):
        return rows
    wanted_s = np.interp(missing, rows[:, 0], rows[:, 1])
    longest_s = float((rows[:, 2] - rows[:, 1]).max())
    pending = np.empty((len(missing), rows.shape[1]))
    pending[:, 0], pending[:, 1], pending[:, 2], pending[:, 3] = missing, wanted_s, math.inf, wanted_s
    for i, objective in enumerate(trial.objectives):
        limit_s = objective.limit_ms / 1000
        lost = trial.now_s - wanted_s > (limit_s if objective.metric == "e2e" else STUCK * longest_s + limit_s)
        pending[:, 4 + 3 * i] = pending[:, 5 + 3 * i] = lost
        pending[:, 6 + 3 * i] = math.inf
    merged = np.concatenate([rows, pending])
    return merged[np.argsort(merged[:, 0], kind="stable")]
