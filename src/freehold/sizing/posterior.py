"""What all trials together say about where the knee is: a grid of chances, sharpened by each look.

Near the knee the odds of a miss grow as exp(slope * rate / knee): exactly so for an M/M/1 queue, and nearly for
whatever has an exponential tail. So there are two unknowns, knee and slope. Each trial weighs in with its *effective*
requests; far from the knee, where that law need not hold, a trial only says on which side it is. The ladder's guess
is the prior, with heavy tails in case it is wrong. Trials go where this puts the knee (probabilistic bisection:
Waeber, Frazier and Henderson 2013).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from freehold.sizing.bracket import Guess

Floats = NDArray[np.float64]

KNEES = 361
SLOPES = 21
LOWEST, HIGHEST = 60.0, 1.35
"""The knee lies between the measured capacity over `LOWEST` and `HIGHEST` times it."""
LAW_OFF = 0.03
"""Standard deviation of ln(knee) that no amount of data takes away: the law is a law near the knee only."""
GUESS_SPREAD = 0.25
"""Standard deviation of ln(guess)."""
SLOPE_SPREAD = 0.9
"""Standard deviation of ln(slope)."""
DOUBT = 0.1
"""Chance that the guess is wrong altogether."""
LOCAL = 8.0
"""Shares within this factor of the allowed one obey the law; beyond, only the side counts."""


class Weighed(NamedTuple):
    """One objective in one trial: effective misses of effective requests at a rate."""

    rate_per_s: float
    misses: float
    requests: float


class Posterior:
    """Chances of the knee of one objective over `rates`."""

    def __init__(self, rates: Floats, guess: Guess, allowed: float) -> None:
        self.rates = rates
        self.allowed = allowed
        spread = GUESS_SPREAD
        off = (np.log(rates) - np.log(guess.rate_per_s)) / spread
        near = np.exp(-0.5 * off**2)
        prior = (1 - DOUBT) * near / near.sum() + DOUBT / len(rates)
        steps = np.linspace(-2.0, 2.0, SLOPES)
        self.slopes = guess.slope * np.exp(SLOPE_SPREAD * steps)
        step = float(np.log(rates[1] / rates[0]))
        self._blur = np.exp(-0.5 * (np.arange(-6, 7) * step / LAW_OFF) ** 2)
        self.prior = np.log(prior)[:, None] - 0.5 * steps[None, :] ** 2
        self.chances = _normal(self.prior).sum(axis=1)

    def update(self, trials: Sequence[Weighed]) -> None:
        """Weigh all trials anew."""
        log_chance = self.prior
        wanted = np.log(self.allowed / (1 - self.allowed))
        low, high = self.allowed / LOCAL, min(0.9, self.allowed * LOCAL)
        for trial in trials:
            odds = wanted + self.slopes[None, :] * (trial.rate_per_s / self.rates[:, None] - 1)
            share = 1 / (1 + np.exp(-np.clip(odds, -30, 30)))
            share = np.clip(share, low, high)
            seen = min(trial.misses, trial.requests * high)
            log_chance = log_chance + seen * np.log(share) + (trial.requests - seen) * np.log1p(-share)
        self.chances = np.convolve(_normal(log_chance).sum(axis=1), self._blur, mode="same")
        self.chances /= self.chances.sum()


def _normal(log_chance: Floats) -> Floats:
    chance = np.exp(log_chance - log_chance.max())
    return np.asarray(chance / chance.sum())


def lowest(posteriors: Sequence[Posterior]) -> Floats:
    """Distribution function over the common rates of the lowest of several knees: all objectives must be kept."""
    above = np.ones(len(posteriors[0].rates))
    for posterior in posteriors:
        above = above * (1 - np.cumsum(posterior.chances))
    return 1 - above


def quantile(rates: Floats, cumulated: Floats, q: float) -> float:
    """The rate below which the knee is with chance q, between grid points on the logarithm."""
    return float(np.exp(np.interp(q, cumulated, np.log(rates))))


def spread_of(rates: Floats, cumulated: Floats, confidence: float) -> tuple[float, float, float]:
    """(low, median, high) of the knee."""
    tail = (1 - confidence) / 2
    low, middle, high = (quantile(rates, cumulated, q) for q in (tail, 0.5, 1 - tail))
    return low, middle, high


def half_width(low: float, high: float) -> float:
    """Half of an interval on the logarithm: about the relative error either way."""
    return float(np.log(high / low) / 2)


def grid(capacity_per_s: float) -> Floats:
    """Rates that the knee may have, evenly on the logarithm."""
    return np.geomspace(capacity_per_s / LOWEST, capacity_per_s * HIGHEST, KNEES)
