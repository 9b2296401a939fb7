"""The parent of everything: starts gateway and workers, replaces those that die, stops them in the right order.

No asyncio, no HTTP, no model: one `select` over the children's tethers and the signals, so that nothing that
happens to a child can hang it. If it is killed itself, the tethers close and all children leave.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import msgspec

from freehold import log
from freehold.config import Config
from freehold.core import Failure, ModelCard, Record, WorkerStatus
from freehold.engine.base import EngineSpec
from freehold.errors import FreeholdError
from freehold.pipe import Fleet
from freehold.worker.child import Child
from freehold.worker.pipe_client import PipeClient
from freehold.worker.restarts import Limits
from freehold.worker.signals import StopSignals
from freehold.worker.site import Site, open_port, prepared
from freehold.worker.tether import GatewayOrder, WorkOrder, settings
from freehold.worker.upkeep import Upkeep

STOP_S = 10.0
"""The drain limit when everything is given up."""
LAST_WORDS_S = 5.0
"""The gateway keeps the drain limit itself; then it has this long to tell those it cuts off."""
LEAVE_S = 3.0
"""What workers get at least to leave in, once the gateway is gone."""
TURN_S = 1.0

Kind = Literal[
    "listening", "started", "phase", "progress", "ready", "serving", "ended", "gave_up", "draining", "stopped"
]  # fmt: skip


class Event(Record, frozen=True):
    """Something a person at the terminal may want to see."""

    kind: Kind
    process: str = ""
    pid: int = 0
    url: str = ""
    phase: str = ""
    detail: str = ""
    seconds: float | None = None
    """phase: how long it took (None: it begins). ready, serving: since the start. ended: until the restart."""
    done_bytes: int = 0
    total_bytes: int = 0
    """progress: how far the phase is."""
    card: ModelCard | None = None
    memory_bytes: int = 0
    failure: Failure | None = None
    reason: str = ""
    """ended: how, in words."""


class Supervisor:
    """`config.engine.workers` workers of `spec`, and one gateway, until a signal or a failure that won't heal."""

    def __init__(
        self, config: Config, spec: EngineSpec, *, on_event: Callable[[Event], None] = lambda event: None,
        program: Sequence[str] = (sys.executable, "-m", "freehold"), limits: Limits | None = None,
        site: Site | None = None,
    ) -> None:  # fmt: skip
        """`site`: prepared before, and kept by who calls; else it is prepared here."""
        self._config = config
        self._spec = spec
        self._on_event = on_event
        self._program = tuple(program)
        self._limits = limits or Limits()
        self._site = site
        self._workers: list[Child] = []
        self._children: list[Child] = []
        self._verdict: FreeholdError | None = None
        self._changed = True
        self._served = False
        self._answers = False
        self._began_s = time.monotonic()

    def run(self) -> int:
        """The exit code: 0 after a drain, else that of the error that ended it (in the `gave_up` event)."""
        signals = StopSignals(insist=self._kill_all)
        signals.watch_children()
        try:
            with self._prepared() as site, Upkeep(site.store_path):
                open_port(site)
                self._tell(Event(kind="listening", url=site.url))
                self._hire(site)
                self._supervise(signals, site)
        except FreeholdError as error:
            self._verdict = error
        finally:
            signals.close()
        if self._verdict is not None:
            if not log.at_terminal():
                log.event("supervisor.gave_up", level="error", why=str(self._verdict))
            self._tell(Event(kind="gave_up", failure=self._verdict.failure()))
            return self._verdict.exit_code
        self._tell(Event(kind="stopped"))
        return 0

    def _prepared(self) -> AbstractContextManager[Site]:
        return prepared(self._config) if self._site is None else nullcontext(self._site)

    # ---- the main line ---------------------------------------------------------------------------

    def _hire(self, site: Site) -> None:
        config, levels = self._config, (self._config.log.level, self._config.log.format)
        order = GatewayOrder(
            config=settings(config), store_path=site.store_path, pipe_path=site.pipe_path, listen_fd=site.listen_fd
        )
        self._gateway = Child("gateway", "gateway", order, self._limits, fds=(site.listen_fd,))
        for number in range(1, config.engine.workers + 1):
            work = WorkOrder(
                spec=self._spec, name=f"worker-{number}", store_path=site.store_path, pipe_path=site.pipe_path,
                log_level=levels[0], log_format=levels[1],
            )  # fmt: skip
            self._workers.append(Child(work.name, "work", work, self._limits))
        self._children = [self._gateway, *self._workers]

    def _supervise(self, signals: StopSignals, site: Site) -> None:
        pipe = PipeClient(site.pipe_path, lambda: [Fleet(self._rows())])
        try:
            while not signals.asked() and self._verdict is None:
                self._turn(signals, pipe)
            if self._served:
                self._tell(Event(kind="draining"))
            limit_s = self._config.server.drain_s if self._verdict is None else STOP_S
            end_s = time.monotonic() + limit_s
            self._send_off([self._gateway], signals, pipe, end_s + LAST_WORDS_S)
            self._send_off(self._workers, signals, pipe, max(end_s, time.monotonic() + LEAVE_S))
        finally:
            pipe.close()
            for child in self._children:
                child.signal(signal.SIGKILL)

    def _turn(self, signals: StopSignals, pipe: PipeClient) -> None:
        """Wait for something to happen, then see what it was."""
        now_s = time.monotonic()
        for child in self._children:
            if child.start_at_s is not None and now_s >= child.start_at_s and not child.leaving:
                self._start(child, now_s)
        pipe.receive()
        if self._changed:
            self._changed = False
            pipe.send(Fleet(self._rows()))
        starts_s = [child.start_at_s - now_s for child in self._children if child.start_at_s is not None]
        tethers = [child.tether.fileno() for child in self._children if child.tether is not None]
        pipe.wait(max(0.0, min([TURN_S, *starts_s])), [signals.fileno(), *tethers])
        signals.asked()
        for child in self._children:
            self._hear(child)
            if child.exit_code() is not None:
                self._hear(child)  # what it said last
                self._ended(child)

    # ---- what happens to a child -----------------------------------------------------------------

    def _start(self, child: Child, now_s: float) -> None:
        child.start(self._program, now_s)
        self._changed = True
        self._tell(Event(kind="started", process=child.name, pid=child.pid))

    def _hear(self, child: Child) -> None:
        now_s = time.monotonic()
        for report in child.reports(now_s):
            self._changed = self._changed or not report.total_bytes
            told = Event(
                kind="progress" if report.total_bytes else "phase", process=child.name, pid=child.pid,
                phase=report.phase, detail=report.detail, seconds=report.seconds, done_bytes=report.done_bytes,
                total_bytes=report.total_bytes, card=report.card, memory_bytes=report.memory_bytes,
            )  # fmt: skip
            match report.state:
                case "loading":
                    self._tell(told)
                case "ready":
                    self._tell(msgspec.structs.replace(told, kind="ready", seconds=now_s - child.started_s))
                case "serving":
                    self._answers = True
                case "failed":
                    pass  # told when it has ended
        if self._answers and not self._served and all(each.ready_at_s is not None for each in self._children):
            self._served = True
            self._tell(Event(kind="serving", seconds=now_s - self._began_s))

    def _ended(self, child: Child) -> None:
        now_s = time.monotonic()
        pid, code, failure = child.pid, child.exit_code(), child.failure
        ready_s = None if child.ready_at_s is None else now_s - child.ready_at_s
        reason = child.bury()
        self._changed = True
        child.last_error = f"{child.name} {reason}." + (f" {failure.what} {failure.why}".rstrip() if failure else "")
        if child.leaving:
            child.state = "stopped" if code == 0 else "dead"
            return
        try:
            delay_s = child.restarts.after(ready_s, child.name, reason, failure)
        except FreeholdError as error:
            self._verdict = self._verdict or error
            child.leaving = True
            return
        child.start_at_s = now_s + delay_s
        if not log.at_terminal():  # where the command tells it
            log.event("process.ended", level="warning", process=child.name, pid=pid, reason=reason, restart_s=delay_s)
        self._tell(Event(kind="ended", process=child.name, pid=pid, reason=reason, seconds=delay_s, failure=failure))

    # ---- leaving ---------------------------------------------------------------------------------

    def _send_off(self, children: Sequence[Child], signals: StopSignals, pipe: PipeClient, end_s: float) -> None:
        """Ask `children` to finish, and go on supervising the others, until they are gone or the time is."""
        for child in children:
            child.leaving, child.start_at_s = True, None
            child.signal(signal.SIGTERM)
        while any(child.process is not None for child in children) and time.monotonic() < end_s:
            self._turn(signals, pipe)
        for child in children:
            if child.process is not None:
                log.event("process.killed", level="warning", process=child.name, pid=child.pid, why="Its time was up.")
            child.signal(signal.SIGKILL)

    def _kill_all(self) -> None:
        """The second signal: no more waiting."""
        for child in self._children:
            child.signal(signal.SIGKILL)
        os._exit(1)

    # ---- telling ---------------------------------------------------------------------------------

    def _rows(self) -> list[WorkerStatus]:
        model, engine = self._spec.name, self._spec.engine
        return [
            WorkerStatus(
                name=child.name, pid=child.pid, state=child.state, model=model, engine=engine, phase=child.phase,
                restarts=child.restarts.count, since_unix_s=child.since_unix_s, memory_bytes=child.memory_bytes,
                last_error=child.last_error,
            )
            for child in self._workers
        ]  # fmt: skip

    def _tell(self, event: Event) -> None:
        self._on_event(event)
