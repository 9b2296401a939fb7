"""POST /generate, the plainest form: a prompt in, a text out; or an id to poll at GET /generate/{id}."""

from __future__ import annotations

import msgspec

from freehold.core import Json, Result
from freehold.errors import NotFound, from_failure
from freehold.gateway.call import Call, rate
from freehold.gateway.cards import card_of
from freehold.gateway.chat import check_not_cancelled
from freehold.gateway.collect import collect
from freehold.gateway.desk import Desk
from freehold.gateway.errors import error_object
from freehold.gateway.resume import with_meta
from freehold.gateway.stream import Follower, Handler, Receive, Send, send_json
from freehold.gateway.usage import note_first, usage_object
from freehold.gateway.webhooks import submit_with_webhook
from freehold.gateway.wire_errors import parse
from freehold.gateway.wire_text import GenerateRequest, generate_request
from freehold.ledger.protocol import Entry


def generate_route(desk: Desk) -> Handler:
    """The plain ASGI handler of the route."""

    async def generate(call: Call, body: bytes, receive: Receive, send: Send) -> None:
        wanted = parse(GenerateRequest, body)
        card = await card_of(desk, wanted.model, call)
        call.model = card.name
        request = with_meta(generate_request(wanted, card, call, desk.server), call, None)
        later = wanted.mode == "async"
        if later:
            id = (await submit_with_webhook(desk, request, wanted.webhook)).request.id
            await send_json(send, msgspec.json.encode({"id": id, "status": "queued", "model": card.name}), 202)
            return
        inbox = await desk.submit(request, resumable_s=call.resumable_s)
        id = inbox.request.id
        async with Follower(desk, call, receive, inbox) as reader:
            collected = await collect(reader)
        check_not_cancelled(collected)
        note_first(call, inbox)
        whole = collected.answers[0][0]
        usage = usage_object(collected.usage)
        answer: Json = {"id": id, "status": "completed", "model": card.name, "text": whole.text, "usage": usage}
        answer |= {"finish_reason": whole.finish, "timings": call.timings(collected.usage.completion_tokens)}
        await send_json(send, msgspec.json.encode(answer))

    return generate


async def fetch_generated(desk: Desk, id: str, call: Call) -> Json:
    """What GET /generate/{id} answers."""
    return _told(await _entry(desk, id, call))


async def end_generated(desk: Desk, id: str, call: Call) -> Json:
    """What DELETE /generate/{id} does: cancel it while it is open, forget it once it has ended."""
    entry = await _entry(desk, id, call)
    if entry.state == "done":
        await desk.ledger.delete(id)
        return {**_told(entry), "status": "deleted"}
    await desk.cancel(id)
    return {**_told(entry), "status": "cancelled"}


async def _entry(desk: Desk, id: str, call: Call) -> Entry:
    entry = await desk.ledger.fetch(id)
    if (
        entry is None
        or entry.request.meta.get("route") != "generate"
        or entry.request.tenant != call.tenant
        or not entry.request.keep
    ):
        raise NotFound(
            f"There is no generation {id!r}.",
            "It never was, was deleted, or its time is over.",
            "POST /generate with mode 'async' gives an id.",
        )
    return entry


def _told(entry: Entry) -> Json:
    told: Json = {
        "id": entry.request.id,
        "model": entry.request.model,
        "status": {"queued": "queued"}.get(entry.state, "running"),
    }
    if entry.state != "done":
        if entry.cancel_asked:
            told["status"] = "cancelled"
        return told
    result = entry.result or Result()
    told["status"] = "failed" if result.failure else "cancelled" if result.cancelled else "completed"
    if result.failure is not None:
        told["error"] = error_object(from_failure(result.failure))
    if result.answers and result.failure is None:
        told["text"] = result.answers[0].text
        told["finish_reason"] = result.answers[0].finish
        told["usage"] = usage_object(result.usage)
        told["timings"] = {
            "queue_ms": round(result.queued_ms, 2),
            "ttft_ms": None if result.first_token_ms is None else round(result.first_token_ms, 2),
            "total_ms": round(result.total_ms, 2),
            "tokens_per_s": rate(result.usage.completion_tokens, result.first_token_ms, result.total_ms),
        }
    return told
