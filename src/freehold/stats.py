"""Statistics that more than one room needs. Pure, small, standard library only; each formula names its source.

Distribution functions (beta, Student's t, normal), and a confidence sequence for a share that is looked at again and
again while it is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

_NORMAL = NormalDist()
_BISECTIONS = 80
"""Halvings of an interval: enough to reach the last bit of a double."""


# ---- distribution functions -----------------------------------------------------------------------


def betaln(a: float, b: float) -> float:
    """Natural logarithm of the beta function, a and b over 0."""
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def beta_cdf(x: float, a: float, b: float) -> float:
    """P(Beta(a, b) <= x), the regularised incomplete beta function (Abramowitz and Stegun 26.5.8, by Lentz's
    method)."""
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    front = math.exp(a * math.log(x) + b * math.log1p(-x) - betaln(a, b))
    if x < (a + 1) / (a + b + 2):
        return front * _beta_fraction(x, a, b) / a
    return 1.0 - front * _beta_fraction(1.0 - x, b, a) / b


def _beta_fraction(x: float, a: float, b: float) -> float:
    """The continued fraction behind `beta_cdf`; converges fast for x below (a + 1) / (a + b + 2)."""
    tiny = 1e-300
    c, d = 1.0, 1.0 / _off_zero(1.0 - (a + b) * x / (a + 1.0), tiny)
    value = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for numerator in (even, odd):
            d = 1.0 / _off_zero(1.0 + numerator * d, tiny)
            c = _off_zero(1.0 + numerator / c, tiny)
            value *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return value


def _off_zero(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny


def normal_quantile(p: float) -> float:
    """The z with P(Normal <= z) = p, 0 < p < 1."""
    return _NORMAL.inv_cdf(p)


def t_cdf(t: float, df: float) -> float:
    """P(Student's t with `df` degrees of freedom <= t)."""
    if t * t < df:  # near the middle, the tail's complement would lose what little it differs from a half
        half = beta_cdf(t * t / (df + t * t), 0.5, df / 2) / 2
        return 0.5 + half if t > 0 else 0.5 - half
    tail = beta_cdf(df / (df + t * t), df / 2, 0.5) / 2
    return 1.0 - tail if t > 0 else tail


def t_quantile(p: float, df: float) -> float:
    """The t with P(Student's t <= t) = p, 0 < p < 1."""
    if p < 0.5:
        return -t_quantile(1.0 - p, df)
    top = 1.0
    while t_cdf(top, df) < p:
        top *= 2.0
    return _where(lambda t: t_cdf(t, df) >= p, 0.0, top)


def _where(reached: Callable[[float], bool], low: float, high: float) -> float:
    """Where between `low` and `high` a monotone condition begins to hold."""
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


# ---- a share, looked at again and again -----------------------------------------------------------


def evidence_against(share: float, hits: float, trials: float, prior: tuple[float, float] = (0.5, 0.5)) -> float:
    """Natural logarithm of the beta-binomial mixture likelihood ratio against a true share of `share`.

    It exceeds log(1 / alpha) ever, at any of arbitrarily many looks, with probability alpha at most if the share is
    true (Ville's inequality; Robbins 1970, Howard, Ramdas et al. 2021). `prior` is the Beta the mixture is over: it
    changes how soon a wrong share is found out, never the guarantee.
    """
    a, b = prior
    misses = trials - hits
    if (share <= 0.0 and hits > 0) or (share >= 1.0 and misses > 0):
        return math.inf
    null = (hits * math.log(share) if hits else 0.0) + (misses * math.log1p(-share) if misses else 0.0)
    return betaln(a + hits, b + misses) - betaln(a, b) - null


def share_sequence(hits: float, trials: float, confidence: float = 0.95) -> tuple[float, float]:
    """The confidence sequence of a share: all shares that `evidence_against` doesn't refute. Holds at all looks
    together."""
    if trials <= 0:
        return 0.0, 1.0
    bar = -math.log(1.0 - confidence)
    seen = hits / trials

    def refuted(share: float) -> bool:
        return evidence_against(share, hits, trials) >= bar

    low = _where(lambda share: not refuted(share), 0.0, seen) if refuted(0.0) else 0.0
    high = _where(refuted, seen, 1.0) if refuted(1.0) else 1.0
    return low, high
