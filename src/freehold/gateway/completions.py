"""POST /v1/completions: texts in, their continuations out, streamed or whole."""

from __future__ import annotations

import time

import msgspec

from freehold.core import Json, ModelCard
from freehold.gateway.call import Call
from freehold.gateway.cards import card_of
from freehold.gateway.chat import check_not_cancelled, fingerprint
from freehold.gateway.collect import Collected, collect
from freehold.gateway.desk import Desk
from freehold.gateway.events import finish_reason
from freehold.gateway.limits import naming
from freehold.gateway.resume import Told, resume, with_meta
from freehold.gateway.stream import Follower, Handler, Receive, Send, send_json, send_stream
from freehold.gateway.usage import note_first, text_logprobs, usage_object
from freehold.gateway.wire_errors import parse
from freehold.gateway.wire_text import TEXT_NAMES, CompletionRequest, completion_requests


def completions_route(desk: Desk) -> Handler:
    """The plain ASGI handler of the route."""

    async def completions(call: Call, body: bytes, receive: Receive, send: Send) -> None:
        if call.last_event_id is not None:
            await resume(desk, call, receive, send)
            return
        wanted = parse(CompletionRequest, body)
        card = await card_of(desk, wanted.model, call)
        call.model = card.name
        requests = completion_requests(wanted, card, call, desk.server)
        usage = bool(wanted.stream_options and wanted.stream_options.include_usage)
        told = Told(
            route="completions", model=card.name, fingerprint=fingerprint(card), include_usage=usage,
            prompts=len(requests), top_logprobs=wanted.logprobs or 0,
        )  # fmt: skip
        kept = told if wanted.stream else None
        numbers = range(len(requests)) if len(requests) > 1 else [None]
        requests = [with_meta(one, call, kept, i) for one, i in zip(requests, numbers, strict=True)]
        inbox = await desk.submit(*requests, resumable_s=call.resumable_s)
        id = inbox.request.id.removesuffix("-0")
        with naming(TEXT_NAMES):
            async with Follower(desk, call, receive, inbox) as reader:
                if wanted.stream:
                    await send_stream(call, reader, told.telling(id, inbox.requests), send)
                    return
                collected = await collect(reader)
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
