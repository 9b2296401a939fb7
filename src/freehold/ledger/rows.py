"""Between the nouns and what a store holds: which parts of a request it sees, and what it keeps as msgpack. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from zlib import crc32

import msgspec

from freehold import order
from freehold.core import Answer, Chunk, FinishReason, Json, Request, Result, TokenLogprob, Usage
from freehold.errors import Conflict, DeadlinePassed, InvalidRequest, Poisoned
from freehold.ledger.protocol import Why

LOTS = 100
BY_DEADLINE = 2
"""What a store keeps as `cancel_asked`: 1 if somebody asked, this if the deadline did."""

_encoder = msgspec.msgpack.Encoder()
requests = msgspec.msgpack.Decoder(Request)
results = msgspec.msgpack.Decoder(Result)
_chunks = msgspec.msgpack.Decoder(list[Chunk])
_chunk = msgspec.msgpack.Decoder(Chunk)
_tops = msgspec.msgpack.Decoder(dict[int, int])

Tops = dict[int, int]
"""How far each answer is: the tokens that are stored of it, or `-1 - tokens` once its end is stored too."""
ALL = -1
"""In `Tops`: a failure has ended all answers."""


def lot(id: str) -> int:
    """From 0 to 99, the same on every host: a canary takes some lots, the others the rest."""
    return crc32(id.encode()) % LOTS


def columns(request: Request) -> dict[str, object]:
    """Everything a store looks at, but the share's tag, which depends on who asked before."""
    rank = order.key(request, 0)
    return {
        "id": request.id,
        "model": request.model,
        "tenant": request.tenant,
        "lot": lot(request.id),
        "priority": rank.priority,
        "due_unix_s": rank.due_unix_s,
        "cost_tokens": order.cost_tokens(request),
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


def json_list(ids: Sequence[str]) -> str:
    return msgspec.json.encode(list(ids)).decode()


def since_ms(then_unix_s: float, now_unix_s: float) -> float:
    """Never negative, although a wall clock may be set back."""
    return max(0.0, (now_unix_s - then_unix_s) * 1000.0)


# ---- pieces of answers ---------------------------------------------------------------------------


def encode_chunks(chunks: Sequence[Chunk]) -> bytes:
    return _encoder.encode(chunks)


def decode_chunks(pieces: Iterable[bytes]) -> tuple[Chunk, ...]:
    return tuple(chunk for piece in pieces for chunk in _chunks.decode(piece))


def encode_tops(tops: Tops) -> bytes:
    return _encoder.encode(tops)


def decode_tops(blob: bytes | None) -> Tops:
    return {} if blob is None else _tops.decode(blob)


def beyond(tops: Tops, chunks: Iterable[Chunk]) -> tuple[list[Chunk], Tops]:
    """Those of `chunks` that go on where the stored ones end, and how far the answers are with them. What is told
    again, or comes after a gap, is left out."""
    after = dict(tops)
    new: list[Chunk] = []
    for chunk in chunks:
        top = after.get(chunk.choice, 0)
        ends = chunk.finish is not None or chunk.failure is not None
        if chunk.offset == top and (chunk.tokens or ends):
            new.append(chunk)
            top += chunk.tokens
            after[chunk.choice] = -1 - top if ends else top
        if chunk.failure is not None:
            after[ALL] = -1
    return new, after


def unseen(chunks: Iterable[Chunk], have: Sequence[int]) -> tuple[Chunk, ...]:
    """Those a reader lacks who has `have[choice]` tokens of each answer; an end is always told."""
    return tuple(
        chunk for chunk in chunks
        if chunk.finish is not None
        or chunk.failure is not None
        or chunk.offset + chunk.tokens > (have[chunk.choice] if chunk.choice < len(have) else 0)
    )  # fmt: skip


def complete(tops: Tops, answers: int) -> bool:
    """Every answer has ended: only the worker's report is missing."""
    return ALL in tops or sum(top < 0 for top in tops.values()) >= answers


def told_by(chunks: Sequence[Chunk], worker: str, total_ms: float) -> Result:
    """The result that a worker would have reported after these chunks, as far as they tell."""
    usages = [chunk.usage for chunk in chunks if chunk.usage is not None]
    return Result(
        answers=tuple(_answer(chunks, choice) for choice in sorted({chunk.choice for chunk in chunks})),
        usage=Usage(
            prompt_tokens=max((usage.prompt_tokens for usage in usages), default=0),
            cached_tokens=max((usage.cached_tokens for usage in usages), default=0),
            completion_tokens=sum(usage.completion_tokens for usage in usages),
        ),
        failure=next((chunk.failure for chunk in chunks if chunk.failure is not None), None),
        cancelled=any(chunk.finish == "cancelled" for chunk in chunks),
        embeddings=next((chunk.embeddings for chunk in chunks if chunk.embeddings is not None), None),
        worker=worker.partition(":")[0],
        total_ms=total_ms,
    )


def _answer(chunks: Sequence[Chunk], choice: int) -> Answer:
    own = [chunk for chunk in chunks if chunk.choice == choice]
    logprobs: list[TokenLogprob] | None = None
    for chunk in own:
        if chunk.logprobs is not None:
            logprobs = [*(logprobs or ()), *chunk.logprobs]
    finish: FinishReason = own[-1].finish or "error"
    return Answer(
        text="".join(chunk.text for chunk in own),
        finish=finish,
        logprobs=None if logprobs is None else tuple(logprobs),
        stop=own[-1].stop,
    )


def decode_each(chunks: Iterable[bytes]) -> tuple[Chunk, ...]:
    return tuple(_chunk.decode(chunk) for chunk in chunks)


# ---- refusals ------------------------------------------------------------------------------------


def id_taken(id: str) -> Conflict:
    return Conflict(f"Request {id} was accepted before.", next="Give each request its own id.")


def key_taken(id: str) -> Conflict:
    return Conflict(
        "This idempotency key came with another body before.",
        f"The first one was {id}.",
        "Give each request its own key.",
    )


def why_stopped(ids: Sequence[str], standing: Mapping[str, int]) -> dict[str, Why]:
    """`standing` is `cancel_asked` of those that are still the asker's."""
    return {id: _WHY[standing.get(id)] for id in ids if standing.get(id) != 0}


_WHY: dict[int | None, Why] = {None: "lost", 1: "cancelled", BY_DEADLINE: "overdue"}

# ---- ends that no worker reports -----------------------------------------------------------------


def cancelled(waited_ms: float) -> Result:
    return Result(cancelled=True, queued_ms=waited_ms, total_ms=waited_ms)


def overdue(attempt: int, waited_ms: float) -> Result:
    if attempt == 0:
        error = DeadlinePassed("The request's deadline passed before it could start.", "It waited in the queue.")
    else:
        error = DeadlinePassed("The request's deadline passed before its answer ended.")
    return Result(failure=error.failure(), queued_ms=waited_ms if attempt == 0 else 0.0, total_ms=waited_ms)


def cut_short(cancel_asked: int, total_ms: float) -> Result:
    """The end of one that lost its worker and is not tried again: it should stop, or its reader has had it all."""
    if cancel_asked == BY_DEADLINE:
        return overdue(1, total_ms)
    return Result(cancelled=bool(cancel_asked), total_ms=total_ms)


def poisoned(deaths: int, total_ms: float) -> Result:
    """No advice to send it again: it may well be what they died of."""
    why = f"It was tried {deaths} times, and each time the worker died while answering."
    error = Poisoned("The request could not be answered.", why, "See the server's log for why workers die.")
    return Result(failure=error.failure(), total_ms=total_ms)
