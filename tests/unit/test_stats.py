"""Distribution functions against exact sums and closed forms; the confidence sequence against its promise."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.stats import (
    beta_cdf,
    betaln,
    evidence_against,
    normal_quantile,
    share_sequence,
    t_cdf,
    t_quantile,
)

whole = st.integers(1, 40)
share = st.floats(0.001, 0.999)


def binomial_tail(x: float, a: int, b: int) -> float:
    """P(Beta(a, b) <= x) for whole a and b, exactly: at least a hits in a + b - 1 trials."""
    n, p = a + b - 1, Fraction(x)
    return float(sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(a, n + 1)))


@given(share, whole, whole)
def test_beta_is_a_binomial_tail(x: float, a: int, b: int) -> None:
    assert beta_cdf(x, a, b) == pytest.approx(binomial_tail(x, a, b), rel=1e-9, abs=1e-14)


@given(whole, whole)
def test_betaln_by_factorials(a: int, b: int) -> None:
    exact = Fraction(math.factorial(a - 1) * math.factorial(b - 1), math.factorial(a + b - 1))
    assert betaln(a, b) == pytest.approx(math.log(exact.numerator) - math.log(exact.denominator), rel=1e-9, abs=1e-12)


@given(st.floats(-30, 30))
def test_t_by_its_closed_forms(t: float) -> None:
    assert t_cdf(t, 1) == pytest.approx(0.5 + math.atan(t) / math.pi, abs=1e-10)
    assert t_cdf(t, 2) == pytest.approx(0.5 + t / (2 * math.sqrt(2 + t * t)), abs=1e-10)


@pytest.mark.parametrize(
    ("p", "df", "t"), [(0.975, 3, 3.18245), (0.975, 11, 2.20099), (0.95, 5, 2.01505), (0.995, 9, 3.24984)]
)
def test_t_by_the_table(p: float, df: int, t: float) -> None:
    assert t_quantile(p, df) == pytest.approx(t, abs=1e-5)
    assert t_quantile(1 - p, df) == pytest.approx(-t, abs=1e-5)


def test_many_degrees_are_normal() -> None:
    assert t_quantile(0.975, 1e6) == pytest.approx(normal_quantile(0.975), abs=1e-4)
    assert normal_quantile(0.975) == pytest.approx(1.959964, abs=1e-6)


@given(st.integers(0, 60), st.integers(0, 400))
def test_the_sequence_holds_what_was_seen(hits: int, misses: int) -> None:
    n = hits + misses
    low, high = share_sequence(hits, n)
    assert 0 <= low <= high <= 1
    if n:
        assert low <= hits / n <= high
        for share in (low, high):  # its ends are where the evidence is just enough
            if 0 < share < 1:
                assert evidence_against(share, hits, n) == pytest.approx(math.log(20), abs=1e-3)


@given(share, st.integers(0, 50), st.integers(0, 50))
def test_evidence_is_the_likelihood_of_the_mixture_over_that_of_the_share(p: float, hits: int, misses: int) -> None:
    steps = 4_000
    grid = [(i + 0.5) / steps for i in range(steps)]
    mixed = sum(x**hits * (1 - x) ** misses for x in grid) / steps  # a flat prior
    if mixed > 0:
        by_hand = math.log(mixed) - hits * math.log(p) - misses * math.log1p(-p)
        assert evidence_against(p, hits, hits + misses, (1.0, 1.0)) == pytest.approx(by_hand, abs=0.02)


def test_a_true_share_is_refuted_seldom_however_often_one_looks() -> None:
    dice, wrong, runs = random.Random(4), 0, 400
    for _ in range(runs):
        hits = 0
        for n in range(1, 600):
            hits += dice.random() < 0.05
            if evidence_against(0.05, hits, n) >= math.log(20):
                wrong += 1
                break
    assert wrong / runs <= 0.05
