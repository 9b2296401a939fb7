"""The front desk: takes requests into the ledger, and hands their tokens to whoever asked.

Everything about a request that outlives one function is here: which inbox follows it, whether it still waits, who
works on it. Runs in the event loop only.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager

from freehold.config import ServerConfig
from freehold.core import Chunk, Failure, ModelCard, Request
from freehold.errors import Conflict, InvalidRequest, Overloaded, Unavailable
from freehold.gateway.fleet import Fleet, Line
from freehold.gateway.inbox import Inbox, failed_chunk
from freehold.ledger.group import AsyncLedger
from freehold.ledger.protocol import State
from freehold.pipe import Cancel, Tokens, Wake
from freehold.telemetry.metrics import Metrics

Spawn = Callable[[Coroutine[object, object, None]], object]


class Desk:
    """Where requests and their tokens meet."""

    def __init__(self, ledger: AsyncLedger, fleet: Fleet, server: ServerConfig, metrics: Metrics, spawn: Spawn) -> None:
        self.ledger = ledger
        ledger.on_visible = self.wake
        self.fleet = fleet
        self.server = server
        self.metrics = metrics
        self.spawn = spawn
        """Starts a coroutine in the process's one task group."""
        self.began_s = time.monotonic()
        self.accepted = 0
        """Requests since then."""
        self.draining = False
        self.cut: Failure | None = None
        """Once the process can't wait any longer: what those who follow background answers are told."""
        self._followers: list[Callable[[], None]] = []
        self._idle = asyncio.Event()
        self._wake_due = False
        self.inboxes: dict[str, Inbox] = {}
        self.waiting_ids: set[str] = set()
        self.lately_ended: dict[str, deque[str]] = {}

    # ---- for the routes ----

    @property
    def waiting(self) -> int:
        """Requests accepted here that no worker has begun."""
        return len(self.waiting_ids)

    @property
    def running(self) -> int:
        """Requests accepted here that a worker has begun and not ended."""
        return len(self.inboxes) - len(self.waiting_ids)

    @property
    def open(self) -> int:
        """Requests that somebody waits for."""
        return sum(not inbox.silent for inbox in self.inboxes.values()) + len(self._followers)

    async def card(self, model: str | None) -> ModelCard:
        """The card of the model asked for. Raises `ModelNotFound` or `Unavailable`."""
        return await self.fleet.card(model)

    def check_room(self, requests: int = 1) -> None:
        """Raises `Unavailable` while draining, `InvalidRequest` for more than can ever wait, `Overloaded` when too many
        wait already."""
        if self.draining:
            raise Unavailable(
                "The server is shutting down.", "It finishes what runs and takes nothing new.", "Try another server."
            )
        if requests > max(1, self.server.max_queue):
            raise InvalidRequest(
                f"{requests} prompts at once are too many.",
                f"At most {self.server.max_queue} requests may wait (server.max_queue).",
                "Send fewer at a time.",
                param="prompt",
            )
        if len(self.waiting_ids) + requests > self.server.max_queue:
            raise Overloaded(
                "The queue is full.",
                f"{len(self.waiting_ids)} requests wait, and at most {self.server.max_queue} may.",
                "Try again in a moment.",
            )

    async def submit(
        self, *requests: Request, silent: bool = False, tap: Callable[[Chunk], None] | None = None
    ) -> Inbox:
        """Accept requests durably and follow them. When this returns they will be answered; workers have been woken
        already, and what they gave since waits in the inbox.

        `silent`: nobody will read the inbox; the result is fetched from the ledger later (`keep` must be set). `tap` is
        told every chunk as it comes, from the first.
        """
        self.check_room(len(requests))
        inbox = Inbox(requests, silent=silent, tap=tap)
        for request in requests:
            self.inboxes[request.id] = inbox
            self.waiting_ids.add(request.id)
        try:
            if len(requests) == 1:
                await self.ledger.accept(requests[0])
            else:
                await asyncio.gather(*(self.ledger.accept(request) for request in requests))
        except BaseException:
            self.forget(*(request.id for request in requests))
            self.cancel_later(request.id for request in requests)
            raise
        self.accepted += len(requests)
        return inbox

    async def cancel(self, id: str) -> State | None:
        """End a request, queued or running. The state it was in, or None if the ledger doesn't know it."""
        state = await self.ledger.cancel(id)
        inbox = self.inboxes.get(id)
        if state == "queued" and inbox is not None:
            self.fail(id, CANCELLED)
        elif state == "running":
            self.tell(inbox.workers.get(id) if inbox is not None else None, Cancel(id))
        return state

    def leave(self, inbox: Inbox) -> None:
        """The reader goes away. What has not ended is cancelled: nobody would see it."""
        if inbox.gone:
            return
        unfinished = inbox.open_ids
        inbox.hang_up()
        if unfinished:
            self.forget(*unfinished)
            for id in unfinished:
                self.tell(inbox.workers.get(id), Cancel(id))
            self.cancel_later(unfinished)

    @contextmanager
    def following(self, wake: Callable[[], None]) -> Iterator[None]:
        """Somebody reads a background answer meanwhile. `wake` is called when `cut` is set."""
        self._followers.append(wake)
        try:
            yield
        finally:
            self._followers.remove(wake)
            self._look_idle()

    def cut_off(self, failure: Failure) -> None:
        """Send those away who follow background answers."""
        self.cut = failure
        for wake in list(self._followers):
            wake()

    # ---- for the pipe ----

    def connected(self, line: Line) -> None:
        """A worker is there: what lies in the ledger is for it."""
        line.send(Wake())

    def tokens(self, line: Line, frame: Tokens) -> None:
        """Hand the chunks of one step to their readers."""
        inboxes = self.inboxes
        for id, queued_ms in frame.queued_ms.items():
            inbox = inboxes.get(id)
            if inbox is not None:
                inbox.queued_ms = max(inbox.queued_ms or 0.0, queued_ms)
                self._begun(inbox, id, line)
        for chunk in frame.chunks:
            self.deliver(chunk, line)

    async def drained(self) -> None:
        """Refuse new requests from now on; returns when nobody waits for an answer any more."""
        self.draining = True
        if self.open:
            await self._idle.wait()

    # ---- for `losses` ----

    def deliver(self, chunk: Chunk, line: Line) -> None:
        inbox = self.inboxes.get(chunk.id)
        if inbox is None:
            return
        if chunk.id not in inbox.workers:
            self._begun(inbox, chunk.id, line)
        if inbox.first_s is None and chunk.tokens:
            inbox.first_s = time.perf_counter()
        last = inbox.push(chunk)
        if chunk.usage is not None:
            usage = chunk.usage
            self.metrics.used(inbox.request.model, usage.prompt_tokens if last else 0, usage.completion_tokens)
        if last:
            self.forget(chunk.id)
            self.lately_ended.setdefault(line.owner, deque(maxlen=256)).append(chunk.id)
            if chunk.failure is not None and inbox.request.n > 1:
                line.send(Cancel(chunk.id))

    def _begun(self, inbox: Inbox, id: str, line: Line) -> None:
        inbox.workers[id] = line
        self.waiting_ids.discard(id)

    def fail(self, id: str, failure: Failure) -> None:
        inbox = self.inboxes.get(id)
        if inbox is not None:
            self.forget(id)
            inbox.push(failed_chunk(id, failure))

    def forget(self, *ids: str) -> None:
        for id in ids:
            self.inboxes.pop(id, None)
            self.waiting_ids.discard(id)
        self._look_idle()

    def _look_idle(self) -> None:
        if self.draining and not self.open:
            self._idle.set()

    def cancel_later(self, ids: Iterable[str]) -> None:
        async def cancel(ids: Sequence[str]) -> None:
            for id in ids:
                await self.ledger.cancel(id)

        self.spawn(cancel(list(ids)))

    def tell(self, line: Line | None, frame: Cancel) -> None:
        """Send to the worker that has it, or to all while nobody knows which."""
        for each in [line] if line is not None else list(self.fleet.lines.values()):
            each.send(frame)

    def wake(self) -> None:
        """Tell the workers, once for all that is accepted in this turn of the loop."""
        if not self._wake_due:
            self._wake_due = True
            asyncio.get_running_loop().call_soon(self._wake_now)

    def _wake_now(self) -> None:
        self._wake_due = False
        for line in self.fleet.lines.values():
            line.send(Wake())


CANCELLED = Conflict("The request was cancelled.").failure()
