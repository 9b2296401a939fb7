"""Reads a request's body, never more of it than allowed. How long it may take is the socket's matter (`protocol`)."""

from __future__ import annotations

from freehold.errors import InvalidRequest, TooLarge
from freehold.gateway.call import HeaderList
from freehold.gateway.reader import ClientGone
from freehold.gateway.stream import Receive

DISCARD_BYTES = 64 << 20
"""A body over the limit is read on and thrown away up to here, so that the client sees the 413 instead of a reset."""


def header(headers: HeaderList, name: bytes) -> bytes | None:
    """The first header of that (lower case) name."""
    for key, value in headers:
        if key == name:
            return value
    return None


async def read_body(headers: HeaderList, receive: Receive, limit_bytes: int) -> bytes:
    """The whole body. Raises `TooLarge`, `InvalidRequest` for a bad length, `ClientGone`."""
    declared = _declared(headers)
    waits = (header(headers, b"expect") or b"").lower() == b"100-continue"
    if declared > limit_bytes and (waits or declared > DISCARD_BYTES):
        raise _too_large(limit_bytes)
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        part: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(part)
        if size <= limit_bytes:
            parts.append(part)
        elif size > DISCARD_BYTES:
            raise _too_large(limit_bytes)
        else:
            parts.clear()
    if size > limit_bytes:
        raise _too_large(limit_bytes)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _declared(headers: HeaderList) -> int:
    value = header(headers, b"content-length")
    if value is None:
        return 0
    if not value.isdigit():
        raise InvalidRequest("The content-length header is not a number.")
    return int(value)


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(
        "The request body is too large.",
        f"At most {limit_bytes} bytes are taken.",
        "Shorten it, or raise server.max_body_bytes.",
    )
