"""Between the nouns and the columns: what of a request SQL sees, and what it stores as msgpack. Pure."""

from __future__ import annotations

import msgspec

from freehold import order
from freehold.core import Json, Request, Result
from freehold.errors import InvalidRequest

_encoder = msgspec.msgpack.Encoder()
requests = msgspec.msgpack.Decoder(Request)
results = msgspec.msgpack.Decoder(Result)


def columns(request: Request) -> dict[str, object]:
    rank = order.key(request, 0)
    return {
        "id": request.id,
        "priority": rank.priority,
        "due_unix_s": rank.due_unix_s,
        "answers": request.n,
        "keep": int(request.keep),
        "head": encode(_head(request)),
    }


def encode(record: Request | Result) -> bytes:
    """Raises `InvalidRequest` for what a stranger's JSON may hold and a 64-bit store may not."""
    try:
        return _encoder.encode(record)
    except OverflowError as error:
        why = "Numbers must fit into 64 bits."
        raise InvalidRequest("A whole number in the request is too large.", why) from error


def _head(request: Request) -> Request:
    """`request` without anything a person wrote: what stays once an unkept one has ended."""
    return msgspec.structs.replace(
        request, messages=(), prompt="", inputs=(), tools=(), json_schema=None, template_kwargs={}, meta={}
    )


def with_meta(blob: bytes, meta: Json) -> bytes:
    return encode(msgspec.structs.replace(requests.decode(blob), meta=meta))


def since_ms(then_unix_s: float, now_unix_s: float) -> float:
    """Never negative, although a wall clock may be set back."""
    return max(0.0, (now_unix_s - then_unix_s) * 1000.0)
