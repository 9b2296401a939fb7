"""Where the chunks of one HTTP request are, for everyone who reads them.

The pipe pushes; each reader takes what it has not had yet. All chunks stay until the end, within the requests' own
max_tokens, so that a reader may come back, and another worker goes on after what was shown here. Who it is that answers
may change: chunks that were told before are left out, and must read as they did.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from freehold.core import Chunk, Failure, Request, Usage
from freehold.echo import Echo
from freehold.errors import ResumeFailed
from freehold.gateway.fleet import Line
from freehold.telemetry.timeline import Live

if TYPE_CHECKING:
    from freehold.gateway.call import Call
    from freehold.gateway.reader import Reader

Key = tuple[str, int]
"""Request id and choice."""


CHUNK_BYTES = 200
LOGPROB_BYTES = 150


class Inbox:
    """Chunks of one request, or of several that one HTTP request made, from `Desk.submit`."""

    __slots__ = (
        "_echoes", "_ended", "_have", "_left", "_several", "_spoke_s", "accepted_s", "attempts", "call", "came",
        "capped", "chunks", "ends", "first_s", "heard_s", "last_s", "lasting", "live", "noted", "queued_ms",
        "readers", "received_s", "requests", "resumable_s", "route", "slow_gaps", "streamed", "taken_up", "tokens",
        "told_bytes", "worked", "workers",
    )  # fmt: skip

    def __init__(self, requests: Sequence[Request], *, lasting: bool = False, resumable_s: float = 0.0) -> None:
        self.requests = tuple(requests)
        self.lasting = lasting or resumable_s == math.inf
        """It goes on without a reader: its result is kept, or its reader is sure to come back."""
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
        self.ends: list[Chunk] = []
        """The last chunk of each answer that has ended."""
        self.accepted_s = self.heard_s = time.perf_counter()
        unix_s = self.request.received_unix_s
        self.received_s = self.accepted_s - (max(0.0, time.time() - unix_s) if unix_s else 0.0)
        self.first_s: float | None = None
        self.last_s: float | None = None
        """When the newest token came."""
        self._several = len(requests) > 1 or answers(self.request) > 1
        self._spoke_s: dict[Key, float] = {}
        """When each of several answers last said something."""
        self.live: Live | None = None
        """Of the variant that answers, where gaps between its tokens are counted; None: nowhere."""
        self.slow_gaps = 0
        """Of its gaps, those over the objective's limit."""
        self.call: Call | None = None
        """Of the client that waits for it."""
        self.noted = False
        """It has had its row."""
        self.taken_up = False
        """From another gateway: when its first token came is not known here."""
        self.capped = False
        """Its limit is one that nobody asked for."""
        self.streamed = False
        self.route = ""
        self.worked: list[str] = []
        """Names of the workers that took it up."""
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

    @property
    def failure(self) -> Failure | None:
        """What ended it, if one of its answers failed."""
        return next((chunk.failure for chunk in self.ends if chunk.failure is not None), None)

    @property
    def gaps(self) -> int:
        """Between the pieces of text of its answers."""
        pieces = Counter((chunk.id, chunk.choice) for chunk in self.chunks if chunk.text)
        return sum(count - 1 for count in pieces.values())

    @property
    def cancelled(self) -> bool:
        return any(chunk.finish == "cancelled" for chunk in self.ends)

    @property
    def usage(self) -> Usage:
        """Of all its answers: as their engine told at each end, else counted. A prompt counts once."""
        told = {(chunk.id, chunk.choice): chunk.usage for chunk in self.ends if chunk.usage is not None}
        read: dict[str, tuple[int, int]] = {}
        for (id, _), usage in told.items():
            read[id] = max(read.get(id, (0, 0)), (usage.prompt_tokens, usage.cached_tokens))
        counted = sum(tokens for key, tokens in self._have.items() if key not in told)
        return Usage(
            prompt_tokens=sum(prompt for prompt, _ in read.values()),
            cached_tokens=sum(cached for _, cached in read.values()),
            completion_tokens=counted + sum(usage.completion_tokens for usage in told.values()),
        )

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
        if line.worker not in self.worked:
            self.worked.append(line.worker)
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
            if chunk.text:
                self._note_gap(key)
        last = False
        self.tokens += chunk.tokens
        if chunk.finish is not None or chunk.failure is not None:
            self._ended.add(key)
            self.ends.append(chunk)
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

    def _note_gap(self, key: Key) -> None:
        """Text came: one gap, as a client counts them, however many tokens it holds."""
        now_s = self.heard_s
        before_s = self._spoke_s.get(key) if self._several else self.last_s
        self.last_s = now_s
        if self._several:
            self._spoke_s[key] = now_s
        live = self.live
        if before_s is not None and live is not None:
            live.gaps_s.append(now_s - before_s)
            if now_s - before_s > live.gap_limit_s:
                self.slow_gaps += 1

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


def failed_chunk(id: str, failure: Failure) -> Chunk:
    """The last chunk of a request that is ended from the gateway's side."""
    return Chunk(id, 0, 0, 0, "", finish="error", failure=failure)


def answers(request: Request) -> int:
    return 1 if request.kind == "embed" else request.n
