"""Where the chunks of one HTTP request are, for everyone who reads them.

The pipe pushes; each reader takes what it has not had yet. All chunks stay until the end, within the requests' own
max_tokens, so that a reader may come back, and another worker goes on after what was shown here. Who it is that answers
may change: chunks that were told before are left out, and must read as they did.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from freehold.core import Chunk, Failure, Request
from freehold.echo import Echo
from freehold.errors import ResumeFailed
from freehold.gateway.fleet import Line

Key = tuple[str, int]
"""Request id and choice."""


CHUNK_BYTES = 200
LOGPROB_BYTES = 150


class ClientGone(Exception):
    """The reader's own client has disconnected."""


class Inbox:
    """Chunks of one request, or of several that one HTTP request made, from `Desk.submit`."""

    __slots__ = (
        "_echoes", "_ended", "_have", "_left", "accepted_s", "attempts", "came", "chunks", "first_s", "heard_s",
        "lasting", "queued_ms", "readers", "requests", "resumable_s", "tokens", "told_bytes", "workers",
    )  # fmt: skip

    def __init__(self, requests: Sequence[Request], *, lasting: bool = False, resumable_s: float = 0.0) -> None:
        self.requests = tuple(requests)
        self.lasting = lasting
        """It goes on without a reader: its result is kept."""
        self.resumable_s = resumable_s
        """For so long it goes on without a reader, who may come back."""
        self.readers: list[Reader] = []
        self.came = 0
        """How many have read it so far."""
        self.chunks: list[Chunk] = []
        self.workers: dict[str, Line] = {}
        """Request id -> the worker that answers it, once known."""
        self.attempts: dict[str, int] = {}
        """Request id -> the highest fencing number heard of."""
        self.queued_ms: float | None = None
        self.tokens = 0
        self.told_bytes = 0
        """About what its chunks take in memory."""
        self.accepted_s = self.heard_s = time.perf_counter()
        self.first_s: float | None = None
        self._left = {request.id: answers(request) for request in requests}
        self._have: dict[Key, int] = {}
        self._ended: set[Key] = set()
        self._echoes: dict[Key, Echo] = {}

    @property
    def request(self) -> Request:
        return self.requests[0]

    def request_of(self, id: str) -> Request:
        return self.requests[0] if len(self.requests) == 1 else next(each for each in self.requests if each.id == id)

    @property
    def ended(self) -> bool:
        """Every answer has ended (its chunks may still wait for readers)."""
        return not self._left

    @property
    def open_ids(self) -> list[str]:
        """Ids of the requests that have not ended."""
        return list(self._left)

    def is_open(self, id: str) -> bool:
        return id in self._left

    def have(self, id: str) -> list[int]:
        """Tokens had of each answer of a request."""
        n = next(answers(request) for request in self.requests if request.id == id)
        return [self._have.get((id, choice), 0) for choice in range(n)]

    def text(self, id: str, choice: int) -> str:
        return "".join(chunk.text for chunk in self.chunks if chunk.choice == choice and chunk.id == id)

    def open_choices(self, id: str) -> list[int]:
        return [choice for choice in range(len(self.have(id))) if (id, choice) not in self._ended]

    def begun(self, id: str, line: Line, attempt: int) -> bool:
        """A worker has taken it up. False if a later attempt is known: what this one says counts no more."""
        if attempt < self.attempts.get(id, 0):
            return False
        self.attempts[id] = attempt
        self.workers[id] = line
        for key in [key for key in self._echoes if key[0] == id]:
            del self._echoes[key]
        return True

    def push(self, chunk: Chunk) -> bool:
        """Called by the desk for every chunk. True if it was the last one of its request. Raises `Gap` if something
        is missing before it, `ResumeFailed` if it tells what was told before in other words."""
        key = (chunk.id, chunk.choice)
        self.heard_s = time.perf_counter()
        if chunk.failure is None:
            fitted = self._fitted(key, chunk)
            if fitted is None:
                return False
            chunk = fitted
            self._have[key] = chunk.offset + chunk.tokens
        last = False
        self.tokens += chunk.tokens
        if chunk.finish is not None or chunk.failure is not None:
            self._ended.add(key)
            left = self._left.get(chunk.id, 0) - 1
            last = left <= 0 or chunk.failure is not None
            if last:
                self._left.pop(chunk.id, None)
            else:
                self._left[chunk.id] = left
        self.chunks.append(chunk)
        self.told_bytes += CHUNK_BYTES + len(chunk.text)
        if chunk.logprobs is not None:
            self.told_bytes += sum(LOGPROB_BYTES * (1 + len(each.top)) for each in chunk.logprobs)
        for reader in self.readers:
            reader.wake()
        return last

    def _fitted(self, key: Key, chunk: Chunk) -> Chunk | None:
        """What of `chunk` follows what was told; None if nothing."""
        have = self._have.get(key, 0)
        if key in self._ended or chunk.id not in self._left:
            return None
        echo = self._echoes.get(key) if self._echoes else None
        if echo is None:
            if chunk.offset == have:
                return chunk
            if chunk.offset > have:
                raise Gap(chunk.id)
            shown = [old for old in self.chunks if (old.id, old.choice) == key and old.offset >= chunk.offset]
            if shown[0].offset != chunk.offset:
                raise ResumeFailed("The interrupted answer can't be continued.", "It was cut within a piece of it.")
            echo = self._echoes[key] = Echo(shown)
        heard = echo.hear(chunk)
        if echo.over:
            del self._echoes[key]
        return heard

    def tail(self, id: str) -> list[Chunk]:
        """Everything that was told of a request here."""
        return [chunk for chunk in self.chunks if chunk.id == id and chunk.failure is None]


class Gap(Exception):
    """Chunks of this request are missing."""

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.id = id


class Reader:
    """One who reads an inbox, from its beginning."""

    __slots__ = ("_at", "_read_bytes", "_waiter", "cancels", "gone", "inbox")

    def __init__(self, inbox: Inbox, *, cancels: bool = False) -> None:
        """`cancels`: when the last such reader leaves, nobody wants the answer any more."""
        self.inbox = inbox
        self.cancels = cancels
        self.gone = False
        self._at = 0
        self._read_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        inbox.readers.append(self)
        inbox.came += 1

    @property
    def pending(self) -> bool:
        """Chunks wait to be taken."""
        return self._at < len(self.inbox.chunks)

    @property
    def unread_bytes(self) -> int:
        """About what it keeps in memory by not reading."""
        return self.inbox.told_bytes - self._read_bytes

    @property
    def done(self) -> bool:
        """There is nothing more to come."""
        return self.inbox.ended and not self.pending

    async def take(self) -> list[Chunk]:
        """All chunks that wait; waits for at least one. Raises `ClientGone`."""
        await self.first()
        chunks = self.inbox.chunks[self._at :] if self._at else list(self.inbox.chunks)
        self._at, self._read_bytes = len(self.inbox.chunks), self.inbox.told_bytes
        return chunks

    async def first(self) -> None:
        """Wait until there is something to take. Raises `ClientGone`."""
        while not self.pending and not self.gone:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self.gone:
            raise ClientGone

    def hang_up(self) -> None:
        """The client is gone: `take` raises from now on."""
        self.gone = True
        self.wake()

    def leave(self) -> None:
        if self in self.inbox.readers:
            self.inbox.readers.remove(self)

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def failed_chunk(id: str, failure: Failure) -> Chunk:
    """The last chunk of a request that is ended from the gateway's side."""
    return Chunk(id, 0, 0, 0, "", finish="error", failure=failure)


def answers(request: Request) -> int:
    return 1 if request.kind == "embed" else request.n
