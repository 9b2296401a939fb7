"""Sends the chunks of an inbox to a client as they come: what waits together goes out in one write.

The status line waits for the first chunk, so that a request which the engine refuses gets a plain 4xx. A client that
leaves is noticed at once, and its requests are cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from freehold.core import Chunk
from freehold.errors import ResumeFailed, from_failure
from freehold.gateway.call import Call, HeaderList
from freehold.gateway.desk import Desk
from freehold.gateway.errors import failure_event
from freehold.gateway.events import DONE, Events
from freehold.gateway.inbox import CANCELLED, Inbox
from freehold.gateway.marks import Marks, Seen
from freehold.gateway.reader import Reader
from freehold.gateway.usage import note_first

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Handler = Callable[[Call, bytes, Receive, Send], Awaitable[None]]
"""A plain ASGI route: the call, the whole request body, and the two ends of the wire."""

SSE_HEADERS: HeaderList = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class Follower:
    """`async with Follower(desk, call, receive, inbox) as reader:` while somebody waits for an answer. Leaving it, by
    whatever way, cancels what nobody reads any more; the client's disconnect makes `reader.take` raise `ClientGone`."""

    def __init__(self, desk: Desk, call: Call, receive: Receive, inbox: Inbox) -> None:
        self._desk = desk
        call.inbox = inbox
        if inbox.call is None:
            inbox.call, inbox.route = call, call.route
        self._reader = Reader(inbox, cancels=True)
        self._receive = receive
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Reader:
        self._watch = asyncio.create_task(self._until_gone())
        return self._reader

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._desk.leave(self._reader, delivered=kind is None)

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._desk.leave(self._reader)


class Telling:
    """One stream of one API: its events, the ids they carry, and what its client has seen already."""

    def __init__(self, events: Events, marks: Marks, first: Mapping[str, int], seen: Seen | None = None) -> None:
        self._events = events
        self._marks = marks
        self._first = first
        self._seen = seen

    def add(self, chunk: Chunk, out: list[bytes]) -> None:
        """Append the events that `chunk` makes. Raises `ResumeFailed` if it isn't what was seen before."""
        if self._seen is None:
            start = len(out)
            self._events.add(chunk, out)
            self._marks.label(chunk, out, start)
            return
        index = self._first[chunk.id] + chunk.choice
        old, new = self._seen.split(chunk, index)
        if old is not None:
            unseen: list[bytes] = []
            self._events.add(old, unseen)
            self._marks.label(old, unseen, 0)
        if new is not None:
            start = len(out)
            self._events.add(new, out)
            self._marks.label(new, out, start)
            self._seen.unseen(index, out, start)

    def end(self, call: Call, out: list[bytes]) -> None:
        self._events.end(call, out)


async def send_stream(call: Call, reader: Reader, telling: Telling, send: Send) -> None:
    """Answer with the events of all chunks. Raises the failure if it comes before anything was sent."""
    inbox = reader.inbox
    chunks = await reader.take()
    for chunk in chunks:
        if chunk.failure is not None:
            raise from_failure(chunk.failure)
    note_first(call, inbox)
    inbox.streamed = True
    await send({"type": "http.response.start", "status": 200, "headers": SSE_HEADERS})
    while True:
        out: list[bytes] = []
        failure = None
        for chunk in chunks:
            if chunk.failure is not None or chunk.finish == "cancelled":
                failure = chunk.failure or CANCELLED
                break
            try:
                telling.add(chunk, out)
            except ResumeFailed as error:
                failure = error.failure()
                break
        ended = failure is not None or reader.done
        if failure is not None:
            out += (failure_event(failure), DONE)
        elif ended:
            telling.end(call, out)
        if out:
            await send({"type": "http.response.body", "body": b"".join(out), "more_body": not ended})
        if ended:
            return
        chunks = await reader.take()


async def send_json(send: Send, body: bytes, status: int = 200) -> None:
    """A whole JSON reply; the door adds the headers that every reply has."""
    headers: HeaderList = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
