"""Accept or refuse: laws of the decision, and what becomes of a simulated crowd under it."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from freehold.admission import Ask, Limits, Line, Pace, decide, drain_s, own_time_s, step_time_s, work_tokens
from freehold.backlog import Backlog
from simulated import Simulation, poisson

PACE = Pace(step_s=0.02, lone_step_s=0.02, places=8)
amount = st.floats(0, 1e6)
count = st.integers(0, 200)
asks = st.builds(
    Ask,
    prompt_tokens=st.floats(0, 5000),
    answer_tokens=st.floats(1, 500),
    most_tokens=st.floats(1, 1000),
    answers=st.integers(1, 4),
    bytes=st.integers(0, 100_000),
    due_in_s=st.floats(0.01, 60) | st.just(math.inf),
)
lines = st.builds(
    Line, requests=count, tokens=amount, bytes=amount, running=count, running_work=amount, ahead=count,
    ahead_work=amount, class_work=amount, slack_s=st.floats(-5, 60) | st.just(math.inf), of_key=st.integers(0, 20),
    ready_in_s=st.floats(0, 9), promised=count, answers=count,
)  # fmt: skip
paces = st.builds(
    Pace, step_s=st.floats(0.001, 0.5), lone_step_s=st.floats(0.001, 0.1), prefill_s=st.floats(0, 0.01),
    stretch=st.floats(1, 3), places=st.integers(1, 64), workers=st.integers(1, 4),
)  # fmt: skip
limits = st.builds(
    Limits, requests=st.integers(0, 200), tokens=st.integers(0, 10**6), bytes=st.integers(0, 10**6),
    of_key=st.integers(0, 20), slots=st.booleans(),
)  # fmt: skip
UP = (
    "answers",
    "requests",
    "tokens",
    "bytes",
    "running",
    "running_work",
    "ahead",
    "ahead_work",
    "class_work",
    "of_key",
    "ready_in_s",
)


@given(ask=asks, line=lines, pace=paces, limits=limits, more=lines)
@settings(max_examples=300)
def test_more_queue_never_turns_a_refusal_into_an_acceptance(
    ask: Ask, line: Line, pace: Pace, limits: Limits, more: Line
) -> None:
    longer = msgspec.structs.replace(
        line,
        slack_s=min(line.slack_s, more.slack_s),
        **{name: getattr(line, name) + getattr(more, name) for name in UP},
    )
    if decide(ask, line, pace, limits).reason:
        assert decide(ask, longer, pace, limits).reason


@given(ask=asks, line=lines, pace=paces, limits=limits, slower=st.floats(1, 10))
def test_a_slower_pace_never_turns_a_refusal_into_an_acceptance(
    ask: Ask, line: Line, pace: Pace, limits: Limits, slower: float
) -> None:
    slow = msgspec.structs.replace(pace, step_s=pace.step_s * slower, lone_step_s=pace.lone_step_s * slower)
    if decide(ask, line, pace, limits).reason:
        assert decide(ask, line, slow, limits).reason


@given(ask=asks, line=lines, pace=paces, limits=limits)
def test_a_refusal_says_when_unless_it_is_never(ask: Ask, line: Line, pace: Pace, limits: Limits) -> None:
    verdict = decide(ask, line, pace, limits)
    never = verdict.reason == "slots" and ask.answers > pace.places * pace.workers
    if verdict.reason in ("", "hopeless") or never:
        assert verdict.retry_after_s is None
    else:
        assert verdict.retry_after_s is not None
        assert 0 < verdict.retry_after_s < math.inf


def test_nothing_known_refuses_only_for_the_bounds() -> None:
    ask = Ask(prompt_tokens=10, answer_tokens=100, most_tokens=100, due_in_s=0.001)
    assert not decide(ask, Line(requests=3, ahead_work=1e9), Pace(), Limits(requests=4)).reason
    full = decide(ask, Line(requests=4), Pace(), Limits(requests=4))
    assert (full.reason, full.retry_after_s) == ("requests", 1.0)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (Line(requests=10), "requests"),
        (Line(tokens=950), "tokens"),
        (Line(bytes=9_990), "bytes"),
        (Line(of_key=3), "key"),
        (Line(running=8, running_work=300, ahead_work=2000), "deadline"),
        (Line(running=8, slack_s=0.01), "deadline"),
        (Line(), ""),
    ],
)
def test_what_is_in_the_way(line: Line, reason: str) -> None:
    ask = Ask(prompt_tokens=20, answer_tokens=40, most_tokens=40, bytes=80, due_in_s=3.0)
    verdict = decide(ask, line, PACE, Limits(requests=10, tokens=1000, bytes=10_000, of_key=3))
    assert verdict.reason == reason


def test_a_deadline_that_an_idle_server_misses_is_hopeless() -> None:
    verdict = decide(
        Ask(prompt_tokens=1, answer_tokens=100, most_tokens=100, due_in_s=1.0), Line(), PACE, Limits(requests=10)
    )
    assert (verdict.reason, verdict.retry_after_s) == ("hopeless", None)
    assert verdict.end_s == pytest.approx(2.0)


def test_one_request_over_the_token_limit_may_go_when_nothing_waits() -> None:
    ask = Ask(prompt_tokens=5000, answer_tokens=1, most_tokens=1)
    assert not decide(ask, Line(), PACE, Limits(requests=10, tokens=1000)).reason
    assert decide(ask, Line(tokens=1), PACE, Limits(requests=10, tokens=1000)).reason == "tokens"


def test_the_figures_behind_it() -> None:
    pace = Pace(step_s=0.04, lone_step_s=0.01, prefill_s=0.001, places=4, workers=2)
    ask = Ask(prompt_tokens=100, answer_tokens=10, most_tokens=20, answers=2)
    assert work_tokens(ask, pace) == pytest.approx(2 * 10 + 100 * 0.001 * 4 / 0.04)
    assert drain_s(80, pace) == pytest.approx(80 * 0.04 / 8)
    assert [step_time_s(pace, n) for n in (1, 2, 4, 8, 99)] == pytest.approx([0.01, 0.01, 0.02, 0.04, 0.04])
    assert own_time_s(ask, pace, 8) == pytest.approx(0.1 + 20 * 0.04)
    assert own_time_s(msgspec.structs.replace(ask, answers=9), pace, 8) == pytest.approx(0.1 + 2 * 20 * 0.04)


# ---- a crowd -------------------------------------------------------------------------------------

loads = st.lists(
    st.tuples(st.floats(0, 0.2), st.integers(1, 60), st.floats(0.05, 8) | st.just(math.inf)), min_size=1, max_size=60
)


@given(load=loads, places=st.integers(1, 8))
@example(load=[(0.0, 1, math.inf), (0.00390625, 2, 0.0546875)], places=1)
@settings(max_examples=150, deadline=None)
def test_who_is_accepted_with_a_deadline_meets_it(load: list[tuple[float, int, float]], places: int) -> None:
    simulation = Simulation(Pace(step_s=0.02, lone_step_s=0.02, places=places))
    at_s = 0.0
    for number, (gap_s, tokens, due_in_s) in enumerate(load):
        at_s += gap_s
        simulation.arrive(
            at_s, number, Ask(prompt_tokens=0, answer_tokens=tokens, most_tokens=tokens, due_in_s=due_in_s)
        )
    simulation.run()
    assert simulation.late == 0


CAPACITY = 8 / 0.02 / 40
"""Requests/s of `PACE` with answers of 40 tokens, each 0.8 s long."""


@pytest.mark.parametrize("load", [1.5, 3.0, 6.0])
@pytest.mark.parametrize("deadline_s", [2.0, 5.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_who_comes_back_when_told_is_answered(load: float, deadline_s: float, seed: int) -> None:
    simulation = Simulation(PACE)
    ask = Ask(prompt_tokens=1, answer_tokens=40, most_tokens=40, due_in_s=deadline_s)
    for number, at_s in enumerate(poisson(load * CAPACITY, 30, seed)):
        simulation.arrive(at_s, number, ask)
    simulation.run()
    back = simulation.first_retries
    assert len(back) > 50
    assert sum(back) >= 0.9 * len(back)
    assert simulation.late == 0
    assert sum(at_s <= 30 for at_s in simulation.in_time_s) >= 0.9 * 30 * CAPACITY


@pytest.mark.parametrize("deadline_s", [1.2, 3.0])
def test_places_are_not_kept_for_those_who_never_come(deadline_s: float) -> None:
    simulation = Simulation(PACE)
    ask = Ask(prompt_tokens=1, answer_tokens=40, most_tokens=40, due_in_s=deadline_s)
    for number, at_s in enumerate(poisson(3 * CAPACITY, 60, 3)):
        simulation.arrive(at_s, number, ask)
    simulation.run(obedient=False)
    assert sum(20 < at_s <= 60 for at_s in simulation.in_time_s) >= 0.9 * 40 * CAPACITY


def test_a_full_queue_without_deadlines_tells_when_there_is_room() -> None:
    simulation = Simulation(PACE, Limits(requests=40))
    ask = Ask(prompt_tokens=0, answer_tokens=40, most_tokens=40)
    for number, at_s in enumerate(poisson(3 * CAPACITY, 30, 4)):
        simulation.arrive(at_s, number, ask)
    simulation.run()
    assert len(simulation.first_retries) > 50
    assert sum(simulation.first_retries) >= 0.9 * len(simulation.first_retries)


def test_the_urgent_are_not_turned_away_for_the_patient() -> None:
    """A class that goes first is let in, although one with a deadline behind it will be late."""
    backlog, ask = Backlog(), Ask(prompt_tokens=0, answer_tokens=40, most_tokens=40, due_in_s=3.0, priority=1)
    for number in range(20):
        backlog.add(str(number), ask, PACE, 0.0)
    for priority, reason in ((1, "deadline"), (0, "")):
        asked = msgspec.structs.replace(ask, priority=priority, due_in_s=2.5)
        line = backlog.line(asked, PACE, 0.0, 320.0)
        assert decide(asked, line, PACE, Limits(requests=99)).reason == reason


def test_a_backlog_that_is_empty_again_holds_nothing() -> None:
    backlog, ask = Backlog(), Ask(prompt_tokens=3.3, answer_tokens=40.7, most_tokens=60, bytes=11, due_in_s=9.0)
    for number in range(50):
        backlog.add(str(number), ask, PACE, float(number) / 10)
    for number in range(0, 50, 2):
        backlog.begin(str(number))
    backlog.requeue("4")
    for number in range(50):
        backlog.end(str(number))
    backlog.promise(b"x", ask, PACE, 0.0, 5.0)
    assert backlog.promises == 1
    assert not backlog.redeem(b"x", 4.0)
    assert backlog.redeem(b"x", 5.0)
    assert not backlog.redeem(b"x", 5.0)
    line = backlog.line(ask, PACE, 100.0, 0.0)
    assert line == Line()
    assert (backlog.running, backlog.waiting, backlog.promises) == ({}, {}, 0)


def test_where_nobody_may_wait_only_a_free_place_lets_in() -> None:
    ask = Ask(prompt_tokens=1, answer_tokens=10, most_tokens=10, answers=2)
    limits = Limits(requests=100, slots=True)
    assert not decide(ask, Line(running=6), PACE, limits).reason
    full = decide(ask, Line(running=6, answers=1, running_work=600), PACE, limits)
    assert (full.reason, full.retry_after_s) == ("slots", pytest.approx(100 * 0.02))
    never = decide(msgspec.structs.replace(ask, answers=9), Line(), PACE, limits)
    assert (never.reason, never.retry_after_s) == ("slots", None)
