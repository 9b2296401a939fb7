"""Where the chunks of one HTTP request wait for the one reader that will send them on.

The pipe pushes, the reader takes everything that waits at once. Memory is bounded by the requests' own max_tokens.
A worker may die: as long as nothing of an answer was shown, its chunks are dropped and the request starts again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from freehold.core import Chunk, Failure, Request
from freehold.gateway.fleet import Line

RESTART = -1
"""`choice` of the chunk that tells a collecting reader: forget what you have of this request id."""


CHUNK_BYTES = 200
LOGPROB_BYTES = 150


class ClientGone(Exception):
    """The reader's own client has disconnected."""


class Inbox:
    """Chunks of one request, or of several that one HTTP request made, from `Desk.submit`. One reader."""

    __slots__ = (
        "_chunks", "_left", "_waiter", "accepted_s", "first_s", "gone", "queued_ms", "requests", "shown", "silent",
        "tap", "tokens", "unread_bytes", "workers",
    )  # fmt: skip

    def __init__(
        self, requests: Sequence[Request], *, silent: bool = False, tap: Callable[[Chunk], None] | None = None
    ) -> None:
        self.requests = tuple(requests)
        self.silent = silent
        """Nobody reads: chunks are counted and dropped (asynchronous requests)."""
        self.tap = tap
        """Told every chunk as it comes, `RESTART` too. Whoever shows them to a client sets `shown`."""
        self.gone = False
        self.shown = False
        """Something of it may have reached the client."""
        self.workers: dict[str, Line] = {}
        """Request id -> the worker that answers it, once known."""
        self.queued_ms: float | None = None
        self.tokens = 0
        self.unread_bytes = 0
        """About what the chunks that wait take in memory."""
        self.accepted_s = time.perf_counter()
        self.first_s: float | None = None
        self._left = {request.id: _answers(request) for request in requests}
        self._chunks: list[Chunk] = []
        self._waiter: asyncio.Future[None] | None = None

    @property
    def request(self) -> Request:
        return self.requests[0]

    def request_of(self, id: str) -> Request:
        return self.requests[0] if len(self.requests) == 1 else next(each for each in self.requests if each.id == id)

    @property
    def ended(self) -> bool:
        """Every answer has ended (its chunks may still wait here)."""
        return not self._left

    @property
    def pending(self) -> bool:
        """Chunks wait to be taken."""
        return bool(self._chunks)

    @property
    def open_ids(self) -> list[str]:
        """Ids of the requests that have not ended."""
        return list(self._left)

    def push(self, chunk: Chunk) -> bool:
        """Called by the desk for every chunk, in order. True if it was the last one of its request."""
        last = False
        self.tokens += chunk.tokens
        if chunk.finish is not None or chunk.failure is not None:
            left = self._left.get(chunk.id, 0) - 1
            last = left <= 0 or chunk.failure is not None
            if last:
                self._left.pop(chunk.id, None)
            else:
                self._left[chunk.id] = left
        if self.tap is not None:
            self.tap(chunk)
        if not self.silent:
            self._chunks.append(chunk)
            self.unread_bytes += CHUNK_BYTES + len(chunk.text)
            if chunk.logprobs is not None:
                self.unread_bytes += sum(LOGPROB_BYTES * (1 + len(each.top)) for each in chunk.logprobs)
            self._wake()
        return last

    def drop(self, id: str) -> None:
        """The worker of `id` is gone: what waits of it must not be shown before it is clear how it goes on."""
        self._chunks = [chunk for chunk in self._chunks if chunk.id != id]

    def restart(self, id: str) -> None:
        """The worker of `id` died before anything was shown: another one begins anew."""
        self._left[id] = next(_answers(request) for request in self.requests if request.id == id)
        self.workers.pop(id, None)
        self.first_s = None
        if self.tap is not None:
            self.tap(Chunk(id, RESTART, 0, 0, ""))
        if not self.silent:
            self.drop(id)
            self._chunks.append(Chunk(id, RESTART, 0, 0, ""))
            self._wake()

    def hang_up(self) -> None:
        """The client is gone: `take` raises from now on."""
        self.gone = True
        self._chunks = []
        self._wake()

    async def take(self, *, shown: bool = True) -> list[Chunk]:
        """All chunks that wait; waits for at least one. Raises `ClientGone`.

        With `shown` (a stream) the caller is about to send them, so nothing can begin anew any more. A caller that
        only collects passes False and obeys `RESTART` chunks.
        """
        while not self._chunks and not self.gone:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self.gone:
            raise ClientGone
        chunks, self._chunks, self.unread_bytes = self._chunks, [], 0
        if shown and not self.shown:
            self.shown = True
            chunks = [chunk for chunk in chunks if chunk.choice != RESTART] or await self.take()
        return chunks

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def failed_chunk(id: str, failure: Failure) -> Chunk:
    """The last chunk of a request that is ended from the gateway's side."""
    return Chunk(id, 0, 0, 0, "", finish="error", failure=failure)


def _answers(request: Request) -> int:
    return 1 if request.kind == "embed" else request.n
