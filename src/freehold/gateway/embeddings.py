"""POST /v1/embeddings: texts in, vectors out."""

from __future__ import annotations

import array
import base64
import sys
from collections.abc import Sequence

import msgspec

from freehold.errors import EngineFailed
from freehold.gateway.call import Call
from freehold.gateway.cards import card_of
from freehold.gateway.collect import collect
from freehold.gateway.desk import Desk
from freehold.gateway.resume import with_meta
from freehold.gateway.stream import Follower, Handler, Receive, Send, send_json
from freehold.gateway.usage import note_first
from freehold.gateway.wire_errors import parse
from freehold.gateway.wire_text import EmbeddingRequest, embedding_request


def embeddings_route(desk: Desk) -> Handler:
    """The plain ASGI handler of the route."""

    async def embeddings(call: Call, body: bytes, receive: Receive, send: Send) -> None:
        wanted = parse(EmbeddingRequest, body)
        card = await card_of(desk, wanted.model, call)
        call.model = card.name
        request = with_meta(embedding_request(wanted, card, call, desk.server), call, None)
        inbox = await desk.submit(request, resumable_s=call.resumable_s)
        async with Follower(desk, call, receive, inbox) as reader:
            collected = await collect(reader)
        note_first(call, inbox)
        if collected.embeddings is None:
            raise EngineFailed("The engine gave no embeddings.", next="Look at the worker's log.")
        encoded = wanted.encoding_format == "base64"
        data = [
            {"object": "embedding", "index": i, "embedding": _base64(vector) if encoded else vector}
            for i, vector in enumerate(collected.embeddings)
        ]
        tokens = collected.usage.prompt_tokens
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        await send_json(send, msgspec.json.encode({"object": "list", "data": data, "model": card.name, "usage": usage}))

    return embeddings


def _base64(vector: Sequence[float]) -> str:
    """Little-endian float32, as OpenAI's clients read it."""
    floats = array.array("f", vector)
    if sys.byteorder == "big":
        floats.byteswap()
    return base64.b64encode(floats.tobytes()).decode()
