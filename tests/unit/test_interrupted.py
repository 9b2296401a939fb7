"""A client's journal of a stream: what counts as whole, as going back, as different."""

from __future__ import annotations

import json

from freehold.loadtest.interrupted import Ask, Journal


def chat(text: str, id: str = "", finish: str | None = None) -> list[str]:
    data = json.dumps({"choices": [{"delta": {"content": text}, "finish_reason": finish}]})
    return ([f"id: {id}"] if id else []) + [f"data: {data}", ""]


def heard(*events: list[str]) -> Journal:
    journal = Journal()
    for line in (line for event in events for line in event):
        journal.line(line)
    return journal


def test_whole_with_an_end_and_done() -> None:
    first, last = chat("a", "c-1/1-00000000"), chat("b", "c-1/2-00000000.", "stop")
    assert not heard(first, last).over
    journal = heard(first, last, ["data: [DONE]"])
    assert (journal.whole, journal.text, journal.id, journal.places) == (True, "ab", "c-1", {1: 1, 2: 2})


def test_a_doubled_token_is_seen_although_the_text_might_be_right() -> None:
    right = heard(chat("a", "c/1-00000000"), chat("b", "c/2-00000000"))
    back = heard(chat("a", "c/2-00000000"), chat("b", "c/1-00000000"))
    assert right.differs(right) == []
    assert len(back.differs(right)) == 2
    assert heard(chat("aa", "c/1-00000000")).differs(heard(chat("a", "c/1-00000000")))


def test_an_error_ends_it() -> None:
    journal = heard(chat("a"), ['data: {"error": {"code": "poisoned", "message": "x"}}'])
    assert (journal.failure, journal.over, journal.whole) == ("poisoned", True, False)


def test_a_response_ends_with_its_own_event() -> None:
    delta = ['data: {"type": "response.output_text.delta", "delta": "a"}']
    journal = heard(delta, ['data: {"type": "response.incomplete"}'])
    assert (journal.text, journal.finish, journal.whole) == ("a", "incomplete", True)


def test_what_a_client_says_when_it_comes_again() -> None:
    ask = Ask("/", {}, key="k", resumable_s=2.0)
    assert ask.headers("c/1") == {"x-freehold-resumable-s": "2", "last-event-id": "c/1", "idempotency-key": "k"}
