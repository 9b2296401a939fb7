"""POST /v1/chat/completions: a conversation in, a message out, streamed or whole."""

from __future__ import annotations

import hashlib
import time
from functools import lru_cache

import msgspec

from freehold.core import Json, ModelCard
from freehold.errors import from_failure
from freehold.gateway.call import Call
from freehold.gateway.cards import card_of
from freehold.gateway.collect import Collected, Whole, collect
from freehold.gateway.desk import Desk
from freehold.gateway.events import finish_reason
from freehold.gateway.inbox import CANCELLED
from freehold.gateway.limits import naming
from freehold.gateway.resume import Told, resume, with_meta
from freehold.gateway.stream import Follower, Handler, Receive, Send, send_json, send_stream
from freehold.gateway.tools.plan import Plan
from freehold.gateway.tools.split import split
from freehold.gateway.usage import chat_logprobs, note_first, usage_object
from freehold.gateway.wire_chat import ChatRequest, chat_names, chat_request
from freehold.gateway.wire_errors import parse


def chat_route(desk: Desk) -> Handler:
    """The plain ASGI handler of the route."""

    async def chat_completions(call: Call, body: bytes, receive: Receive, send: Send) -> None:
        if call.last_event_id is not None:
            await resume(desk, call, receive, send)
            return
        wanted = parse(ChatRequest, body)
        card = await card_of(desk, wanted.model, call)
        call.model = card.name
        request, plan = chat_request(wanted, card, call, desk.server)
        usage = bool(wanted.stream_options and wanted.stream_options.include_usage)
        told = Told(route="chat", model=card.name, fingerprint=fingerprint(card), include_usage=usage, plan=plan)
        request = with_meta(request, call, told if wanted.stream else None)
        inbox = await desk.submit(request, resumable_s=call.resumable_s)
        id = inbox.request.id
        with naming(chat_names(plan)):
            async with Follower(desk, call, receive, inbox) as reader:
                if wanted.stream:
                    await send_stream(call, reader, told.telling(id, inbox.requests), send)
                    return
                collected = await collect(reader)
                note_first(call, inbox)
                await send_json(send, msgspec.json.encode(completion(id, wanted, card, plan, collected, call)))

    return chat_completions


def completion(id: str, wanted: ChatRequest, card: ModelCard, plan: Plan, collected: Collected, call: Call) -> Json:
    """The `chat.completion` object."""
    check_not_cancelled(collected)
    body: Json = {
        "id": id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": card.name,
        "system_fingerprint": fingerprint(card),
        "choices": [_choice(i, whole, id, plan) for i, whole in enumerate(collected.answers[0])],
        "usage": usage_object(collected.usage),
        "timings": call.timings(collected.usage.completion_tokens),
    }
    if wanted.service_tier is not None:
        body["service_tier"] = "default"
    if wanted.metadata is not None:
        body["metadata"] = wanted.metadata
    return body


def _choice(index: int, whole: Whole, id: str, plan: Plan) -> Json:
    content: str | None = whole.text
    reason = finish_reason(whole.finish, 0)
    message: Json = {"role": "assistant", "content": content, "refusal": None}
    splitter = plan.splitter(f"{id}/{index}")
    if splitter is not None:
        content, calls = split(splitter, whole.text)
        message["content"] = content or (None if calls else "")
        if calls:
            message["tool_calls"] = [
                {"id": each.id, "type": "function", "function": {"name": each.name, "arguments": each.arguments}}
                for each in calls
            ]
            reason = finish_reason(whole.finish, len(calls))
    logprobs = chat_logprobs(whole.logprobs) if whole.logprobs is not None else None
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason}


def check_not_cancelled(collected: Collected) -> None:
    """An answer that someone cancelled from elsewhere is no answer."""
    if any(whole.finish == "cancelled" for answers in collected.answers for whole in answers):
        raise from_failure(CANCELLED)


def fingerprint(card: ModelCard) -> str:
    """Changes when anything does that may change answers to equal, seeded requests."""
    versions = tuple(sorted(card.versions.items()))
    return _fingerprint(card.name, card.engine, card.quantization, card.revision, card.source, versions)


@lru_cache(maxsize=64)
def _fingerprint(*facts: object) -> str:
    return "fp_" + hashlib.sha256(repr(facts).encode()).hexdigest()[:12]
