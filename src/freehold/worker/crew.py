"""The workers that serve one model: how many there shall be, who they are, and who takes whose place.

Says who is to be hired and who may go; the supervisor does it. Somebody who is to be relieved stays until the one who
follows is ready, so that a change never leaves a model without a worker that had one.
"""

from __future__ import annotations

from collections.abc import Callable

from freehold.core import WorkerStatus
from freehold.engine.base import EngineSpec
from freehold.worker.child import Child
from freehold.worker.tether import Directive

ALL = (0, 100)
NONE = (0, 0)
ROOM = 1.2
"""Free memory that a worker needs to come up beside another, over what that one took once loaded."""


class Crew:
    """`wanted` workers of `spec`. `hire` makes the next one, not started yet."""

    def __init__(
        self, spec: EngineSpec, wanted: int, hire: Callable[[Crew], Child], lots: tuple[int, int] = ALL,
        *, on_demand: bool = False,
    ) -> None:  # fmt: skip
        self.spec = spec
        self.on_demand = on_demand
        """It comes and goes as it is asked for; also without anybody it is a crew."""
        self.wanted = wanted
        self.lots = lots
        self.members: list[Child] = []
        self.proven = False
        """One of them was ready once: its model can be served."""
        self._hire = hire
        self._reliefs: dict[str, Child] = {}
        """Name of who shall go -> who takes the place."""

    @property
    def staying(self) -> list[Child]:
        """Who is not on the way out."""
        return [child for child in self.members if not child.leaving and not child.recycled]

    @property
    def ready(self) -> bool:
        """All that shall be there are."""
        staying = self.staying
        return len(staying) >= self.wanted and all(child.ready_at_s is not None for child in staying)

    @property
    def relieving(self) -> bool:
        """Somebody is to take another's place."""
        return bool(self._reliefs)

    def fill(self, free_bytes: int) -> None:
        """Hire until there are as many as wanted, besides those who relieve somebody. Who leaves for want of memory is
        followed at once only where the machine's free memory holds both."""
        recycled = [child for child in self.members if child.recycled and child.process is not None]
        both_fit = all(free_bytes >= ROOM * child.loaded_bytes for child in recycled)
        here = len(self.staying) - len(self._reliefs) + (0 if both_fit else len(recycled))
        for _ in range(here, self.wanted):
            self.members.append(self._hire(self))

    def relieve(self, child: Child) -> Child | None:
        """Someone shall take its place. Who, if that is not on the way already."""
        if child.name in self._reliefs or child not in self.staying:
            return None
        relief = self._hire(self)
        self.members.append(relief)
        self._reliefs[child.name] = relief
        return relief

    def relieved(self) -> list[Child]:
        """Those whose relief is ready: they may go now. One that went by itself needs no relief any more."""
        free: list[Child] = []
        for name, relief in list(self._reliefs.items()):
            child = next((each for each in self.staying if each.name == name), None)
            if child is None or relief.ready_at_s is not None:
                del self._reliefs[name]
                free += [child] if child is not None else []
        return free

    def is_relief(self, child: Child) -> bool:
        """Should it fail, the one before stays."""
        return child in self._reliefs.values()

    def remove(self, child: Child) -> None:
        """It is gone for good."""
        self.members.remove(child)
        self._reliefs = {name: relief for name, relief in self._reliefs.items() if relief is not child}
        child.close()

    def give(self, lots: tuple[int, int]) -> None:
        """From now on its workers take these requests."""
        self.lots = lots
        for child in self.members:
            child.tell(Directive(lots=lots))

    def rows(self) -> list[WorkerStatus]:
        """As the supervisor sees them."""
        spec = self.spec
        return [
            WorkerStatus(
                name=child.name, pid=child.pid, state=child.state, model=spec.name, engine=spec.engine,
                phase=child.phase, restarts=child.restarts.count, memory_bytes=child.memory_bytes,
                last_error=child.last_error, variant=spec.source.label, lots=self.lots,
            )
            for child in self.members
        ]  # fmt: skip
