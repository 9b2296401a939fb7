"""Between the nouns and what the scripts read and answer. Pure.

Redis' msgpack knows no binary values: a script gets an index in msgpack, and the blobs it refers to by number.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec

from freehold.core import Chunk, Request
from freehold.ledger import rows
from freehold.ledger.protocol import STATES, Entry, Progress

pack = msgspec.msgpack.encode
unpack = msgspec.msgpack.decode
FIELDS = ("body", "head", "state", "attempt", "owner", "result", "accepted", "cancel", "deaths", "meta")
"""Of a request, as `entry_of` reads them."""


def row(request: Request, prefix: str) -> dict[str, object]:
    row = rows.columns(request)
    due = row.pop("due_unix_s")
    assert isinstance(due, float)
    row |= {"cost": row.pop("cost_tokens"), "body": rows.encode(request)}
    row |= {"due": repr(due), "rank": f"{request.priority + (1 << 31):08x}{sortable(due)}"}
    if request.idempotency_key is not None:
        owner = f"{len(request.tenant)}:{request.tenant}"
        row["key"] = f"{prefix}:k:{owner}:{request.idempotency_key}"
        row["fingerprint"] = request.fingerprint
    return row


def packed(progress: Sequence[Progress]) -> list[bytes]:
    """The index that a script reads, then the chunks it refers to: Redis' msgpack knows no binary values."""
    blobs: list[bytes] = []
    index = [(part.id, part.attempt, parts_of(part.chunks, blobs)) for part in progress]
    return [pack(index), *blobs]


def parts_of(chunks: Sequence[Chunk], blobs: list[bytes]) -> list[tuple[int, int, int, bool, bool, int]]:
    """What the script must see of each chunk."""
    parts = []
    for chunk in chunks:
        failed = chunk.failure is not None
        ends = failed or chunk.finish is not None
        parts.append((chunk.choice, chunk.offset, chunk.tokens, ends, failed, put(blobs, pack(chunk))))
    return parts


def put(blobs: list[bytes], blob: bytes) -> int:
    blobs.append(blob)
    return len(blobs) - 1


def sortable(number: float) -> str:
    """Hexadecimal digits that sort as the number does, from 0 to infinity."""
    return struct.pack(">d", max(0.0, number)).hex()


def request_of(blob: bytes, meta: bytes | None) -> Request:
    request = rows.requests.decode(blob)
    return msgspec.structs.replace(request, meta=unpack(meta)) if meta else request


def entry_of(blob: bytes, meta: bytes | None, rest: Sequence[bytes | None]) -> Entry:
    state, attempt, owner, result, accepted, cancel, deaths = (value or b"" for value in rest)
    return Entry(
        request=request_of(blob, meta),
        state=STATES[int(state)],
        attempt=int(attempt),
        worker=owner.decode(),
        result=rows.results.decode(result) if result else None,
        accepted_unix_s=float(accepted),
        cancel_asked=cancel != b"0",
        deaths=int(deaths),
    )
