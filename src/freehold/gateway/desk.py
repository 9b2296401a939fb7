"""The front desk: takes requests into the ledger, and hands their tokens to whoever asked.

Everything about a request that outlives one function is here: which inbox follows it, whether it still waits, who
works on it. Runs in the event loop only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial

from freehold import log
from freehold.core import Chunk, Failure, Request
from freehold.errors import Conflict, DeadlinePassed, ResumeFailed, Unavailable
from freehold.gateway import attach
from freehold.gateway.alarms import Alarms
from freehold.gateway.auth import LOCAL, Key
from freehold.gateway.fleet import Fleet, Line
from freehold.gateway.followers import Followers
from freehold.gateway.inbox import Gap, Inbox, failed_chunk
from freehold.gateway.insist import insist
from freehold.gateway.intake import Intake
from freehold.gateway.observe import Observe
from freehold.gateway.reader import Reader
from freehold.gateway.rouse import Rouse
from freehold.gateway.seeds import seeded
from freehold.gateway.supervisor import Supervisor
from freehold.gateway.unrecorded import Unrecorded
from freehold.ledger.group import AsyncLedger
from freehold.ledger.protocol import State
from freehold.pipe import Cancel, Follow, Tokens, Wake
from freehold.settings import ObserveConfig, ServerConfig
from freehold.telemetry.metrics import Metrics

Spawn = Callable[[Coroutine[object, object, object]], object]


class Desk:
    """Where requests and their tokens meet."""

    def __init__(
        self, ledger: AsyncLedger, fleet: Fleet, server: ServerConfig, metrics: Metrics, spawn: Spawn,
        key_of: Callable[[str], Key] = lambda tenant: LOCAL, observe: Observe | None = None,
        name: str = "",
    ) -> None:  # fmt: skip
        self.name = name
        """Among several gateways that share a store: of this process alone. Empty where it is the only one."""
        self.ledger = ledger
        self.fleet = fleet
        self.wake = ledger.on_visible = Rouse(fleet)
        self.supervisor = Supervisor()
        self.server = server
        self.metrics = metrics
        self.observe = observe or Observe(ObserveConfig(), fleet)
        self.spawn = spawn
        """Starts a coroutine in the process's one task group."""
        self.began_s = time.monotonic()
        self.accepted = 0
        """Requests since then."""
        self.draining = False
        self.followers = Followers(self._look_idle)
        self._idle = asyncio.Event()
        self.inboxes: dict[str, Inbox] = {}  # by request id; open requests only
        self.waiting_ids: set[str] = set()
        self.unrecorded = Unrecorded(ledger)
        self._alarms = Alarms(lambda: spawn(self.expire()))
        self.intake = Intake(fleet, server, metrics, self._given, key_of, self.observe.config.runaway_tokens)

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
        return sum(not inbox.lasting for inbox in self.inboxes.values()) + len(self.followers)

    def check_open(self) -> None:
        """Raises `Unavailable` while draining."""
        if self.draining:
            raise Unavailable(
                "The server is shutting down.", "It finishes what runs and takes nothing new.", "Try another server."
            )

    async def submit(self, *requests: Request, lasting: bool = False, resumable_s: float = 0.0) -> Inbox:
        """Accept requests durably. When this returns they will be answered; workers have been woken already, and what
        they gave since waits in the inbox. Where an idempotency key is known, the inbox is that of the requests which
        were accepted with it: its ids are others. Raises `Conflict` if they came with another body.

        `lasting`: they go on without a reader (`keep` must be set). Likewise if `resumable_s` has no end.
        """
        self.check_open()
        requests = self.intake.admit(tuple(seeded(request, self.name) for request in requests))
        inbox = Inbox(requests, lasting=lasting, resumable_s=resumable_s)
        inbox.capped = self.intake.is_capped(requests)
        for request in requests:
            self.inboxes[request.id] = inbox
            self.waiting_ids.add(request.id)
        self.observe.deepest = max(self.observe.deepest, self.waiting)
        try:
            ids = list(await asyncio.gather(*(self.ledger.accept(request) for request in requests)))
        except BaseException:
            self.forget(*(request.id for request in requests))
            # It may be in the ledger all the same: sent again under its key, it shall not be found cancelled.
            self.cancel_later(request.id for request in requests if request.idempotency_key is None)
            raise
        if ids == [request.id for request in requests]:
            self.accepted += len(requests)
            for request in requests:
                if request.id in self.waiting_ids:
                    self._alarms.set(request)
            return inbox
        self.forget(*(request.id for request in requests))
        return await self.follow(ids, requests[0].tenant, resumable_s)

    async def follow(self, ids: Sequence[str], tenant: str, resumable_s: float = 0.0) -> Inbox:
        """The inbox of requests that were accepted before, by this gateway or another: everything that was made of
        them, and what is still to come. Raises `NotFound`."""
        inbox = self.inboxes.get(ids[0]) or await attach.attached(self, ids, resumable_s)
        if inbox.request.tenant != tenant:
            raise attach.unknown(ids[0])
        return inbox

    async def expire(self) -> None:
        """End what waits past its deadline."""
        for id in await self.ledger.expire():
            late = DeadlinePassed("The deadline passed while the request waited.", next="Ask for more time.")
            self.fail(id, late.failure())

    async def cancel(self, id: str) -> State | None:
        """End a request, queued or running. The state it was in, or None if the ledger doesn't know it."""
        state = await self.ledger.cancel(id)
        inbox = self.inboxes.get(id)
        if state == "queued" and inbox is not None:
            self.fail(id, CANCELLED)
        elif state == "running":
            self.tell(inbox.workers.get(id) if inbox is not None else None, Cancel(id))
        return state

    def leave(self, reader: Reader, *, delivered: bool = False) -> None:
        """A reader goes away; `delivered`: with everything. What nobody reads any more is cancelled, unless it goes on
        without a reader, or its reader said that it may come back."""
        if reader not in reader.inbox.readers:
            return
        inbox = reader.inbox
        reader.leave()
        reader.hang_up()
        whole = delivered and inbox.ended
        if not whole and (not reader.cancels or inbox.readers or inbox.lasting):
            return
        then = self._delivered if whole else self._give_up_on
        if inbox.resumable_s and not inbox.lasting:  # sent isn't received, and who vanished may come back
            asyncio.get_running_loop().call_later(inbox.resumable_s, self._unless_back, inbox, inbox.came, then)
        else:
            then(inbox)

    def _unless_back(self, inbox: Inbox, came: int, then: Callable[[Inbox], None]) -> None:
        """The time to come back in counts from when the last one left."""
        if inbox.came == came:
            then(inbox)

    def _give_up_on(self, inbox: Inbox) -> None:
        """Nobody reads it, and nobody will."""
        if inbox.readers:
            return
        unfinished = inbox.open_ids
        for id in unfinished:
            self.tell(inbox.workers.get(id), Cancel(id))
        self.forget(*unfinished)
        self.cancel_later(unfinished)
        self._delivered(inbox)
        self.observe.ended(inbox, given_up=True)

    def _delivered(self, inbox: Inbox) -> None:
        """What need not be kept of it may be erased. Under an idempotency key it may be asked for again."""
        for request in inbox.requests:
            if not request.keep and request.idempotency_key is None:
                self.ledger.delivered(request.id)

    # ---- for the pipe ----

    def connected(self, line: Line) -> None:
        """A worker is there: what lies in the ledger is for it."""
        line.send(Wake())
        for id, inbox in self.inboxes.items():
            if self.name and id not in self.waiting_ids and id not in inbox.workers:
                line.send(Follow(id, self.name))

    def tokens(self, line: Line, frame: Tokens) -> None:
        """Hand the chunks of one step to their readers."""
        inboxes = self.inboxes
        for id, begun in frame.begun.items():
            inbox = inboxes.get(id)
            if inbox is not None and inbox.begun(id, line, begun.attempt):
                inbox.queued_ms = max(inbox.queued_ms or 0.0, begun.queued_ms)
                inbox.live = self.observe.live_of(line.worker)
                self.waiting_ids.discard(id)
                self.intake.begun(id, line, inbox.queued_ms)
                self._alarms.clear(id)
        self.intake.stepped(line, frame.chunks)
        self.unrecorded.note(line, frame.unrecorded, inboxes)
        for chunk in frame.chunks:
            inbox = inboxes.get(chunk.id)
            if inbox is None:
                continue
            if inbox.workers.get(chunk.id) is line:
                self.push(inbox, chunk, line)
            elif chunk.failure is not None and chunk.id in self.waiting_ids:  # its deadline passed in the queue
                self.push(inbox, chunk)

    async def drained(self) -> None:
        """Refuse new requests from now on; returns when nobody waits for an answer any more."""
        self.draining = True
        if self.open:
            await self._idle.wait()

    # ---- for `losses` ----

    def push(self, inbox: Inbox, chunk: Chunk, line: Line | None = None) -> None:
        known = len(inbox.chunks)
        try:
            last = inbox.push(chunk)
        except Gap:
            if line is not None:
                line.send(Follow(chunk.id, self.name))
            return
        except ResumeFailed as error:
            self.tell(line, Cancel(chunk.id))
            self.cancel_later([chunk.id])
            self.fail(chunk.id, error.failure())
            return
        if len(inbox.chunks) == known:
            return  # it was told before
        if inbox.first_s is None and chunk.tokens:
            inbox.first_s = time.perf_counter()
        if chunk.usage is not None:
            usage = chunk.usage
            self.metrics.used(inbox.request.model, usage.prompt_tokens if last else 0, usage.completion_tokens)
            self.intake.answered(inbox.request_of(chunk.id), chunk)
        for reader in inbox.readers[:]:
            if reader.unread_bytes > self.server.max_unread_mb << 20:
                self._cut_slow(reader)
        if last:
            self.forget(chunk.id)
            self.observe.ended(inbox)
            if chunk.failure is not None and inbox.request.n > 1 and line is not None:
                line.send(Cancel(chunk.id))

    def _cut_slow(self, reader: Reader) -> None:
        """It is so far behind that keeping the rest for it would cost the others."""
        self.metrics.slow_readers.inc()
        id = reader.inbox.request.id
        log.event("client.too_slow", level="warning", id=id, unread_bytes=reader.unread_bytes)
        self.leave(reader)

    def _given(self, id: str) -> float:
        """Tokens of a running request so far; of several that share an inbox, their mean."""
        inbox = self.inboxes.get(id)
        return inbox.tokens / len(inbox.requests) if inbox is not None else 0.0

    def fail(self, id: str, failure: Failure) -> None:
        inbox = self.inboxes.get(id)
        if inbox is not None:
            self.forget(id)
            inbox.push(failed_chunk(id, failure))
            self.observe.ended(inbox)

    def forget(self, *ids: str) -> None:
        for id in ids:
            self.inboxes.pop(id, None)
            self.waiting_ids.discard(id)
            self.intake.left(id)
            self._alarms.clear(id)
        self._look_idle()

    def _look_idle(self) -> None:
        if self.draining and not self.open:
            self._idle.set()

    def cancel_later(self, ids: Iterable[str]) -> None:
        for id in ids:
            self.spawn(insist(partial(self.ledger.cancel, id), lambda: self.draining))

    def tell(self, line: Line | None, frame: Cancel | Follow) -> None:
        """Send to the worker that has it, or to all while nobody knows which."""
        for each in [line] if line is not None else list(self.fleet.lines.values()):
            each.send(frame)


CANCELLED = Conflict("The request was cancelled.").failure()
