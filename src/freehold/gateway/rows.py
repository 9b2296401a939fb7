"""What a request has been, from what its call and its inbox know at its end: one row.

Accepted counts from when the gateway hands it to the ledger, which is when its time in the queue begins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from freehold.core import Chunk
from freehold.errors import RequestError, from_failure
from freehold.gateway.call import Call
from freehold.gateway.inbox import Inbox
from freehold.ledger.protocol import Entry
from freehold.slo import Objective
from freehold.telemetry.row import Outcome, Row
from freehold.telemetry.tokens import LOOK_CHARS, TAIL_CHARS, loops, may_loop

TOKEN_ROUTES = frozenset({
    "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/generate",
})  # fmt: skip
TAIL_CHUNKS = 128
LEAST_TOKENS = 40
"""Shorter answers are too short for a loop."""


class End(NamedTuple):
    """How a request ended."""

    outcome: Outcome
    status: int
    code: str = ""


def refused_row(call: Call, variant: str) -> Row:
    """Of a call that ended before it was accepted."""
    gone = call.status == 499
    broke = call.status >= 500 and call.code in ("engine_failed", "error")
    return Row(
        id=call.id, route=call.route, model=call.model, variant=variant, tenant=call.tenant,
        outcome="cancelled" if gone else "failed" if broke else "refused",
        received_unix_s=call.received_unix_s, status=call.status, code=call.code, priority=call.priority,
        deadline_ms=_after_ms(call.deadline_unix_s, call.received_unix_s), delivered_ms=call.elapsed_ms(),
        traceparent=call.traceparent,
    )  # fmt: skip


def accepted_row(inbox: Inbox, call: Call | None, variant: str, end_s: float) -> Row:
    """`call`: of the client that waits for it; None: it went on without one."""
    request, end = inbox.request, ended_how(inbox, call)
    usage = inbox.usage

    def ms(at_s: float | None) -> float | None:
        return None if at_s is None else (at_s - inbox.received_s) * 1000.0

    accepted_ms = ms(inbox.accepted_s)
    claimed_ms = None if inbox.queued_ms is None or accepted_ms is None else accepted_ms + inbox.queued_ms
    return Row(
        id=request.id,
        route=_route(inbox),
        model=request.model,
        variant=variant,
        tenant=request.tenant,
        outcome=end.outcome,
        received_unix_s=request.received_unix_s,
        status=end.status,
        code=end.code,
        worker=",".join(inbox.worked),
        stream=inbox.streamed,
        background=inbox.lasting or inbox.resumable_s == math.inf,
        priority=request.priority,
        deadline_ms=_after_ms(request.deadline_unix_s, request.received_unix_s),
        accepted_ms=accepted_ms,
        claimed_ms=claimed_ms,
        first_ms=None if inbox.taken_up else ms(inbox.first_s),
        last_ms=ms(inbox.last_s),
        delivered_ms=ms(end_s) or 0.0,
        attempts=max(inbox.attempts.values(), default=0),
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
        answers=len(inbox.ends),
        looped=_looped(inbox),
        runaway=inbox.capped and any(chunk.finish == "length" for chunk in inbox.ends),
        traceparent=request.traceparent,
    )


def rebuilt_row(entry: Entry) -> Row | None:
    """Of a request that ended while no gateway was there to see it. None: it has not ended."""
    result, request = entry.result, entry.request
    if result is None:
        return None
    accepted_ms = max(0.0, (entry.accepted_unix_s - request.received_unix_s) * 1000.0)
    outcome: Outcome = "cancelled" if result.cancelled else "ok"
    status, code = 200, ""
    if result.failure is not None:
        outcome, status, code = _of_failure(from_failure(result.failure))
    first_ms = None if result.first_token_ms is None else accepted_ms + result.first_token_ms
    claimed_ms = accepted_ms + result.queued_ms if entry.attempt else None
    return Row(
        id=request.id, route=route_of(request.meta, request.kind), model=request.model, variant=request.model,
        tenant=request.tenant, outcome=outcome, received_unix_s=request.received_unix_s, status=status, code=code,
        worker=result.worker, priority=request.priority,
        deadline_ms=_after_ms(request.deadline_unix_s, request.received_unix_s),
        accepted_ms=accepted_ms, claimed_ms=claimed_ms, first_ms=first_ms,
        delivered_ms=accepted_ms + result.total_ms, attempts=entry.attempt,
        prompt_tokens=result.usage.prompt_tokens, cached_tokens=result.usage.cached_tokens,
        completion_tokens=result.usage.completion_tokens, answers=len(result.answers),
    )  # fmt: skip


def _route(inbox: Inbox) -> str:
    """Where it came in first, whatever it is told again through."""
    return inbox.route if inbox.route in TOKEN_ROUTES else route_of(inbox.request.meta, inbox.request.kind)


def route_of(meta: dict[str, object], kind: str) -> str:
    """Where a request that goes on without its client came in."""
    if meta.get("route") == "generate":
        return "/generate"
    if "echo" in meta:
        return "/v1/responses"
    return {"chat": "/v1/chat/completions", "text": "/v1/completions"}.get(kind, "/v1/embeddings")


def ended_how(inbox: Inbox, call: Call | None) -> End:
    """A client that went away before the end cancelled it, whatever became of it then."""
    failure = inbox.failure
    if failure is None and (call is None or call.status < 400) and not inbox.cancelled and inbox.ended:
        return End("ok", 200)
    if call is not None and call.status == 499:
        return End("cancelled", 499)
    if failure is not None:
        return _of_failure(from_failure(failure))
    if inbox.cancelled or not inbox.ended:
        return End("cancelled", 409 if inbox.cancelled else 499)
    return End("failed", call.status if call is not None else 500, call.code if call is not None else "")


def is_good(row: Row, inbox: Inbox, objectives: Sequence[Objective]) -> bool:
    """It ended well, and kept every objective that can be asked of one request; of its gaps, the allowed share may be
    over the limit. Nothing but a good end is asked of what nobody waited for."""
    if row.outcome != "ok" or row.background:
        return row.outcome == "ok"
    values = {"e2e": row.delivered_ms, "ttft": row.first_ms, "tpot": row.tpot_ms, "queue": row.queue_ms}
    for each in objectives:
        value_ms = values.get(each.metric)
        if value_ms is not None and value_ms > each.limit_ms:
            return False
        if each.metric == "itl" and inbox.slow_gaps and inbox.slow_gaps > each.allowed * inbox.gaps:
            return False
    return True


def _of_failure(error: Exception) -> End:
    """An accepted request's failure; what the engine can't take is the client's matter."""
    assert isinstance(error, RequestError) or hasattr(error, "status")
    status, code = int(getattr(error, "status", 500)), str(getattr(error, "code", "error"))
    if code == "deadline_passed":
        return End("expired", status, code)
    if code == "conflict":
        return End("cancelled", status, code)
    return End("refused" if 400 <= status < 500 else "failed", status, code)


def _looped(inbox: Inbox) -> bool:
    """Whether one of its answers repeated itself at its end."""
    if inbox.tokens < LEAST_TOKENS:
        return False
    if len(inbox.ends) == 1:
        return may_loop(_tail(inbox.chunks, LOOK_CHARS)) and loops(_tail(inbox.chunks, TAIL_CHARS))
    answers: dict[tuple[str, int], list[Chunk]] = {}
    for chunk in inbox.chunks:
        answers.setdefault((chunk.id, chunk.choice), []).append(chunk)
    return any(loops(_tail(chunks, TAIL_CHARS)) for chunks in answers.values())


def _tail(chunks: Sequence[Chunk], chars: int) -> str:
    """At least the last `chars` of a text."""
    count = TAIL_CHUNKS
    while True:
        text = "".join([chunk.text for chunk in chunks[-count:]])
        if len(text) >= chars or count >= len(chunks):
            return text
        count *= 2


def _after_ms(due_unix_s: float | None, from_unix_s: float) -> float | None:
    return None if due_unix_s is None else (due_unix_s - from_unix_s) * 1000.0
