"""What a worker says about itself: `Hello` and `Status` to the gateway, reports to its supervisor."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec
import psutil

from freehold import log
from freehold.clock import Clock, SystemClock
from freehold.core import Failure, LoadPhase, ModelCard, Phase, Result, WorkerState, WorkerStatus
from freehold.engine.base import EngineStats
from freehold.errors import InvalidRequest, ModelError, from_failure
from freehold.model.source import Report as Progress
from freehold.pipe import Frame, Hello, Status, owner
from freehold.worker.heart import Heart
from freehold.worker.judge import Ending
from freehold.worker.memory import is_near, own_bytes
from freehold.worker.pipes import Pipes
from freehold.worker.pulse import Pulse
from freehold.worker.steplog import StepLog
from freehold.worker.tether import Directive, Report, write_line

STATUS_EVERY_S = 1.0
LOOK_EVERY_S = 0.25
"""At its memory."""
PROGRESS_EVERY_S = 0.1
ONCE_S = 2.0
"""Who was started for one request waits for it this long: somebody else may have taken it."""


class Presence:
    """State and figures of this process, sent on every change of state, else once a second while it runs."""

    def __init__(
        self, name: str, model: str, engine: str, status_fd: int | None = None, clock: Clock | None = None,
        *, variant: str = "", lots: tuple[int, int] = (0, 100), pulse: Pulse | None = None,
        memory_limit_bytes: int = 0, life: str = "", once: bool = False,
    ) -> None:  # fmt: skip
        self.name = name
        self.life = life
        self.lots = lots
        """Which requests it takes; the supervisor may change it at any time."""
        self.owner = owner(name, os.getpid(), life)
        self.once = once
        """It answers one request and leaves."""
        self._waits_from_s = 0.0
        self.overspent = False
        """Its processor time is used up."""
        self.draining = False
        self.card: ModelCard | None = None
        self.phases: list[LoadPhase] = []
        self._clock: Clock = clock or SystemClock()
        self._status_fd = status_fd
        self._process = psutil.Process()
        self.heart = Heart(self._clock, pulse)
        self._status = WorkerStatus(
            name=name, pid=os.getpid(), state="loading", model=model, engine=engine, variant=variant, lots=lots,
            memory_limit_bytes=memory_limit_bytes,
        )  # fmt: skip
        self.use_pipes: Callable[[tuple[str, ...]], None] = lambda paths: None
        """Called from the tether's thread when gateways come or go."""
        self._watched = False
        self._endings: list[Ending] = []
        self._memory_bytes = 0
        self._next_s = 0.0
        self._next_look_s = 0.0

    def greet(self) -> list[Frame]:
        """The frames that open every connection."""
        return [Hello(self.name, self._status.pid, self.card, self.life), Status(self._status, self.card)]

    @contextmanager
    def timed(self, pipe: Pipes, name: Phase, detail: str) -> Iterator[Progress]:
        """Times one phase of loading, and tells supervisor and gateway when it begins and ends. What it gives tells the
        supervisor how far the phase is."""
        self._status = msgspec.structs.replace(self._status, phase=name)
        self._report(Report(state="loading", phase=name, detail=detail))
        pipe.receive()  # dials, when it is time to
        pipe.send(Status(self._status))
        start_s = time.perf_counter()
        yield self._progress(name)
        seconds = time.perf_counter() - start_s
        self.phases.append(LoadPhase(name=name, seconds=seconds, detail=detail))
        self._report(Report(state="loading", phase=name, detail=detail, seconds=seconds))

    def waits(self, pipe: Pipes, why: str) -> None:
        """Its model is loaded, and something else it needs isn't there."""
        pipe.receive()  # dials, when it is time to
        if why == self._status.last_error:
            return
        self._status = msgspec.structs.replace(self._status, phase="", last_error=why)
        pipe.send(Status(self._status))
        log.event("worker.waits", level="error", why=why)

    def loaded(self, pipe: Pipes, card: ModelCard, stats: EngineStats) -> None:
        """The model is there: ready. The card says how long each phase took and what memory it costs.
        Raises `ModelError` when it takes all that it may."""
        info = self._process.memory_info()
        memory_bytes = info.rss
        if is_near(own_bytes(info), self._status.memory_limit_bytes):
            raise ModelError(
                f"{card.name} takes {own_bytes(info) >> 20} MiB before its first answer.",
                f"A worker may take {self._status.memory_limit_bytes >> 20} MiB.",
                "Raise engine.memory_limit_mb, or serve with fewer workers or a smaller model.",
            )
        self.card = msgspec.structs.replace(card, phases=tuple(self.phases), memory_bytes=memory_bytes)
        self._status = msgspec.structs.replace(
            self._status, state="ready", phase="", model=card.name, engine=card.engine, memory_bytes=memory_bytes,
            kv_usage=stats.kv_usage, last_error="",
        )  # fmt: skip
        pipe.send(Status(self._status, self.card))
        self._report(Report(state="ready", card=self.card, memory_bytes=memory_bytes))
        if self._status_fd is None or not log.at_terminal():  # where the supervisor's command tells it
            log.event("worker.ready", model=card.name, engine=card.engine, memory_mb=memory_bytes >> 20)

    def failed(self, failure: Failure) -> None:
        """This process is about to leave with an error."""
        self._report(Report(state="failed", failure=failure))

    def update(self, pipe: Pipes, running: int, steplog: StepLog, stats: Callable[[], EngineStats]) -> None:
        """Called once a turn of the loop: tells the gateway if there is something to tell. `stats` is the engine's,
        asked only then."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._next_look_s:
            self._next_look_s = now_s + LOOK_EVERY_S
            self._look_at_memory()
            if self._endings:
                self._report(Report(state="ended", endings=tuple(self._endings)))
                self._endings = []
        state: WorkerState = "draining" if self.draining else "busy" if running else "ready"
        changed = state != self._status.state or self.lots != self._status.lots
        if not changed and (now_s < self._next_s or not running):
            return
        if now_s >= self._next_s:
            self._next_s = now_s + STATUS_EVERY_S
        self._status = msgspec.structs.replace(
            self._status, state=state, running=running, memory_bytes=self._memory_bytes, lots=self.lots,
            steps=steplog.steps, tokens=steplog.tokens, kv_usage=stats().kv_usage, step_limit_ms=self.heart.limit_ms,
        )  # fmt: skip
        pipe.send(Status(self._status, steps=steplog.fresh(self.card)))

    @property
    def kv_usage(self) -> float | None:
        """As it was last told."""
        return self._status.kv_usage

    def obey(self, directive: Directive) -> None:
        """From the tether's thread."""
        if directive.lots is not None:
            self.lots = directive.lots
        if directive.pipe_paths is not None:
            self.use_pipes(directive.pipe_paths)
        if directive.watched is not None:
            self._watched = directive.watched

    def ended(self, results: Sequence[Result]) -> None:
        """Of requests that have ended, somebody may want to know how."""
        if self._watched:
            self._endings += [ending_of(result) for result in results if not result.cancelled]

    def leave(self) -> None:
        """A signal asks this process to finish: the supervisor shall not think that it must be replaced."""
        if not self.draining:
            self.draining = True
            self._report(Report(state="leaving"))

    def claimed(self, requests: int, now_s: float) -> None:
        """So many requests were taken up. One that is there for one takes no other, and is not followed."""
        self._waits_from_s = self._waits_from_s or now_s
        if self.once and not self.draining and (requests or now_s > self._waits_from_s + ONCE_S):
            self.draining = True
            self._report(Report(state="used"))

    def _look_at_memory(self) -> None:
        info = self._process.memory_info()
        self._memory_bytes = info.rss
        limit_bytes = self._status.memory_limit_bytes
        if not self.draining and is_near(own_bytes(info), limit_bytes):
            self.draining = True
            self._report(Report(state="recycle", memory_bytes=info.rss))
            log.event("worker.recycled", level="warning", memory_mb=info.rss >> 20, limit_mb=limit_bytes >> 20)

    def stopped(self, pipe: Pipes) -> None:
        self._status = msgspec.structs.replace(self._status, state="stopped", running=0)
        pipe.send(Status(self._status))

    def bye(self) -> None:
        """The last words of a worker that has lost nothing."""
        self._report(Report(state="left"))

    def _progress(self, name: Phase) -> Progress:
        next_s = 0.0

        def progress(what: str, done: int, total: int) -> None:
            nonlocal next_s
            now_s = self._clock.monotonic_s()
            if now_s >= next_s or done >= total:
                next_s = now_s + PROGRESS_EVERY_S
                self._report(Report(state="loading", phase=name, detail=what, done_bytes=done, total_bytes=total))

        return progress

    def _report(self, report: Report) -> None:
        if self._status_fd is not None:
            write_line(self._status_fd, report)


def ending_of(result: Result) -> Ending:
    """A refusal is a request that this model can't take, or an answer that was held back."""
    ms = result.total_ms - result.queued_ms
    if result.failure is not None:
        refused = isinstance(from_failure(result.failure), InvalidRequest)
        return Ending(what="refused" if refused else "failed", ms=ms)
    if any(answer.finish == "content_filter" for answer in result.answers):
        return Ending(what="refused", ms=ms)
    return Ending(what="ok", ms=ms, tokens=result.usage.completion_tokens / max(1, len(result.answers)))
