"""The worker's loop: listen, claim, step, publish, save. One thread, one engine, no waiting while there is work.

Chunks go to the gateway before the ledger, because a reader waits for them; only an end is recorded first: should this
process die in between, no other makes again, or fails, what a reader was told whole. What the ledger has is at most
`SAVE_EVERY_S` old.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from freehold import log, order
from freehold.clock import Clock, SystemClock
from freehold.core import Chunk, Usage
from freehold.engine.base import Engine
from freehold.ledger.protocol import Claim, Ledger, LetGo, Progress, Why
from freehold.pipe import AskSteps, Begun, Cancel, Drain, Follow, Steps, Tokens, Wake
from freehold.worker.claims import LOOK_EVERY_S, Claims
from freehold.worker.ends import Ends
from freehold.worker.failures import OVERDUE, OVERSPENT, TOO_LATE, failed_chunk, failure_of
from freehold.worker.job import Job, add_to, embedded, places
from freehold.worker.pipes import Pipes
from freehold.worker.presence import Presence
from freehold.worker.reach import Reach
from freehold.worker.steplog import StepLog

CANCEL_EVERY_S = 0.1
"""Cancels arrive over the pipe; without one, the ledger tells within this time."""
SAVE_EVERY_S = 0.05
"""How often what was made goes into the ledger, of all answers together."""


class WorkLoop:
    """Runs until it is drained. `Engine.step` raising means a broken engine: call `give_up`, then leave."""

    def __init__(
        self, engine: Engine, ledger: Ledger, pipe: Pipes, presence: Presence,
        *, stop_asked: Callable[[], bool] = lambda: False, hurried: Callable[[], bool] = lambda: False,
        wake_fds: Sequence[int] = (), clock: Clock | None = None, turned: Callable[[bool], None] = lambda holds: None,
    ) -> None:  # fmt: skip
        """`hurried`: the time to finish in is up. `turned` hears once a turn if anything is held: `Lease.turned`."""
        self.steplog = StepLog()
        self._engine = engine
        self._ledger = ledger
        self._pipe = pipe
        self._presence = presence
        self._heart = presence.heart
        self._stop_asked = stop_asked
        self._hurried = hurried
        self._wake_fds = wake_fds
        self._clock: Clock = clock or SystemClock()
        self._owner = presence.owner
        self._max_batch = engine.card.max_batch
        self._turned = turned
        self._jobs: dict[str, Job] = {}
        self._to_embed: deque[Job] = deque()
        self._reach = Reach(self._clock, presence.heart)
        self._ends = Ends(ledger, presence, self._reach)
        self._claims = Claims(ledger, engine.card.name, presence, self._reach, self._clock)
        self._lost = False
        """Answers were aborted since the last step."""
        self._next_cancels_s = 0.0
        self._next_save_s = 0.0

    def run(self) -> None:
        while not self._done():
            self._listen()
            if self._hurried():
                self._let_go(self._ledger.give_back)  # in good health: no death
                return
            self._claim()
            if self._jobs:
                self._publish(self._step())
                self._look_after()
            else:
                self._rest()
            self._turned(bool(self._jobs or self._ends.waiting))
            self._presence.update(self._pipe, self._running(), self.steplog, self._engine.stats)

    def give_up(self) -> None:
        """The engine is broken, and this process about to leave: what it holds is for another worker to go on with. It
        counts as a death, so that a request which breaks every engine ends."""
        self._let_go(self._ledger.abandon)

    def _let_go(self, let_go: Callable[[str, Sequence[Progress]], LetGo]) -> None:
        with self._reach.trying():
            self._ends.again()
            let_go(self._owner, self._unsaved())
        self._jobs.clear()

    # ---- listen ----------------------------------------------------------------------------------

    def _listen(self) -> None:
        for frame in self._pipe.receive():
            if isinstance(frame, Wake):
                self._claims.waits = True
            elif isinstance(frame, Cancel):
                self._cancel(frame.id)
            elif isinstance(frame, Follow):
                self._tell_all(frame)
            elif isinstance(frame, AskSteps):
                self._pipe.send(Steps(frame.number, self.steplog.last(frame.last)))
            elif isinstance(frame, Drain):
                self._presence.leave()
        if self._stop_asked():
            self._presence.leave()
        if self._presence.overspent:
            self._publish([failed_chunk(id, OVERSPENT) for id in list(self._jobs)])
        if self._jobs and self._clock.monotonic_s() >= self._next_cancels_s:
            self._next_cancels_s = self._clock.monotonic_s() + CANCEL_EVERY_S
            self._ask_ledger_for_cancels()

    def _ask_ledger_for_cancels(self) -> None:
        stops: dict[str, Why] = {}
        if not self._reach.good:
            return
        with self._reach.trying():
            self._ends.again()
            self._heart.between()
            stops = self._ledger.cancelled(self._owner, list(self._jobs)) if self._jobs else {}
        for id, why in stops.items():
            if why == "cancelled":
                self._cancel(id)
            elif why == "overdue":
                self._publish([failed_chunk(id, TOO_LATE)])
            else:
                self._lose(id)

    def _cancel(self, id: str) -> None:
        self._engine.abort(id)
        job = self._jobs.get(id)
        if job is not None and job in self._to_embed:
            self._to_embed.remove(job)
            self._publish([Chunk(id, 0, 0, 0, "", finish="cancelled", usage=Usage())])

    def _lose(self, id: str) -> None:
        """The claim is another's by now, or the request has ended: nothing of it counts any more."""
        job = self._jobs.pop(id, None)
        if job is None:
            return
        log.event("request.outdated", level="warning", id=id, attempt=job.attempt)
        self._engine.abort(id)
        self._lost = True
        if job in self._to_embed:
            self._to_embed.remove(job)

    def _tell_all(self, follow: Follow) -> None:
        if (job := self._jobs.get(follow.id)) is not None:
            job.announced = True
            told = Tokens(list(job.chunks), {job.id: Begun(job.attempt, job.queued_ms)})
            self._pipe.tell(told, {job.id: job.followed_by(follow.gateway)})

    # ---- claim -----------------------------------------------------------------------------------

    def _claim(self) -> None:
        room = self._max_batch - self._running()
        if not self._claims.due(room):
            return
        claims, overdue = self._claims.look(room)
        if overdue:
            self._pipe.send(Tokens([failed_chunk(id, OVERDUE) for id in overdue]))
        for claim in claims:
            self._lose(claim.request.id)  # it stood still, and what it had was taken and given back
        if claims and self._lost:
            self._publish(self._step())  # the last word of an aborted answer must not be taken for the new one's
        for claim in claims:
            self._begin(claim, self._clock.monotonic_s())

    def _begin(self, claim: Claim, now_s: float) -> None:
        """Give the engine every answer of a request that hasn't ended, or end the request with what the engine has
        against it."""
        job = Job(claim, now_s)
        self._jobs[job.id] = job
        self._heart.took(job.request, sum(chunk.tokens for chunk in claim.given))
        if job.over:  # only the report of its end was missing
            del self._jobs[job.id]
            unrecorded = self._ends.record([job], now_s)
            self._pipe.tell(Tokens(list(job.chunks), {job.id: job.begun()}, unrecorded), {job.id: job.asked})
        elif job.request.kind == "embed":
            self._to_embed.append(job)
        else:
            try:
                for choice in range(places(claim)):
                    add_to(self._engine, job, choice)
            except Exception as error:  # noqa: BLE001  one request must never cost the worker its life
                self._engine.abort(job.id)
                self._publish([failed_chunk(job.id, failure_of(error, job.id))])

    def _running(self) -> int:
        """Answers that have not ended."""
        return sum([job.left for job in self._jobs.values()])

    # ---- step ------------------------------------------------------------------------------------

    def _step(self) -> list[Chunk]:
        self._heart.before_step(self._running(), self._presence.kv_usage)
        if self._to_embed:
            self._publish([embedded(self._engine, self._to_embed[0])])
            self._heart.read(self._to_embed.popleft().id)
        self._lost = False
        return self._heart.step(self._engine, self.steplog)

    # ---- publish ---------------------------------------------------------------------------------

    def _publish(self, chunks: list[Chunk]) -> None:
        """Show what is new, and record what has ended."""
        now_s = self._clock.monotonic_s()
        shown: list[Chunk] = []
        begun: dict[str, Begun] = {}
        ended: list[Job] = []
        asked: dict[str, set[str]] = {}
        for chunk in chunks:
            job = self._jobs.get(chunk.id)
            if job is None:
                continue  # the rest of a request that has ended with an error
            heard = job.take(chunk, now_s)
            if heard is None:
                continue
            if not job.announced:
                job.announced = True
                begun[job.id] = job.begun()
            shown.append(heard)
            asked[job.id] = job.asked
            if job.over:
                ended.append(job)
                del self._jobs[job.id]
                if job.left > 0:
                    self._engine.abort(job.id)
        if not shown:
            return
        unrecorded: list[str] = []
        if ended:
            over = {job.id for job in ended}
            if going_on := [chunk for chunk in shown if chunk.id not in over]:  # these need not wait for others' ends
                self._pipe.tell(Tokens(going_on, begun), asked)
            unrecorded = self._ends.record(ended, now_s)
            shown, begun = [chunk for chunk in shown if chunk.id in over], {} if going_on else begun
        self._pipe.tell(Tokens(shown, begun, unrecorded), asked)

    # ---- look after what runs --------------------------------------------------------------------

    def _look_after(self) -> None:
        """Every few steps: save what was made, stop what is too late."""
        now_s = self._clock.monotonic_s()
        if now_s < self._next_save_s:
            return
        self._next_save_s = now_s + SAVE_EVERY_S
        self._save()
        now_unix_s = self._clock.unix_s()
        late = [job.id for job in self._jobs.values() if order.overdue(job.request, now_unix_s)]
        self._publish([failed_chunk(id, TOO_LATE) for id in late])

    def _save(self) -> None:
        """One transaction for all. Whoever isn't the claim's holder any more stops."""
        parts, good = self._unsaved(), []
        if parts and self._reach.good:
            with self._reach.trying():
                good = self._ledger.checkpoint(parts)
        for part, mine in zip(parts, good, strict=False):  # none is told where it failed
            if mine:
                self._jobs[part.id].saved += len(part.chunks)
            else:
                self._lose(part.id)

    def _unsaved(self) -> list[Progress]:
        return [part for job in self._jobs.values() if (part := job.unsaved()) is not None]

    def _rest(self) -> None:
        """Nothing runs: sleep until woken, signalled, or it is time to look again."""
        self._heart.rest(self.steplog)
        if self._ends.waiting:
            self._ask_ledger_for_cancels()
        if self._presence.draining:
            if self._ends.waiting:
                self._pipe.wait(LOOK_EVERY_S, self._wake_fds)
        elif not self._claims.waits:
            self._pipe.wait(self._claims.next_look_in_s, self._wake_fds)
        self._heart.between()

    def _done(self) -> bool:
        return self._presence.draining and not self._jobs and not self._ends.waiting
