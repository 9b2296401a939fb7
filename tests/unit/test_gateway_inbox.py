"""Inboxes: order, one last chunk a request, attempts that follow one another, readers that come and go."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core import Answer, Chunk, Failure, FinishReason, Request, Result, Usage
from freehold.errors import ResumeFailed, WorkerDied
from freehold.gateway.collect import collect
from freehold.gateway.inbox import Gap, Inbox, failed_chunk
from freehold.gateway.reader import ClientGone, Reader
from freehold.gateway.retold import retold
from freehold.pipe import Frame

ONE = Request(id="a", model="m", kind="text", prompt="x")


class Wire:
    """A worker's line that nobody listens to."""

    def __init__(self, worker: str) -> None:
        self.worker = self.owner = worker

    def send(self, frame: Frame) -> None:
        raise AssertionError(frame)


def chunk(offset: int, text: str, choice: int = 0, *, id: str = "a", finish: FinishReason | None = None) -> Chunk:
    usage = Usage(prompt_tokens=3, completion_tokens=offset + 1) if finish else None
    return Chunk(id, choice, offset, 1, text, finish=finish, usage=usage)


def pieces(text: str, first: int = 0) -> list[Chunk]:
    return [chunk(i, text[i], finish="stop" if i == len(text) - 1 else None) for i in range(first, len(text))]


def test_what_waits_comes_together() -> None:
    async def run() -> None:
        inbox = Inbox([ONE])
        reader = Reader(inbox)
        assert inbox.push(chunk(0, "a")) is False
        assert inbox.push(chunk(1, "b", finish="stop")) is True
        assert [each.text for each in await reader.take()] == ["a", "b"]
        assert reader.done

    asyncio.run(run())


def test_a_waiting_reader_is_woken_and_a_second_one_reads_from_the_beginning() -> None:
    async def run() -> None:
        inbox = Inbox([ONE])
        first = Reader(inbox)
        waiting = asyncio.create_task(first.take())
        await asyncio.sleep(0)
        inbox.push(chunk(0, "a"))
        assert [each.text for each in await waiting] == ["a"]
        assert [each.text for each in await Reader(inbox).take()] == ["a"]

    asyncio.run(run())


def test_every_answer_must_end() -> None:
    inbox = Inbox([Request(id="a", model="m", kind="text", n=2), Request(id="b", model="m", kind="text")])
    assert not inbox.push(chunk(0, "x", 0, finish="stop"))
    assert inbox.push(chunk(0, "x", 1, finish="stop"))
    assert inbox.open_ids == ["b"]
    assert inbox.push(chunk(0, "x", id="b", finish="stop"))
    assert inbox.ended


def test_a_failure_ends_the_request() -> None:
    inbox = Inbox([Request(id="a", model="m", kind="text", n=3)])
    assert inbox.push(failed_chunk("a", Failure(code="worker_died", what="Gone.")))
    assert inbox.ended


@given(text=st.text("abc", min_size=1, max_size=12), seams=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12))))
def test_attempts_that_begin_anywhere_make_one_answer(text: str, seams: list[tuple[int, int]]) -> None:
    """Each attempt begins at or before what was shown, as the ledger may know less, and tells some more."""
    inbox = Inbox([ONE])
    for attempt, (start, count) in enumerate([*seams, (0, len(text))], 1):
        assert inbox.begun("a", Wire("w"), attempt)
        start = min(start, inbox.have("a")[0])
        for each in pieces(text, start)[:count]:
            inbox.push(each)
    assert inbox.text("a", 0) == text
    assert inbox.ended
    offsets = [each.offset for each in inbox.chunks]
    assert offsets == sorted(set(offsets))


def test_an_earlier_attempt_counts_no_more() -> None:
    inbox = Inbox([ONE])
    first, second = Wire("1"), Wire("2")
    assert inbox.begun("a", first, 1)
    assert inbox.begun("a", second, 2)
    assert not inbox.begun("a", first, 1)
    assert inbox.workers["a"] is second


def test_another_text_than_was_shown_is_no_continuation() -> None:
    inbox = Inbox([ONE])
    for each in (chunk(0, "a"), chunk(1, "b"), chunk(2, "c")):
        inbox.push(each)
    assert inbox.begun("a", Wire("w"), 2)
    inbox.push(chunk(1, "b"))
    with pytest.raises(ResumeFailed):
        inbox.push(chunk(2, "x"))


def test_a_gap_is_told() -> None:
    inbox = Inbox([ONE])
    with pytest.raises(Gap):
        inbox.push(chunk(3, "d"))
    assert not inbox.chunks


def test_collect_raises_the_failure() -> None:
    async def run() -> None:
        inbox = Inbox([ONE])
        reader = Reader(inbox)
        inbox.push(failed_chunk("a", WorkerDied("Gone.").failure()))
        with pytest.raises(WorkerDied):
            await collect(reader)

    asyncio.run(run())


def test_client_gone() -> None:
    async def run() -> None:
        reader = Reader(Inbox([ONE]))
        waiting = asyncio.create_task(reader.take())
        await asyncio.sleep(0)
        reader.hang_up()
        with pytest.raises(ClientGone):
            await waiting

    asyncio.run(run())


def test_the_end_that_the_ledger_has_completes_what_was_told() -> None:
    inbox = Inbox([ONE])
    inbox.push(chunk(0, "ab"))
    result = Result(answers=(Answer(text="abcd", finish="length"),), usage=Usage(completion_tokens=2))
    (rest,) = retold("a", inbox, result)
    assert (rest.text, rest.offset, rest.finish) == ("cd", 1, "length")
    assert inbox.push(rest)
    other = Inbox([ONE])
    other.push(chunk(0, "x"))
    (lost,) = retold("a", other, result)
    assert lost.failure is not None
    (gone,) = retold("a", other, Result(cancelled=True))
    assert gone.finish == "cancelled"
