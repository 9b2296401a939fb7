"""Sketches against brute force: the promised error, and exact merging."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.sketch import ERROR, Sketch, Told, of, together

values = st.floats(0, 1e11, allow_nan=False) | st.floats(1e-5, 1e4)
many = st.lists(values, min_size=1, max_size=300)


def sketch_of(numbers: list[float]) -> Sketch:
    found = Sketch()
    for number in numbers:
        found.add(number)
    return found


@given(numbers=many, q=st.floats(0, 1))
def test_a_quantile_is_within_the_promised_error(numbers: list[float], q: float) -> None:
    exact = sorted(numbers)[max(1, math.ceil(q * len(numbers) - 1e-9)) - 1]
    told = sketch_of(numbers).quantile(q)
    assert told is not None
    assert abs(told - exact) <= ERROR * exact * (1 + 1e-9) + 1e-6


@given(numbers=st.lists(values | st.floats(-1, 1e13, allow_nan=False)), parts=st.integers(1, 5))
def test_many_at_once_are_as_one_by_one(numbers: list[float], parts: int) -> None:
    together_, one_by_one = Sketch(), sketch_of(numbers)
    for at in range(parts):
        together_.add_all(numbers[at::parts])
    assert (together_.bins, together_.zeros, together_.count) == (
        one_by_one.bins, one_by_one.zeros, one_by_one.count
    )  # fmt: skip
    assert (together_.least, together_.most) == (one_by_one.least, one_by_one.most)
    assert together_.total == pytest.approx(one_by_one.total)


@given(parts=st.lists(many, min_size=1, max_size=6))
def test_parts_together_are_the_whole(parts: list[list[float]]) -> None:
    """However it was cut: workers, gateways, minutes."""
    whole = sketch_of([number for part in parts for number in part])
    merged = together(sketch_of(part) for part in parts)
    assert merged.bins == whole.bins
    assert (merged.count, merged.zeros, merged.least, merged.most) == (
        whole.count, whole.zeros, whole.least, whole.most
    )  # fmt: skip
    assert merged.total == pytest.approx(whole.total)


@given(numbers=many)
def test_a_sketch_survives_its_rest(numbers: list[float]) -> None:
    before = sketch_of(numbers)
    after = of(msgspec.msgpack.decode(msgspec.msgpack.encode(before.told()), type=Told))
    assert after.bins == before.bins
    assert after.count == before.count
    assert [after.quantile(q) for q in (0, 0.5, 0.99, 1)] == [before.quantile(q) for q in (0, 0.5, 0.99, 1)]


@given(numbers=many, limit=st.floats(0.001, 1e6))
def test_what_is_above_a_limit_is_counted(numbers: list[float], limit: float) -> None:
    above = sketch_of(numbers).above(limit)
    assert sum(n > limit * 1.0203 for n in numbers) <= above <= sum(n > limit / 1.0203 for n in numbers)


def test_nothing_has_no_quantile_and_wild_values_are_bounded() -> None:
    assert Sketch().quantile(0.5) is None
    wild = sketch_of([-1.0, 0.0, 1e300, 5e-324])
    assert wild.zeros == 3
    assert len(wild.bins) == 1
    assert wild.quantile(0.01) == 0.0
