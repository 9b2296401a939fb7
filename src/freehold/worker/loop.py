"""The worker's loop: listen, claim, step, publish. One thread, one engine, no waiting while there is work.

Chunks go to the gateway before ends go to the ledger, because a reader waits for the former. Only the end of a
kept request is recorded first: whoever reads its last chunk may fetch the result at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from freehold import log
from freehold.clock import Clock, SystemClock
from freehold.core import Chunk, Failure, Usage
from freehold.engine.base import Engine
from freehold.errors import DeadlinePassed, EngineFailed, FreeholdError, StoreError
from freehold.ledger.protocol import LEASE_S, Claim, Ended, Ledger
from freehold.pipe import AskSteps, Cancel, Drain, Steps, Tokens, Wake
from freehold.worker.job import Job, failed_chunk, places
from freehold.worker.pipe_client import PipeClient
from freehold.worker.presence import Presence
from freehold.worker.steplog import StepLog

LOOK_EVERY_S = 1.0
"""A worker looks into the ledger this often even if nobody wakes it."""
CANCEL_EVERY_S = 0.25
"""Cancels arrive over the pipe; without one, the ledger tells within this time."""


class WorkLoop:
    """Runs until it is drained. `Engine.step` raising means a broken engine: call `fail_all`, then leave."""

    def __init__(
        self, engine: Engine, ledger: Ledger, pipe: PipeClient, presence: Presence,
        *, stop_asked: Callable[[], bool] = lambda: False, wake_fds: Sequence[int] = (), clock: Clock | None = None,
    ) -> None:  # fmt: skip
        self.steplog = StepLog()
        self._engine = engine
        self._ledger = ledger
        self._pipe = pipe
        self._presence = presence
        self._heart = presence.heart
        self._stop_asked = stop_asked
        self._wake_fds = wake_fds
        self._clock: Clock = clock or SystemClock()
        self._owner = presence.owner
        self._max_batch = engine.card.max_batch
        self._model = engine.card.name
        self._jobs: dict[str, Job] = {}
        self._to_embed: deque[Job] = deque()
        self._unrecorded: list[Ended] = []
        self._work_waits = True
        self._next_look_s = 0.0
        self._next_cancels_s = 0.0
        self._next_renewal_s = 0.0

    def run(self) -> None:
        while not self._done():
            self._listen()
            self._claim()
            if self._jobs:
                self._publish(self._step())
            else:
                self._rest()
            self._presence.update(self._pipe, self._running(), self.steplog, self._engine.stats)

    def fail_all(self, error: BaseException) -> None:
        """The engine is broken: every running request ends with `EngineFailed`."""
        why = f"{type(error).__name__}: {error}"
        failure = EngineFailed("The engine failed while answering.", why, "Send the request again.").failure()
        self._publish([failed_chunk(id, failure) for id in self._jobs])

    # ---- listen ----------------------------------------------------------------------------------

    def _listen(self) -> None:
        for frame in self._pipe.receive():
            if isinstance(frame, Wake):
                self._work_waits = True
            elif isinstance(frame, Cancel):
                self._engine.abort(frame.id)
            elif isinstance(frame, AskSteps):
                self._pipe.send(Steps(frame.number, self.steplog.last(frame.last)))
            elif isinstance(frame, Drain):
                self._presence.leave()
        if self._stop_asked():
            self._presence.leave()
        if self._jobs and self._clock.monotonic_s() >= self._next_cancels_s:
            self._next_cancels_s = self._clock.monotonic_s() + CANCEL_EVERY_S
            self._ask_ledger_for_cancels()

    def _renew(self) -> None:
        """The heartbeat: while it comes, what runs here stays ours."""
        now_s = self._clock.monotonic_s()
        if self._jobs and now_s >= self._next_renewal_s:
            self._next_renewal_s = now_s + LEASE_S / 4
            self._ledger.renew(self._owner)

    def _ask_ledger_for_cancels(self) -> None:
        try:
            self._renew()
            if self._unrecorded:
                self._ledger.finish_all(self._unrecorded)
                self._unrecorded = []
            for id in self._ledger.cancelled(self._owner, list(self._jobs)):
                self._engine.abort(id)
        except StoreError as error:
            log.event("ledger.failed", level="error", why=str(error))

    # ---- claim -----------------------------------------------------------------------------------

    def _claim(self) -> None:
        now_s = self._clock.monotonic_s()
        time_to_look = now_s >= self._next_look_s
        if self._presence.draining or not (self._work_waits or time_to_look):
            return
        room = self._max_batch - self._running()
        if room < 1 and not time_to_look:
            return
        self._next_look_s = now_s + LOOK_EVERY_S
        lots = self._presence.lots
        if lots[0] >= lots[1]:
            self._work_waits = False
            return
        try:
            overdue = self._ledger.expire()
            claims = self._ledger.claim(self._owner, room, self._model, lots)
        except StoreError as error:
            self._work_waits = False
            log.event("ledger.failed", level="error", why=str(error))
            return
        self._work_waits = bool(claims) or room < 1
        if overdue:
            self._pipe.send(Tokens([failed_chunk(id, OVERDUE) for id in overdue]))
        for claim in claims:
            self._begin(claim, now_s)

    def _begin(self, claim: Claim, now_s: float) -> None:
        """Give the engine every answer of a request, or end the request with what the engine has against it."""
        job = Job(claim, now_s)
        self._jobs[job.id] = job
        self._heart.took(job.request)
        if job.request.kind == "embed":
            self._to_embed.append(job)
            return
        try:
            for choice in range(places(claim)):
                self._engine.add(claim.request, choice)
        except Exception as error:  # noqa: BLE001  one request must never cost the worker its life
            self._engine.abort(job.id)
            self._publish([failed_chunk(job.id, _failure(error, job.id))])

    def _running(self) -> int:
        """Answers that have not ended."""
        running = 0
        for job in self._jobs.values():
            running += job.left
        return running

    # ---- step ------------------------------------------------------------------------------------

    def _step(self) -> list[Chunk]:
        self._heart.before_step(self._running(), self._presence.kv_usage)
        if self._to_embed:
            job = self._to_embed.popleft()
            self._publish([self._embed(job)])
            self._heart.read(job.id)
        start_s = self._clock.monotonic_s()
        step = self._engine.step()
        self._heart.after_step(step)
        if step.chunks or step.running:
            self.steplog.add(step, start_s, self._clock.monotonic_s())
        return step.chunks

    def _embed(self, job: Job) -> Chunk:
        try:
            vectors, tokens = self._engine.embed(job.request.inputs)
        except FreeholdError as error:
            return failed_chunk(job.id, error.failure())
        return Chunk(job.id, 0, 0, 0, "", finish="stop", usage=Usage(prompt_tokens=tokens), embeddings=vectors)

    # ---- publish ---------------------------------------------------------------------------------

    def _publish(self, chunks: list[Chunk]) -> None:
        if not chunks:
            return
        now_s = self._clock.monotonic_s()
        shown: list[Chunk] = []
        queued_ms: dict[str, float] = {}
        ended: list[Job] = []
        for chunk in chunks:
            job = self._jobs.get(chunk.id)
            if job is None:
                continue  # the rest of a request that has ended with an error
            if not job.announced:
                job.announced = True
                queued_ms[job.id] = job.queued_ms
            shown.append(chunk)
            if job.take(chunk, now_s):
                ended.append(job)
                del self._jobs[job.id]
                if job.left:
                    self._engine.abort(job.id)
        self._record([job for job in ended if job.keep], now_s)
        self._pipe.send(Tokens(shown, queued_ms))
        self._record([job for job in ended if not job.keep], now_s)

    def _record(self, ended: Sequence[Job], now_s: float) -> None:
        """Tell the ledger. If it can't be written now, the ends are kept and tried again."""
        if not ended:
            return
        results = [Ended(job.id, job.attempt, job.result(self._presence.name, now_s)) for job in ended]
        self._presence.ended([each.result for each in results])
        try:
            recorded = self._ledger.finish_all(results)
        except StoreError as error:
            log.event("ledger.failed", level="error", why=str(error))
            self._unrecorded += results
            return
        for (id, attempt, *_), known in zip(results, recorded, strict=True):
            if not known:
                log.event("request.outdated", level="warning", id=id, attempt=attempt)

    # ---- rest ------------------------------------------------------------------------------------

    def _rest(self) -> None:
        """Nothing runs: sleep until woken, signalled, or it is time to look again."""
        self.steplog.pause()
        self._heart.rest()
        if self._unrecorded:
            self._ask_ledger_for_cancels()
        if self._presence.draining:
            if self._unrecorded:
                self._pipe.wait(LOOK_EVERY_S, self._wake_fds)
        elif not self._work_waits:
            left_s = self._next_look_s - self._clock.monotonic_s()
            self._pipe.wait(max(0.0, left_s), self._wake_fds)
        self._heart.between()

    def _done(self) -> bool:
        return self._presence.draining and not self._jobs and not self._unrecorded


OVERDUE = DeadlinePassed("The request's deadline passed before it could start.", "It waited in the queue.").failure()


def _failure(error: Exception, id: str) -> Failure:
    """A refusal is the client's to read; anything else is a bug, and must not cost the worker its life."""
    if isinstance(error, FreeholdError):
        return error.failure()
    log.event("request.add_failed", level="error", error=error, id=id)
    return EngineFailed("The engine can't take this request.", f"{type(error).__name__}: {error}").failure()
