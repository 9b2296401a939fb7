"""Who is next, and how many fit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from freehold.core import Request
from freehold.order import key, overdue, take


def asked(priority: int = 0, deadline: float | None = None) -> Request:
    return Request(id="r", model="m", kind="text", priority=priority, deadline_unix_s=deadline)


def test_class_comes_before_deadline_before_arrival() -> None:
    queue = [
        ("later class with a deadline", key(asked(1, 10.0), 1)),
        ("no deadline", key(asked(0), 2)),
        ("far deadline", key(asked(0, 99.0), 3)),
        ("near deadline", key(asked(0, 50.0), 4)),
        ("no deadline, later", key(asked(0), 5)),
        ("first class", key(asked(-1), 6)),
    ]
    names = [name for name, _ in sorted(queue, key=lambda entry: entry[1])]
    assert names == [
        "first class", "near deadline", "far deadline", "no deadline", "no deadline, later",
        "later class with a deadline",
    ]  # fmt: skip


def test_a_deadline_has_passed_when_its_second_has_come() -> None:
    assert overdue(asked(deadline=10.0), 10.0)
    assert not overdue(asked(deadline=10.0), 9.9)
    assert not overdue(asked(), 1e12)


def test_a_request_wider_than_the_room_is_taken_alone_and_first_only() -> None:
    assert take([16, 1], 4) == 1
    assert take([1, 16, 1], 4) == 1
    assert take([1, 1, 1], 0) == 0


@given(st.lists(st.integers(1, 8), max_size=30), st.integers(-1, 20))
def test_take_fills_the_room_without_overtaking(answers: list[int], room: int) -> None:
    taken = take(answers, room)
    assert 0 <= taken <= len(answers)
    if room < 1:
        assert taken == 0
    elif answers:
        assert taken >= 1
        assert taken == 1 or sum(answers[:taken]) <= room
        assert taken == len(answers) or sum(answers[: taken + 1]) > room
