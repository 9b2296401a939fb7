"""Sends the chunks of an inbox to a client as they come: what waits together goes out in one write.

The status line waits for the first chunk, so that a request which the engine refuses gets a plain 4xx. A client that
leaves is noticed at once, and its requests are cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from freehold.errors import from_failure
from freehold.gateway.call import Call, HeaderList
from freehold.gateway.desk import CANCELLED, Desk
from freehold.gateway.errors import failure_event
from freehold.gateway.events import DONE, Events
from freehold.gateway.inbox import Inbox
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
    """`async with Follower(desk, inbox, receive):` while somebody waits for an answer. Leaving it, by whatever way,
    cancels what has not ended; the client's disconnect makes `inbox.take` raise `ClientGone`."""

    def __init__(self, desk: Desk, inbox: Inbox, receive: Receive) -> None:
        self._desk = desk
        self._inbox = inbox
        self._receive = receive
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._watch = asyncio.create_task(self._until_gone())

    async def __aexit__(self, *_: object) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._desk.leave(self._inbox)

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._desk.leave(self._inbox)


async def send_stream(call: Call, inbox: Inbox, events: Events, send: Send) -> None:
    """Answer with `events` of all chunks of `inbox`. Raises the failure if it comes before anything was sent."""
    chunks = await inbox.take()
    for chunk in chunks:
        if chunk.failure is not None:
            raise from_failure(chunk.failure)
    note_first(call, inbox)
    await send({"type": "http.response.start", "status": 200, "headers": SSE_HEADERS})
    while True:
        out: list[bytes] = []
        failure = None
        for chunk in chunks:
            if chunk.failure is not None or chunk.finish == "cancelled":
                failure = chunk.failure or CANCELLED
                break
            events.add(chunk, out)
        ended = failure is not None or (inbox.ended and not inbox.pending)
        if failure is not None:
            out += (failure_event(failure), DONE)
        elif ended:
            events.end(call, out)
        if out:
            await send({"type": "http.response.body", "body": b"".join(out), "more_body": not ended})
        if ended:
            return
        chunks = await inbox.take()


async def send_json(send: Send, body: bytes, status: int = 200) -> None:
    """A whole JSON reply; the door adds the headers that every reply has."""
    headers: HeaderList = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
