"""Loops against their slow twin; a change test that keeps its promise about false alarms and delay."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.telemetry.tokens import (
    ALARM,
    LEARN,
    LEAST_CHARS,
    LONGEST_PERIOD,
    LOOK_CHARS,
    REPEATS,
    SLACK,
    TAIL_CHARS,
    Lengthening,
    loops,
    may_loop,
)


def slow_loops(text: str) -> bool:
    tail = text[-TAIL_CHARS:]
    for period in range(1, LONGEST_PERIOD + 1):
        span = max(REPEATS * period, LEAST_CHARS)
        if len(tail) >= span and all(tail[-i] == tail[-i - period] for i in range(1, span - period + 1)):
            return True
    return False


@settings(deadline=None, max_examples=200)
@given(
    head=st.text("abc \n", max_size=300), piece=st.text("abcd ", min_size=1, max_size=120), times=st.integers(0, 30),
    end=st.text("abx", max_size=3),
)  # fmt: skip
def test_loops_are_those_of_the_slow_twin(head: str, piece: str, times: int, end: str) -> None:
    text = head + piece * times + end
    assert loops(text) is slow_loops(text)
    assert may_loop(text[-LOOK_CHARS:]) or not loops(text)


def test_prose_and_short_rulers_are_no_loops() -> None:
    assert not loops("-" * 60)
    assert not loops("Ha! " * 20)
    assert not loops(" ".join(str(i) for i in range(2000)))
    assert loops("I am sorry. " * 40)
    assert loops("Once upon a time. " + "\n" * 200)


def lengths(seed: int, count: int, factor: float = 1.0) -> list[tuple[int, int]]:
    dice = random.Random(seed)
    told = []
    for _ in range(count):
        prompt = dice.choice([20, 150, 900])
        told.append((prompt, max(1, round(factor * prompt**0.3 * dice.lognormvariate(3.0, 0.5)))))
    return told


@pytest.mark.parametrize("seed", range(5))
def test_ordinary_answers_raise_no_alarm_and_longer_ones_soon_do(seed: int) -> None:
    seen = Lengthening()
    for prompt, answer in lengths(seed, 20_000):
        seen.add(prompt, answer)
        assert not seen.rambling
    assert seen.longer == pytest.approx(1.0, abs=0.4)
    longer = iter(lengths(seed + 100, round(4 * ALARM / (1.0 - SLACK)), 1.65))  # by one deviation
    while not seen.rambling:
        seen.add(*next(longer))
    assert seen.longer is not None
    assert seen.longer > 1.1
    for prompt, answer in lengths(seed + 200, 400):
        seen.add(prompt, answer)
    assert not seen.rambling


def test_other_prompts_are_no_change() -> None:
    """Long prompts have long answers: more of them is not rambling."""
    seen = Lengthening()
    for prompt, answer in lengths(7, 3000):
        seen.add(prompt, answer)
    for prompt, answer in lengths(8, 3000):
        if prompt == 900:
            seen.add(prompt, answer)
            assert not seen.rambling


def test_nothing_is_said_without_a_baseline() -> None:
    seen = Lengthening()
    for _ in range(LEARN):
        seen.add(10, 100)
    assert seen.longer is None
    seen.add(10, 200)
    assert seen.longer == pytest.approx(2.0)
