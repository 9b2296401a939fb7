"""Ids of events: wherever a stream is cut, what follows the last id that arrived completes it exactly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core import Chunk, Usage
from freehold.errors import InvalidRequest, ResumeFailed
from freehold.gateway.events import ChatEvents, Head
from freehold.gateway.marks import Marks, seen_by
from freehold.gateway.tools.plan import NO_TOOLS

HEAD = Head("chatcmpl-a", 0, "m", "fp", False)


def chunks(texts: list[str], choice: int, ends: bool = True) -> list[Chunk]:
    found = [Chunk("chatcmpl-a", choice, i, 1, text) for i, text in enumerate(texts)]
    if ends:
        found.append(Chunk("chatcmpl-a", choice, len(texts), 0, "", None, "stop", Usage(completion_tokens=len(texts))))
    return found


def told(all: list[Chunk], n: int) -> list[bytes]:
    events, marks, out = ChatEvents(HEAD, NO_TOOLS), Marks("chatcmpl-a", {"chatcmpl-a": 0}, n), []
    for chunk in all:
        start = len(out)
        events.add(chunk, out)
        marks.label(chunk, out, start)
    return out


def resumed(all: list[Chunk], last_id: str) -> list[bytes]:
    seen, events, out = seen_by(last_id), ChatEvents(HEAD, NO_TOOLS), []
    for chunk in all:
        old, new = seen.split(chunk, chunk.choice)
        if old is not None:
            events.add(old, [])
        if new is not None:
            start = len(out)
            events.add(new, out)
            seen.unseen(new.choice, out, start)
    return out


def id_of(event: bytes) -> str:
    return event.split(b"\n")[0].removeprefix(b"id: ").decode()


def data_of(events: list[bytes]) -> list[bytes]:
    return [event[event.index(b"data: ") :] for event in events]


TEXTS = st.lists(st.sampled_from(["a", "bc", "ż🙂", ""]), min_size=1, max_size=6)


@given(first=TEXTS, second=TEXTS, order=st.randoms(use_true_random=False), share=st.floats(0, 1))
def test_what_follows_the_last_id_completes_the_stream(first: list[str], second: list[str], order, share) -> None:  # type: ignore[no-untyped-def]
    queues = [chunks(first, 0), chunks(second, 1)]
    mixed = []
    while any(queues):
        mixed.append(order.choice([queue for queue in queues if queue]).pop(0))
    whole = told(mixed, 2)
    at = int(share * (len(whole) - 1))
    rest = resumed(mixed, id_of(whole[at]))
    assert data_of(whole)[at + 1 :] == rest


@given(texts=TEXTS, share=st.floats(0, 1))
def test_one_piece_of_all_is_cut_by_its_checksum(texts: list[str], share: float) -> None:
    whole = told(chunks(texts, 0), 1)
    at = int(share * (len(whole) - 1))
    last = id_of(whole[at])
    merged = [Chunk("chatcmpl-a", 0, 0, len(texts), "".join(texts), None, "stop", Usage(completion_tokens=len(texts)))]
    shown = b"".join(whole[: at + 1]) + b"".join(resumed(merged, last))
    assert _content(shown) == "".join(texts)
    assert shown.count(b'"finish_reason":"stop"') == 1


def _content(events: bytes) -> str:
    import json

    lines = [line.removeprefix(b"data: ") for line in events.split(b"\n") if line.startswith(b"data: ")]
    return "".join(json.loads(line)["choices"][0]["delta"].get("content", "") for line in lines)


def test_another_text_is_no_resumption() -> None:
    last = id_of(told(chunks(["one", " two"], 0, ends=False), 1)[-1])
    with pytest.raises(ResumeFailed):
        resumed(chunks(["one", " too", " many"], 0), last)


@pytest.mark.parametrize("wrong", ["", "chatcmpl-a", "a/12", "a/1-xyz", "a/1-00000000,z", "../etc/1-00000000"])
def test_what_is_no_id_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidRequest):
        seen_by(wrong)
