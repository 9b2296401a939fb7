"""Waits for whole answers: for clients that don't stream."""

from __future__ import annotations

import msgspec

from freehold.core import Chunk, FinishReason, TokenLogprob, Usage
from freehold.errors import from_failure
from freehold.gateway.reader import Reader
from freehold.gateway.usage import Counter


class Whole(msgspec.Struct, gc=False):
    """One answer."""

    text: str
    finish: FinishReason
    logprobs: list[TokenLogprob] | None
    stop: str | int | None


class Collected(msgspec.Struct):
    """Everything an inbox brought: for each of its requests, in order, the answers."""

    answers: list[list[Whole]]
    usage: Usage
    embeddings: tuple[tuple[float, ...], ...] | None


class _Parts:
    __slots__ = ("finish", "logprobs", "stop", "texts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.logprobs: list[TokenLogprob] | None = None
        self.finish: FinishReason = "stop"
        self.stop: str | int | None = None

    def add(self, chunk: Chunk) -> None:
        self.texts.append(chunk.text)
        if chunk.logprobs is not None:
            if self.logprobs is None:
                self.logprobs = []
            self.logprobs.extend(chunk.logprobs)
        if chunk.finish is not None:
            self.finish, self.stop = chunk.finish, chunk.stop


async def collect(reader: Reader) -> Collected:
    """All answers of an inbox. Raises the error that ended it, or `ClientGone`."""
    parts: dict[tuple[str, int], _Parts] = {}
    counter = Counter()
    embeddings: tuple[tuple[float, ...], ...] | None = None
    while True:
        for chunk in await reader.take():
            counter.add(chunk)
            if chunk.failure is not None:
                raise from_failure(chunk.failure)
            embeddings = chunk.embeddings if chunk.embeddings is not None else embeddings
            key = (chunk.id, chunk.choice)
            part = parts.get(key)
            if part is None:
                part = parts[key] = _Parts()
            part.add(chunk)
        if reader.done:
            break
    answers = [
        [_whole(parts.get((request.id, choice)) or _Parts()) for choice in range(request.n)]
        for request in reader.inbox.requests
    ]
    return Collected(answers, counter.total(), embeddings)


def _whole(part: _Parts) -> Whole:
    return Whole("".join(part.texts), part.finish, part.logprobs, part.stop)
