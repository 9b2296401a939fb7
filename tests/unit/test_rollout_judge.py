"""The decision about a new model: by enough answers, not by chance, and each way with its reason."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core import Answer, Result, Usage
from freehold.errors import EngineFailed, PromptTooLong
from freehold.worker.judge import ENOUGH, PATIENCE, Ending, binomial_tail, judge, more_often, p99
from freehold.worker.presence import ending_of

WINDOW_S = 60.0


def good(count: int, ms: float = 100.0, tokens: float = 50.0, seed: int = 1) -> list[Ending]:
    """Answers whose times are spread as real ones are."""
    dice = random.Random(seed)
    return [Ending(what="ok", ms=ms * dice.lognormvariate(0, 0.3), tokens=tokens) for _ in range(count)]


def bad(count: int, what: str = "failed") -> list[Ending]:
    return [Ending(what=what)] * count  # type: ignore[arg-type]


def test_equals_take_over_after_the_window_and_not_before() -> None:
    assert judge(good(900), good(100, seed=2), WINDOW_S, 59.0).decision == "wait"
    verdict = judge(good(900), good(100, seed=2), WINDOW_S, 60.0)
    assert verdict.decision == "take_over"
    assert "p99" in verdict.reason


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (good(90) + bad(10), "fails more often"),
        (good(90) + bad(10, "refused"), "refuses more often"),
        (good(100, ms=200), "slower"),
        (good(100, tokens=400), "another length"),
        (good(100, tokens=3), "another length"),
    ],
)  # fmt: skip
def test_the_worse_is_rolled_back_with_the_reason(new: list[Ending], words: str) -> None:
    verdict = judge(good(900), new, WINDOW_S, 60.0)
    assert (verdict.decision, words in verdict.reason) == ("roll_back", True), verdict


def test_failures_end_it_before_the_window_does() -> None:
    assert judge(good(100), bad(10), WINDOW_S, 2.0).decision == "roll_back"
    assert judge(good(100), bad(1), WINDOW_S, 2.0).decision == "wait"


def test_an_old_one_that_fails_as_often_is_no_better() -> None:
    verdict = judge(good(800) + bad(100), good(90, seed=2) + bad(10), WINDOW_S, 60.0)
    assert verdict.decision == "take_over"


def test_too_few_answers_are_waited_for_and_then_say_nothing() -> None:
    few = good(ENOUGH - 1)
    assert judge(good(900), few, WINDOW_S, 5 * WINDOW_S).decision == "wait"
    verdict = judge(good(900), few, WINDOW_S, PATIENCE * WINDOW_S)
    assert verdict.decision == "roll_back"
    assert "--canary 100%" in verdict.reason


def test_chance_hardly_ever_rolls_back_an_equal() -> None:
    lost = 0
    for seed in range(200):
        old, new = good(500, seed=seed), good(60, seed=10_000 + seed)
        lost += judge(old, new, WINDOW_S, 60.0).decision != "take_over"
    assert lost <= 4


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_fisher_s_tail_is_a_chance_and_falls_with_the_difference(a: int, b: int, c: int, d: int) -> None:
    chance = more_often(a, a + b, c, c + d)
    assert 0.0 <= chance <= 1.0
    if b:
        assert more_often(a + 1, a + b, c, c + d) <= chance + 1e-9


def test_the_tails_are_the_textbook_s() -> None:
    assert more_often(3, 4, 1, 4) == pytest.approx(17 / 70)  # the lady tasting tea
    assert binomial_tail(2, 3, 0.5) == pytest.approx(0.5)
    assert binomial_tail(0, 3, 0.5) == 1.0
    assert p99(range(1, 101)) == 99


def test_what_counts_as_a_refusal() -> None:
    refused = Result(failure=PromptTooLong("Too long.").failure(), total_ms=5, queued_ms=3)
    assert ending_of(refused) == Ending(what="refused", ms=2)
    assert ending_of(Result(failure=EngineFailed("Broken.").failure())).what == "failed"
    assert ending_of(Result(answers=(Answer(finish="content_filter"),))).what == "refused"
    two = Result(answers=(Answer(), Answer()), usage=Usage(completion_tokens=30), total_ms=9)
    assert ending_of(two) == Ending(what="ok", ms=9, tokens=15)
