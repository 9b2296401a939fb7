"""Two servers that were asked the same: how their latencies differ, with an interval, and how far their answers agree.

Requests are compared in pairs. Neighbours in time are alike (a queue makes them so), so the interval comes from
resampling whole stretches: the moving-block bootstrap (Künsch 1989), with blocks of the square root of the pairs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import SequenceMatcher

import numpy as np
import numpy.typing as npt

from freehold.core import Record
from freehold.loadtest.arrivals import dice
from freehold.loadtest.record import Columns

Floats = npt.NDArray[np.float64]
RESAMPLES = 1000
CONFIDENCE = 0.95
FEWEST = 8
"""Pairs for an interval."""
TOKEN = re.compile(r"\w+|[^\w\s]")
LONGEST_TOKENS = 2000


class Difference(Record, frozen=True):
    """Of one figure, b minus a, in milliseconds; with fewer than `FEWEST` pairs, without an interval."""

    name: str
    a_ms: float
    b_ms: float
    difference_ms: float
    low_ms: float | None = None
    high_ms: float | None = None

    @property
    def clear(self) -> bool:
        """The interval leaves out 0."""
        return self.low_ms is not None and self.high_ms is not None and not self.low_ms <= 0 <= self.high_ms


class Agreement(Record, frozen=True):
    """Of two answers to the same request."""

    number: int
    exact: bool
    similarity: float
    """Of their words and marks, in order: 1 the same, 0 nothing in common."""


def agreement(number: int, a: str, b: str) -> Agreement:
    """Words and punctuation marks stand for tokens, since two models cut text differently. Twice the matching ones
    over all (Ratcliff and Obershelp), of the first `LONGEST_TOKENS`."""
    if a == b:
        return Agreement(number=number, exact=True, similarity=1.0)
    left, right = TOKEN.findall(a)[:LONGEST_TOKENS], TOKEN.findall(b)[:LONGEST_TOKENS]
    similarity = SequenceMatcher(None, left, right, autojunk=False).ratio() if left or right else 1.0
    return Agreement(number=number, exact=False, similarity=similarity)


def differences(a: Columns, b: Columns, seed: int = 0) -> list[Difference]:
    """TTFT and end to end, at p50, p95 and p99, of the pairs that both answered whole."""
    left, right = _pairs(a, b)
    found = []
    for name, of in (("ttft", lambda rows: rows.first_s), ("e2e", lambda rows: rows.end_s)):
        values_a, values_b = _ms(a, left, of), _ms(b, right, of)
        told = ~(np.isnan(values_a) | np.isnan(values_b))
        for p in (0.5, 0.95, 0.99):
            if told.any():
                found.append(_difference(f"p{p * 100:g} {name}", values_a[told], values_b[told], p, seed))
    return found


def _pairs(a: Columns, b: Columns) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows of `a` and of `b` with the same number, both ok, in order of time."""
    ok_a, ok_b = np.flatnonzero(a.were("ok")), np.flatnonzero(b.were("ok"))
    _, at_a, at_b = np.intersect1d(a.number[ok_a], b.number[ok_b], return_indices=True)
    return ok_a[at_a], ok_b[at_b]


def _ms(rows: Columns, at: npt.NDArray[np.intp], of: Callable[[Columns], Floats]) -> Floats:
    return (of(rows)[at] - rows.intended_s[at]) * 1e3


def _difference(name: str, a: Floats, b: Floats, p: float, seed: int) -> Difference:
    at_a, at_b = (float(np.quantile(each, p, method="inverted_cdf")) for each in (a, b))
    plain = Difference(name=name, a_ms=at_a, b_ms=at_b, difference_ms=at_b - at_a)
    if a.size < FEWEST:
        return plain
    rows = _resampled(a.size, seed)
    again = np.quantile(b[rows], p, axis=1) - np.quantile(a[rows], p, axis=1)
    low, high = np.quantile(again, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Difference(
        name=name, a_ms=at_a, b_ms=at_b, difference_ms=at_b - at_a, low_ms=float(low), high_ms=float(high)
    )


def _resampled(count: int, seed: int) -> npt.NDArray[np.intp]:
    """Rows of pairs, `RESAMPLES` times: stretches of neighbours put one after another."""
    length = max(1, round(count**0.5))
    blocks = -(-count // length)
    starts = dice(seed, "lengths", 3).integers(count - length + 1, size=(RESAMPLES, blocks))
    return np.asarray((starts[:, :, None] + np.arange(length)).reshape(RESAMPLES, -1)[:, :count])
