"""POST /v1/completions: texts in, their continuations out, streamed or whole."""

from __future__ import annotations

import time

import msgspec

from freehold.core import Json, ModelCard
from freehold.gateway.call import Call
from freehold.gateway.chat import check_not_cancelled, fingerprint
from freehold.gateway.collect import Collected, collect
from freehold.gateway.desk import Desk
from freehold.gateway.events import Head, TextEvents, finish_reason
from freehold.gateway.limits import naming
from freehold.gateway.stream import Follower, Handler, Receive, Send, send_json, send_stream
from freehold.gateway.usage import note_first, text_logprobs, usage_object
from freehold.gateway.wire_errors import parse
from freehold.gateway.wire_text import TEXT_NAMES, CompletionRequest, completion_requests


def completions_route(desk: Desk) -> Handler:
    """The plain ASGI handler of the route."""

    async def completions(call: Call, body: bytes, receive: Receive, send: Send) -> None:
        wanted = parse(CompletionRequest, body)
        card = await desk.card(wanted.model)
        call.model = card.name
        requests = completion_requests(wanted, card, call, desk.server)
        inbox = await desk.submit(*requests)
        id = requests[0].id.removesuffix("-0")
        with naming(TEXT_NAMES):
            async with Follower(desk, inbox, receive):
                if wanted.stream:
                    usage = bool(wanted.stream_options and wanted.stream_options.include_usage)
                    head = Head(id, int(time.time()), card.name, fingerprint(card), usage)
                    events = TextEvents(head, [request.id for request in requests], requests[0].n, wanted.logprobs or 0)
                    await send_stream(call, inbox, events, send)
                    return
                collected = await collect(inbox)
                note_first(call, inbox)
                await send_json(send, msgspec.json.encode(_completion(id, card, collected, wanted.logprobs, call)))

    return completions


def _completion(id: str, card: ModelCard, collected: Collected, top: int | None, call: Call) -> Json:
    """The `text_completion` object."""
    check_not_cancelled(collected)
    choices: list[Json] = []
    for whole in (whole for answers in collected.answers for whole in answers):
        logprobs = text_logprobs(whole.logprobs, 0, top or 0)[0] if whole.logprobs is not None else None
        reason = finish_reason(whole.finish, 0)
        choices.append({"index": len(choices), "text": whole.text, "logprobs": logprobs, "finish_reason": reason})
    return {
        "id": id,
        "object": "text_completion",
        "created": int(time.time()),
        "model": card.name,
        "system_fingerprint": fingerprint(card),
        "choices": choices,
        "usage": usage_object(collected.usage),
        "timings": call.timings(collected.usage.completion_tokens),
    }
