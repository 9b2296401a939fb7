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

import msgspec

from freehold import log
from freehold.config import Config
from freehold.engine.base import EngineSpec
from freehold.errors import FreeholdError
from freehold.pipe import Ask, Fleet, Reload, Upgrade, owner
from freehold.worker.child import Child
from freehold.worker.control import Control, Settle
from freehold.worker.events import Event
from freehold.worker.neighbours import Neighbours
from freehold.worker.pipes import Pipes
from freehold.worker.repertoire import employed
from freehold.worker.restarts import End, Limits
from freehold.worker.signals import StopSignals
from freehold.worker.site import Site, open_port, prepared
from freehold.worker.staff import Staff
from freehold.worker.takeover import Takeover
from freehold.worker.upkeep import Upkeep

STOP_S = 10.0
"""The drain limit when everything is given up."""
LAST_WORDS_S = 5.0
"""The gateway keeps the drain limit itself; then it has this long to tell those it cuts off."""
LEAVE_S = 3.0
"""What workers get at least to leave in, once the gateway is gone."""
GIVE_BACK_S = 2.0
"""At the second signal they give back what isn't finished."""
TURN_S = 1.0


class Supervisor:
    """Workers of each of `specs`, and a gateway if the site has one, until a signal or a failure that won't heal."""

    def __init__(
        self, config: Config, *specs: EngineSpec, on_event: Callable[[Event], None] = lambda event: None,
        program: Sequence[str] = (sys.executable, "-m", "freehold"), limits: Limits | None = None,
        site: Site | None = None, settle: Settle | None = None, reread: Callable[[], Config] | None = None,
    ) -> None:  # fmt: skip
        """`site`: prepared before, and kept by who calls; else it is prepared here. `settle`: how a model to
        roll out is found. `reread`: the settings as they are now written."""
        self._config = config
        self._specs = specs
        self._tell = on_event
        self._program = tuple(program)
        self._limits = limits or Limits.at_most(config.server.restart_most_s)
        self._site = site
        self._settle = settle
        self._reread = reread
        self._verdict: FreeholdError | None = None
        self._changed = True
        self._served = False
        self._answers = False
        self._closing = False
        self._began_s = time.monotonic()

    def run(self) -> int:
        """The exit code: 0 after a drain, else that of the error that ended it (in the `gave_up` event)."""
        signals = StopSignals(insist=self._kill_all)
        signals.watch_children()
        signals.watch(signal.SIGHUP, signal.SIGUSR2)
        try:
            with self._prepared() as site, Upkeep(site.store_path):
                open_port(site)
                self._tell(Event(kind="listening", url=site.url))
                self._staff = Staff(self._config, site, self._limits, self._changes)
                self._answers = site.listen_fd is None  # then others are asked
                neighbours = Neighbours(site.store_path, site.place, works=bool(self._specs))
                with employed(self._staff, self._specs) as self._repertoire, neighbours:
                    self._supervise(signals, site, neighbours)
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

    def _supervise(self, signals: StopSignals, site: Site, neighbours: Neighbours) -> None:
        pipe = Pipes((), lambda: [self._fleet()], secret=site.secret)
        self._takeover = Takeover(self._staff, pipe, neighbours)
        self._control = Control(self._staff, self._takeover, self._settle, self._reread)
        try:
            while not signals.asked() and self._verdict is None:
                self._turn(signals, pipe)
            if self._served:
                self._tell(Event(kind="draining"))
            limit_s = self._config.server.drain_s if self._verdict is None else STOP_S
            end_s = time.monotonic() + limit_s
            self._closing = True
            self._send_off(self._staff.gateways, signals, pipe, end_s + LAST_WORDS_S)
            self._send_off(self._staff.workers, signals, pipe, max(end_s, time.monotonic() + LEAVE_S))
        finally:
            pipe.close()
            self._kill()

    def _turn(self, signals: StopSignals, pipe: Pipes) -> None:
        """Wait for something to happen, then see what it was."""
        now_s = time.monotonic()
        if not self._closing or self._finishes():
            self._changed |= self._repertoire.turn(now_s) | self._staff.tend(now_s) | self._control.turn(now_s)
        children = self._staff.children
        for child in children:
            if child.start_at_s is not None and now_s >= child.start_at_s and not child.leaving:
                self._start(child, now_s)
        self._takeover.look_around()
        for frame in pipe.receive():
            if isinstance(frame, Ask):
                pipe.send(self._control.obey(frame))
            else:
                self._repertoire.hear(frame)
        for number, order in ((signal.SIGHUP, Reload()), (signal.SIGUSR2, Upgrade())):
            if signals.took(number) and not self._closing:
                self._control.obey_signal(order)
        if self._changed:
            self._changed = False
            pipe.send(self._fleet())
        starts_s = [child.start_at_s - now_s for child in children if child.start_at_s is not None]
        tethers = [child.tether.fileno() for child in children if child.tether is not None]
        pipe.wait(max(0.0, min([TURN_S, *starts_s])), [signals.fileno(), *self._repertoire.fds, *tethers])
        self._repertoire.look()
        signals.asked()
        for child in children:
            self._hear(child)
            if child.hangs(time.monotonic()):
                self._hung(child)
            if child.exit_code() is not None:
                self._hear(child)  # what it said last
                self._ended(child)

    def _finishes(self) -> bool:
        """Models are still loaded for what was accepted: a gateway waits for its answers."""
        parts = self._repertoire.parts if self._verdict is None else []
        return bool(parts) and any(gateway.process is not None for gateway in self._staff.gateways)

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
                    self._staff.proved(child)
                    self._repertoire.ready(child, report.card)
                    self._tell(msgspec.structs.replace(told, kind="ready", seconds=now_s - child.started_s))
                    self._answers = self._answers or not self._specs
                case "serving":
                    self._answers = True
                    self._takeover.serves(child)
                case "used":
                    self._staff.do_without(child)
                case "leaving" if not child.leaving:
                    self._staff.do_without(child)
                    self._changes(f"{child.name} was told to leave by a signal.")
                case "ended":
                    self._control.heard(child, report.endings)
                case "recycle" if not self._control.ends_with(child, f"{child.name} is near its memory limit."):
                    self._changes(f"{child.name} is near its memory limit: it finishes, and another takes its place.")
                case _:
                    pass  # told when it has ended
        if self._answers and not self._served and all(each.ready_at_s is not None for each in self._staff.children):
            self._served = True
            self._tell(Event(kind="serving", seconds=now_s - self._began_s))

    def _ended(self, child: Child) -> None:
        now_s = time.monotonic()
        pid, failure = child.pid, child.failure
        ready_s = None if child.ready_at_s is None else now_s - child.ready_at_s
        code = child.exit_code() or 0
        well = child.left_well() or (child.leaving and child.ready_at_s is None)
        reason = child.bury()
        self._changed = True
        self._staff.ended.append(owner(child.name, pid))
        child.last_error = (
            "" if well else f"{child.name} {reason}." + (f" {failure.what} {failure.why}".rstrip() if failure else "")
        )
        if not self._closing and self._takeover.ended(child):
            return
        if child.leaving or child.recycled:
            self._gone(child, reason, well)
            return
        if self._control.ends_with(child, child.last_error):
            self._gone(child, reason, well)
            return
        try:
            delay_s = child.restarts.after(
                End(reason, ready_s, code, failure),
                child.name,
                proven=self._staff.proven(child),
                others_serve=self._staff.others_serve(child),
            )
        except FreeholdError as error:
            self._given_up(child, error)
            return
        child.start_at_s = now_s + delay_s
        if not log.at_terminal():  # where the command tells it
            log.event("process.ended", level="warning", process=child.name, pid=pid, reason=reason, restart_s=delay_s)
        self._tell(Event(kind="ended", process=child.name, pid=pid, reason=reason, seconds=delay_s, failure=failure))

    def _gone(self, child: Child, reason: str, well: bool) -> None:
        """One that was to leave has left: nobody takes its place, or another has already."""
        child.state = "stopped" if well else "dead"
        child.gone_at_s, child.leaving = time.monotonic(), True
        if not well and self._closing:
            what = f"{child.name} {reason}, while it finished its answers."
            error = FreeholdError(what, next="What it had begun is answered when the server starts again.")
            self._verdict = self._verdict or error
        if not self._closing:
            self._tell(Event(kind="left", process=child.name, reason=reason, failure=child.failure))

    def _given_up(self, child: Child, error: FreeholdError) -> None:
        """It won't come up. Whoever it was to relieve just stays."""
        child.leaving, child.gone_at_s = True, time.monotonic()
        crew = self._staff.crew_of(child)
        if crew is not None and crew.is_relief(child):
            crew.remove(child)
            self._changes(f"{child.name} did not come up: {error}")
        elif not self._repertoire.given_up(child, error):
            self._verdict = self._verdict or error

    def _hung(self, child: Child) -> None:
        self._changed = True
        log.event("process.hung", level="error", process=child.name, pid=child.pid, late_s=round(child.hung_s, 1))
        child.signal(signal.SIGKILL)

    # ---- leaving ---------------------------------------------------------------------------------

    def _send_off(self, children: Sequence[Child], signals: StopSignals, pipe: Pipes, end_s: float) -> None:
        """Ask `children` to finish, and go on supervising the others, until they are gone or the time is."""
        for child in children:
            child.ask_to_leave()
            child.leaving, child.start_at_s = True, None
        while any(child.process is not None for child in children) and time.monotonic() < end_s:
            self._turn(signals, pipe)
        for child in children:
            child.signal(signal.SIGTERM)
        end_s += GIVE_BACK_S
        while any(child.process is not None for child in children) and time.monotonic() < end_s:
            self._turn(signals, pipe)
        for child in children:
            if child.process is not None:
                log.event("process.killed", level="warning", process=child.name, pid=child.pid, why="Its time was up.")
            child.signal(signal.SIGKILL)

    def _kill_all(self) -> None:
        """The second signal: no more waiting."""
        self._kill()
        os._exit(1)

    def _kill(self) -> None:
        for child in self._staff.children:
            child.signal(signal.SIGKILL)

    # ---- telling ---------------------------------------------------------------------------------

    def _fleet(self) -> Fleet:
        return self._staff.told(self._control.status(time.monotonic()), self._repertoire.statuses(time.monotonic()))

    def _changes(self, text: str) -> None:
        self._changed = True
        if not log.at_terminal():
            log.event("fleet.change", what=text)
        self._tell(Event(kind="change", detail=text))
