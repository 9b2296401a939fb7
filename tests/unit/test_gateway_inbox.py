"""Inboxes: order, one last chunk a request, beginning anew, clients that leave."""

from __future__ import annotations

import asyncio

import pytest

from freehold.core import Chunk, Failure, Request, Usage
from freehold.errors import WorkerDied
from freehold.gateway.collect import collect
from freehold.gateway.inbox import RESTART, ClientGone, Inbox, failed_chunk

ONE = Request(id="a", model="m", kind="text", prompt="x")


def chunk(text: str, choice: int = 0, *, id: str = "a", last: bool = False) -> Chunk:
    usage = Usage(prompt_tokens=3, completion_tokens=2) if last else None
    return Chunk(id, choice, 0, 1, text, finish="stop" if last else None, usage=usage)


def test_what_waits_comes_together() -> None:
    async def run() -> None:
        inbox = Inbox([ONE])
        assert inbox.push(chunk("a")) is False
        assert inbox.push(chunk("b", last=True)) is True
        assert [each.text for each in await inbox.take()] == ["a", "b"]
        assert inbox.ended
        assert inbox.shown

    asyncio.run(run())


def test_a_waiting_reader_is_woken() -> None:
    async def run() -> None:
        inbox = Inbox([ONE])
        reader = asyncio.create_task(inbox.take())
        await asyncio.sleep(0)
        inbox.push(chunk("a"))
        assert [each.text for each in await reader] == ["a"]

    asyncio.run(run())


def test_every_answer_must_end() -> None:
    inbox = Inbox([Request(id="a", model="m", kind="text", n=2), Request(id="b", model="m", kind="text")])
    assert not inbox.push(chunk("x", 0, last=True))
    assert inbox.push(chunk("x", 1, last=True))
    assert inbox.open_ids == ["b"]
    assert inbox.push(chunk("x", id="b", last=True))
    assert inbox.ended


def test_a_failure_ends_the_request() -> None:
    inbox = Inbox([Request(id="a", model="m", kind="text", n=3)])
    assert inbox.push(failed_chunk("a", Failure(code="worker_died", what="Gone.")))
    assert inbox.ended


def test_collecting_begins_anew() -> None:
    async def run() -> None:
        inbox = Inbox([Request(id="a", model="m", kind="text", n=2)])
        reader = asyncio.create_task(collect(inbox))
        for text in ("lost", "too"):
            inbox.push(chunk(text))
            await asyncio.sleep(0)
        inbox.restart("a")
        for choice, text in ((1, "second"), (0, "fir")):
            inbox.push(chunk(text, choice))
            await asyncio.sleep(0)
        inbox.push(chunk("st", 0, last=True))
        inbox.push(chunk("", 1, last=True))
        found = await reader
        assert [whole.text for whole in found.answers[0]] == ["first", "second"]
        assert found.usage == Usage(prompt_tokens=3, completion_tokens=4)
        assert not inbox.shown

    asyncio.run(run())


def test_a_stream_never_sees_a_restart() -> None:
    async def run() -> None:
        inbox = Inbox([ONE])
        inbox.push(chunk("lost"))
        inbox.restart("a")
        reader = asyncio.create_task(inbox.take())
        await asyncio.sleep(0)
        assert not reader.done()
        inbox.push(chunk("found"))
        assert [each.text for each in await reader] == ["found"]

    asyncio.run(run())


def test_restart_is_told_to_collectors() -> None:
    async def run() -> None:
        inbox = Inbox([ONE])
        inbox.restart("a")
        assert [each.choice for each in await inbox.take(shown=False)] == [RESTART]

    asyncio.run(run())


def test_collect_raises_the_failure() -> None:
    async def run() -> None:
        inbox = Inbox([ONE])
        inbox.push(failed_chunk("a", WorkerDied("Gone.").failure()))
        with pytest.raises(WorkerDied):
            await collect(inbox)

    asyncio.run(run())


def test_client_gone() -> None:
    async def run() -> None:
        inbox = Inbox([ONE])
        reader = asyncio.create_task(inbox.take())
        await asyncio.sleep(0)
        inbox.hang_up()
        with pytest.raises(ClientGone):
            await reader

    asyncio.run(run())


def test_silent_keeps_nothing() -> None:
    inbox = Inbox([ONE], silent=True)
    inbox.push(chunk("a"))
    assert not inbox.pending
    assert inbox.tokens == 1
