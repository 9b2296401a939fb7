"""One line of a batch, answered by the very route it names: a call without a socket.

Its idempotency key is the batch's id and the line's number, so that asking again, after whatever death, attaches to the
request that was accepted before. It goes on without a reader, and behind everybody who waits.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Mapping

from freehold import log
from freehold.errors import EngineFailed, FreeholdError, Overloaded, StoreError, Unavailable
from freehold.gateway.batches.batch import Batch, answer_line
from freehold.gateway.batches.lines import Line, check_whole
from freehold.gateway.call import Call
from freehold.gateway.errors import error_body
from freehold.gateway.stream import Handler, Message

RETRY_S, MOST_RETRY_S = 1.0, 30.0
"""Between tries of a line that nobody can take now."""


class Answered:
    """What became of a line: its line in the output or error file."""

    __slots__ = ("call", "good", "number", "text")

    def __init__(self, number: int, text: bytes, call: Call, *, good: bool) -> None:
        self.number = number
        self.text = text
        self.call = call
        self.good = good


def key_of(batch_id: str, number: int | str) -> str:
    """The idempotency key of a line."""
    return f"{batch_id}/{number}"


async def answer(handlers: Mapping[str, Handler], batch: Batch, number: int, line: Line) -> Answered:
    """Ask until there is an answer, good or not: one that says to come back is none."""
    call = _call(batch, number, line)
    while True:
        call.asked.clear()
        try:
            check_whole(line.body)
            status, body = await _ask(handlers[line.url], call, bytes(line.body))
        except (Overloaded, Unavailable, StoreError) as error:
            await asyncio.sleep(min(error.retry_after_s or RETRY_S, MOST_RETRY_S))
            continue
        except FreeholdError as error:
            status, body = error.status, error_body(error)
            call.code = error.code
        except Exception as error:  # noqa: BLE001  the edge of a task: one line's bug isn't its neighbours'
            log.event("gateway.bug", level="error", error=error, request=call.id, route=line.url)
            status, body = 500, error_body(EngineFailed("Something in the gateway broke.", f"It is logged: {call.id}."))
        call.status = status
        text = answer_line(batch, number, line.custom_id, status, call.id, body)
        return Answered(number, text, call, good=status == 200)


def _call(batch: Batch, number: int, line: Line) -> Call:
    call = Call(f"req_{batch.id.removeprefix('batch_')}_{number}")
    call.route = line.url
    call.tenant = batch.tenant
    call.priority = batch.priority
    call.resumable_s = math.inf
    call.idempotency_key = key_of(batch.id, number)
    call.fingerprint = hashlib.sha256(line.body).hexdigest()
    return call


async def _ask(handler: Handler, call: Call, body: bytes) -> tuple[int, bytes]:
    """Status and body of the route's reply."""
    status = 0
    parts: list[bytes] = []

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            parts.append(message.get("body", b""))

    await handler(call, body, _silence, send)
    return status, b"".join(parts)


async def _silence() -> Message:
    """The client that never speaks again and never leaves."""
    return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]
