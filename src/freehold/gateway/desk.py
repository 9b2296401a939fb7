"""The front desk: takes requests into the ledger, hands their tokens to whoever asked, and answers for dead workers.

Everything about a request that outlives one function is here: which inbox follows it, whether it still waits, who
works on it. Runs in the event loop only.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence

from freehold import log
from freehold.config import ServerConfig
from freehold.core import Chunk, Failure, ModelCard, Request
from freehold.errors import Conflict, DeadlinePassed, Overloaded, Unavailable, WorkerDied
from freehold.gateway.fleet import Fleet, Line
from freehold.gateway.inbox import RESTART, Inbox, failed_chunk
from freehold.ledger.group import AsyncLedger
from freehold.ledger.protocol import State
from freehold.pipe import Cancel, Tokens, Wake
from freehold.telemetry.metrics import Metrics

HOPELESS_S = 15.0
"""Waiting requests fail when nobody has been there to answer for this long."""
SWEEP_EVERY_S = 300.0


Spawn = Callable[[Coroutine[object, object, None]], object]


class Desk:
    """Where requests and their tokens meet."""

    def __init__(self, ledger: AsyncLedger, fleet: Fleet, server: ServerConfig, metrics: Metrics, spawn: Spawn) -> None:
        self.ledger = ledger
        self.fleet = fleet
        self.server = server
        self.metrics = metrics
        self.spawn = spawn
        """Starts a coroutine in the process's one task group."""
        self.draining = False
        self._idle = asyncio.Event()
        self._wake_due = False
        self._inboxes: dict[str, Inbox] = {}
        self._waiting: set[str] = set()
        self._lately_ended: dict[str, deque[str]] = {}

    # ---- for the routes ----

    @property
    def waiting(self) -> int:
        """Requests accepted here that no worker has begun."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Requests accepted here that a worker has begun and not ended."""
        return len(self._inboxes) - len(self._waiting)

    @property
    def open(self) -> int:
        """Requests that somebody waits for."""
        return sum(not inbox.silent for inbox in self._inboxes.values())

    async def card(self, model: str | None) -> ModelCard:
        """The card of the model asked for. Raises `ModelNotFound` or `Unavailable`."""
        return await self.fleet.card(model)

    def check_room(self, requests: int = 1) -> None:
        """Raises `Unavailable` while draining, `Overloaded` when too many wait already."""
        if self.draining:
            raise Unavailable(
                "The server is shutting down.", "It finishes what runs and takes nothing new.", "Try another server."
            )
        if len(self._waiting) + requests > self.server.max_queue:
            raise Overloaded(
                "The queue is full.",
                f"{len(self._waiting)} requests wait, and at most {self.server.max_queue} may.",
                "Try again in a moment.",
            )

    async def submit(
        self, *requests: Request, silent: bool = False, tap: Callable[[Chunk], None] | None = None
    ) -> Inbox:
        """Accept requests durably and follow them. When this returns they will be answered.

        `silent`: nobody will read the inbox; the result is fetched from the ledger later (`keep` must be set). `tap` is
        told every chunk as it comes, from the first.
        """
        self.check_room(len(requests))
        inbox = Inbox(requests, silent=silent, tap=tap)
        for request in requests:
            self._inboxes[request.id] = inbox
            self._waiting.add(request.id)
        try:
            if len(requests) == 1:
                await self.ledger.accept(requests[0])
            else:
                await asyncio.gather(*(self.ledger.accept(request) for request in requests))
        except BaseException:
            self._forget(*(request.id for request in requests))
            self._cancel_later(request.id for request in requests)
            raise
        self._wake()
        return inbox

    async def cancel(self, id: str) -> State | None:
        """End a request, queued or running. The state it was in, or None if the ledger doesn't know it."""
        state = await self.ledger.cancel(id)
        inbox = self._inboxes.get(id)
        if state == "queued" and inbox is not None:
            self._fail(id, CANCELLED)
        elif state == "running":
            self._tell(inbox.workers.get(id) if inbox is not None else None, Cancel(id))
        return state

    def leave(self, inbox: Inbox) -> None:
        """The reader goes away. What has not ended is cancelled: nobody would see it."""
        unfinished = inbox.open_ids
        inbox.hang_up()
        if unfinished:
            self._forget(*unfinished)
            for id in unfinished:
                self._tell(inbox.workers.get(id), Cancel(id))
            self._cancel_later(unfinished)

    # ---- for the pipe ----

    def connected(self, line: Line) -> None:
        """A worker is there: what lies in the ledger is for it."""
        line.send(Wake())

    def tokens(self, line: Line, frame: Tokens) -> None:
        """Hand the chunks of one step to their readers."""
        inboxes = self._inboxes
        for id, queued_ms in frame.queued_ms.items():
            inbox = inboxes.get(id)
            if inbox is not None:
                inbox.queued_ms = max(inbox.queued_ms or 0.0, queued_ms)
                self._begun(inbox, id, line)
        for chunk in frame.chunks:
            self._deliver(chunk, line)

    async def worker_gone(self, line: Line) -> None:
        """A worker's pipe ended: its unseen requests begin anew elsewhere, the shown ones fail."""
        shown = [id for id, inbox in self._inboxes.items() if inbox.shown and inbox.workers.get(id) is line]
        shown += self._lately_ended.pop(line.owner, ())
        failure = WorkerDied(
            "The worker died while answering.",
            f"The connection to {line.worker!r} was lost.",
            "Send the request again.",
        ).failure()
        requeued, failed = await self.ledger.abandon(line.owner, shown, failure)
        for id in requeued:
            if (inbox := self._inboxes.get(id)) is not None:
                inbox.restart(id)
                self._waiting.add(id)
        for id in failed:
            self._fail(id, failure)
        await self._settle(line, set(requeued))
        self._wake()
        log.event("worker.gone", level="warning", worker=line.worker, requeued=len(requeued), failed=len(failed))

    async def drained(self) -> None:
        """Refuse new requests from now on; returns when nobody waits for an answer any more."""
        self.draining = True
        if self.open:
            await self._idle.wait()

    async def watch(self, keep_results_s: float) -> None:
        """Once a second for ever: fail what nobody will answer, drop results past their time."""
        since_sweep_s = SWEEP_EVERY_S
        while True:
            if self._inboxes and self.fleet.hopeless(HOPELESS_S):
                self.give_up(
                    Unavailable(
                        "No worker is left to answer.", self.fleet.why_not_ready(), "Try again later."
                    ).failure()
                )
            for id in await self.ledger.expire():
                self._fail(
                    id,
                    DeadlinePassed(
                        "The deadline passed while the request waited.", next="Ask for more time."
                    ).failure(),
                )
            if since_sweep_s >= SWEEP_EVERY_S:
                await self.ledger.sweep(keep_results_s)
                since_sweep_s = 0.0
            await asyncio.sleep(1.0)
            since_sweep_s += 1.0

    def give_up(self, failure: Failure) -> None:
        """End everything that is open here with `failure` (asynchronous requests stay in the ledger)."""
        ids = [id for id, inbox in self._inboxes.items() if not inbox.silent]
        for id in ids:
            self._tell(self._inboxes[id].workers.get(id), Cancel(id))
            self._fail(id, failure)
        self._cancel_later(ids)

    # ---- inside ----

    def _deliver(self, chunk: Chunk, line: Line) -> None:
        inbox = self._inboxes.get(chunk.id)
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
            self._forget(chunk.id)
            self._lately_ended.setdefault(line.owner, deque(maxlen=256)).append(chunk.id)
            if chunk.failure is not None and inbox.request.n > 1:
                line.send(Cancel(chunk.id))

    def _begun(self, inbox: Inbox, id: str, line: Line) -> None:
        inbox.workers[id] = line
        self._waiting.discard(id)

    def _fail(self, id: str, failure: Failure) -> None:
        inbox = self._inboxes.get(id)
        if inbox is not None:
            self._forget(id)
            inbox.push(failed_chunk(id, failure))

    async def _settle(self, line: Line, requeued: set[str]) -> None:
        """Requests that the dead worker had finished, but whose last chunks were lost with its pipe."""
        for id, inbox in list(self._inboxes.items()):
            if id in requeued or inbox.workers.get(id, line) is not line:
                continue
            entry = await self.ledger.fetch(id)
            if entry is None or entry.state != "done" or id not in self._inboxes:
                continue
            result = entry.result
            if inbox.shown or result is None or result.failure or result.cancelled:
                given = result.failure if result else None
                self._fail(
                    id,
                    given
                    or WorkerDied("The end of the answer was lost with its worker.", next="Send it again.").failure(),
                )
                continue
            self._deliver(Chunk(id, RESTART, 0, 0, ""), line)
            for i, answer in enumerate(result.answers):
                usage = result.usage if i == 0 else None
                tokens = result.usage.completion_tokens if i == 0 else 0
                self._deliver(
                    Chunk(
                        id,
                        i,
                        0,
                        tokens,
                        answer.text,
                        answer.logprobs,
                        answer.finish,
                        usage,
                        None,
                        answer.stop,
                        result.embeddings,
                    ),
                    line,
                )

    def _forget(self, *ids: str) -> None:
        for id in ids:
            self._inboxes.pop(id, None)
            self._waiting.discard(id)
        if self.draining and not self.open:
            self._idle.set()

    def _cancel_later(self, ids: Iterable[str]) -> None:
        async def cancel(ids: Sequence[str]) -> None:
            for id in ids:
                await self.ledger.cancel(id)

        self.spawn(cancel(list(ids)))

    def _tell(self, line: Line | None, frame: Cancel) -> None:
        """Send to the worker that has it, or to all while nobody knows which."""
        for each in [line] if line is not None else list(self.fleet.lines.values()):
            each.send(frame)

    def _wake(self) -> None:
        """Tell the workers, once for all that is accepted in this turn of the loop."""
        if not self._wake_due:
            self._wake_due = True
            asyncio.get_running_loop().call_soon(self._wake_now)

    def _wake_now(self) -> None:
        self._wake_due = False
        for line in self.fleet.lines.values():
            line.send(Wake())


CANCELLED = Conflict("The request was cancelled.").failure()
