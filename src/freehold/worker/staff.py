"""Who works here: the gateway and the crews; and the few things that are done to them.

Everything that changes (a drain, a rollout, another configuration) is told in these words, and the supervisor's loop
carries it out.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import psutil

from freehold.config import Config
from freehold.core import WorkerStatus
from freehold.engine.base import EngineSpec
from freehold.machine import memory_limit_bytes
from freehold.model_status import ModelStatus
from freehold.pipe import Fleet, RolloutStatus
from freehold.worker.child import Child
from freehold.worker.crew import ALL, Crew
from freehold.worker.memory import limit_bytes
from freehold.worker.restarts import Limits
from freehold.worker.site import Site
from freehold.worker.tether import GatewayOrder, WorkOrder, settings

SHOWN_S = 60.0
"""Who has left is shown for so long."""
TOLD_ENDS = 64


class Staff:
    """All children of one supervisor."""

    def __init__(self, config: Config, site: Site, limits: Limits, say: Callable[[str], None]) -> None:
        self.config = config
        self.site = site
        self.say = say
        """Tells a person what is changed, in a sentence."""
        self.crews: list[Crew] = []
        self.limits = limits
        self.ended: deque[str] = deque(maxlen=TOLD_ENDS)
        """Lives (`pipe.owner`) of late: gateways of other hosts can't see that they are over."""
        self._hired = 0
        self.gateway = self._gateway()
        """The one that serves, if there is one here."""
        self.gateways = [] if self.gateway is None else [self.gateway]
        """And one that comes, and those that finish what they have."""
        self.pipe_paths: tuple[str, ...] = ()
        self._to_renew: list[str] = []

    @property
    def workers(self) -> list[Child]:
        return [child for crew in self.crews for child in crew.members]

    @property
    def children(self) -> list[Child]:
        return [*self.gateways, *self.workers]

    def crew_of(self, child: Child) -> Crew | None:
        return next((crew for crew in self.crews if child in crew.members), None)

    def proved(self, child: Child) -> None:
        """It is ready."""
        crew = self.crew_of(child)
        if crew is not None:
            crew.proven = True

    def proven(self, child: Child) -> bool:
        """What it serves has been ready to be served, by it or by another."""
        crew = self.crew_of(child)
        return crew is not None and crew.proven

    def others_serve(self, child: Child) -> bool:
        """The server is of use without this worker, and to be kept. Of one who was to take another's place that is no
        matter: the other stays."""
        crew = self.crew_of(child)
        if crew is None or crew.is_relief(child):
            return False
        kin = crew.members if crew.on_demand else self.workers  # other models are no reason to try for ever
        others = [each for each in kin if each is not child and not each.leaving]
        return any(each.ready_at_s is not None or each.restarts.sound for each in others)

    def named(self, name: str) -> Child | None:
        """The worker of that name."""
        return next((child for child in self.workers if child.name == name), None)

    def found(self, spec: EngineSpec, wanted: int, lots: tuple[int, int] = ALL, *, on_demand: bool = False) -> Crew:
        """A new crew; its workers are hired when it is tended."""
        crew = Crew(spec, wanted, self._hire, lots, on_demand=on_demand)
        self.crews.append(crew)
        return crew

    def tend(self, now_s: float) -> bool:
        """Hire who is missing, let go who was relieved, forget who left long ago: then True."""
        forgotten = False
        free_bytes = psutil.virtual_memory().available
        for crew in self.crews:
            crew.fill(free_bytes)
            for child in crew.relieved():
                self.dismiss(child)
            for child in list(crew.members):
                shown_s = 0.0 if crew.on_demand and child.state == "stopped" else SHOWN_S
                if child.gone_at_s is not None and now_s - child.gone_at_s >= shown_s:
                    crew.remove(child)
                    forgotten = True
        self.crews = [crew for crew in self.crews if crew.wanted or crew.members or crew.on_demand]
        if self._to_renew:
            self._renew_next()
        return forgotten

    def renew(self) -> None:
        """Every worker is relieved by a new one, one after the other. Those of a model that comes and goes just go:
        memory may not hold both, and what waits brings a new one."""
        self._to_renew = [child.name for crew in self.crews if not crew.on_demand for child in crew.staying]
        for crew in self.crews:
            if crew.on_demand:
                self.dissolve(crew)

    def _renew_next(self) -> None:
        if any(crew.relieving for crew in self.crews):
            return
        child = self.named(self._to_renew.pop(0))
        crew = self.crew_of(child) if child is not None else None
        if child is not None and crew is not None and (relief := crew.relieve(child)) is not None:
            self.say(f"{relief.name} takes the place of {child.name} once it is ready.")

    def dismiss(self, child: Child) -> None:
        """It finishes what it has begun, takes nothing new, and leaves."""
        child.leaving = True
        if child.process is None:
            child.state, child.start_at_s, child.gone_at_s = "stopped", None, time.monotonic()
        else:
            child.state = "draining"
            child.ask_to_leave()

    def do_without(self, child: Child) -> None:
        """It leaves, and nobody follows."""
        crew = self.crew_of(child)
        if crew is not None and child in crew.staying and not crew.is_relief(child):
            crew.wanted -= 1
        self.dismiss(child)

    def dissolve(self, crew: Crew) -> None:
        """All its workers finish and leave."""
        crew.wanted = 0
        for child in crew.staying:
            self.dismiss(child)

    def be(self, crew: Crew, wanted: int) -> None:
        """As many as that, from now on."""
        crew.wanted = wanted
        for child in crew.staying[wanted:]:
            self.dismiss(child)

    def rows(self) -> list[WorkerStatus]:
        return [row for crew in self.crews for row in crew.rows()]

    def told(self, rollout: RolloutStatus | None, models: list[ModelStatus]) -> Fleet:
        """What every gateway is told."""
        place = self.site.place
        return Fleet(self.rows(), rollout, models, host="" if place is None else place.name, ended=list(self.ended))

    def _gateway(self) -> Child | None:
        site = self.site
        if site.listen_fd is None:
            return None
        order = GatewayOrder(
            config=settings(self.config), store_path=site.store_path, pipe_path=site.pipe_path,
            listen_fd=site.listen_fd, place=site.place,
        )  # fmt: skip
        return Child("gateway", "gateway", order, self.limits, fds=(site.listen_fd,))

    def _hire(self, crew: Crew) -> Child:
        self._hired += 1
        config, site = self.config, self.site
        order = WorkOrder(
            spec=crew.spec, name=site.named(f"worker-{self._hired}"), store_path=site.store_path,
            pipe_path=site.pipe_path, pipe_paths=self.pipe_paths, pipe_secret=site.secret,
            log_level=config.log.level, log_format=config.log.format, lots=crew.lots,
            memory_limit_bytes=limit_bytes(config.engine.memory_limit_mb, memory_limit_bytes(), crew.wanted),
            once=config.server.mode == "stateless", cpu_limit_s=config.engine.cpu_limit_s,
        )  # fmt: skip
        return Child(order.name, "work", order, self.limits)
