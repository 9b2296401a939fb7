"""Streams that go on after an interruption: what a client may ask for, what has to be kept so that any gateway can tell
a stream again, and the telling.
"""

from __future__ import annotations

import hashlib
import math
from typing import Literal

import msgspec

from freehold.core import Json, Record, Request
from freehold.errors import Conflict, InvalidRequest, NotFound
from freehold.gateway.body import header
from freehold.gateway.call import Call, HeaderList
from freehold.gateway.desk import Desk
from freehold.gateway.events import ChatEvents, Events, Head, TextEvents
from freehold.gateway.inbox import Inbox
from freehold.gateway.marks import Marks, Seen, seen_by
from freehold.gateway.stream import Follower, Receive, Send, Telling, send_stream
from freehold.gateway.tools.plan import NO_TOOLS, Plan
from freehold.tracing import parse

LONGEST_KEY = 255
MOST_RESUMABLE_S = 600.0


class Told(Record, frozen=True):
    """How one API tells a stream: kept with its requests (`meta["stream"]`)."""

    route: Literal["chat", "completions"]
    model: str
    fingerprint: str
    include_usage: bool = False
    plan: Plan = NO_TOOLS
    prompts: int = 1
    top_logprobs: int = 0

    def telling(self, id: str, requests: tuple[Request, ...], seen: Seen | None = None) -> Telling:
        head = Head(id, int(requests[0].received_unix_s), self.model, self.fingerprint, self.include_usage)
        n = requests[0].n
        ids = [request.id for request in requests]
        first = {each: i * n for i, each in enumerate(ids)}
        events: Events = (
            ChatEvents(head, self.plan) if self.route == "chat" else TextEvents(head, ids, n, self.top_logprobs)
        )
        return Telling(events, Marks(id, first, n * len(ids)), first, seen)


def note_resuming(call: Call, headers: HeaderList, body: bytes) -> None:
    """Read what a request says about going on, and which trace it belongs to. Raises `InvalidRequest`."""
    if last := header(headers, b"last-event-id"):
        call.last_event_id = last.decode("latin-1")
    if key := header(headers, b"idempotency-key"):
        call.idempotency_key = key.decode("latin-1")
        if not 0 < len(call.idempotency_key) <= LONGEST_KEY:
            raise InvalidRequest(f"Idempotency-Key takes up to {LONGEST_KEY} characters.", param="Idempotency-Key")
        call.fingerprint = hashlib.sha256(call.route.encode() + b"\n" + body).hexdigest()
    if (trace := header(headers, b"traceparent")) and parse(trace.decode("latin-1")) is not None:
        call.traceparent = trace.decode("latin-1")
    if wanted := header(headers, b"x-freehold-resumable-s"):
        call.resumable_s = _seconds(wanted)


def _seconds(text: bytes) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= MOST_RESUMABLE_S:
        why = f"It takes 0 to {MOST_RESUMABLE_S:g} seconds."
        raise InvalidRequest("x-freehold-resumable-s has no such value.", why, param="x-freehold-resumable-s")
    return seconds


def with_meta(request: Request, call: Call, told: Told | None, number: int | None = None) -> Request:
    """`request` with what it takes to be resumed. `number`: it is one of several prompts under one key."""
    meta: Json = request.meta if told is None else request.meta | {"stream": msgspec.to_builtins(told)}
    if not request.keep:
        call.asked.append(request.id)
    key = call.idempotency_key
    if key is not None and number is not None:
        key = f"{key}#{number}"
    return msgspec.structs.replace(
        request, meta=meta, idempotency_key=key, fingerprint=call.fingerprint, traceparent=call.traceparent
    )


async def resume(desk: Desk, call: Call, receive: Receive, send: Send) -> None:
    """Answer a POST that names the last event it saw of an earlier one."""
    seen = seen_by(call.last_event_id or "")
    await tell_again(desk, call, seen.id, seen, receive, send)


async def tell_again(desk: Desk, call: Call, id: str, seen: Seen | None, receive: Receive, send: Send) -> None:
    """The stream `id` after what was seen of it. Raises `NotFound`, or `Conflict` if it was cancelled."""
    inbox = await _inbox(desk, id, call)
    kept = inbox.request.meta.get("stream")
    if kept is None:
        raise _unknown(id)
    told = msgspec.convert(kept, Told)
    call.model = told.model
    async with Follower(desk, call, receive, inbox) as reader:
        if any(chunk.finish == "cancelled" for chunk in inbox.chunks):
            raise Conflict("The request was cancelled.", "Its client had gone.", "Send it again.")
        await send_stream(call, reader, told.telling(id, inbox.requests, seen), send)


async def _inbox(desk: Desk, id: str, call: Call) -> Inbox:
    """Of all requests behind a stream: `id` itself, or `id-0`, `id-1` and so on for several prompts."""
    entry = await desk.ledger.fetch(id) or await desk.ledger.fetch(f"{id}-0")
    if entry is None or entry.request.tenant != call.tenant:
        raise _unknown(id)
    kept = entry.request.meta.get("stream", {})
    ids = [id] if entry.request.id == id else [f"{id}-{i}" for i in range(kept.get("prompts", 1))]
    return await desk.follow(ids, call.tenant, call.resumable_s)


def _unknown(id: str) -> NotFound:
    return NotFound(
        f"There is no stream {id[:100]!r} to go on with.",
        "It never was, was read to its end, or its time is over.",
        "Send the request again.",
    )
