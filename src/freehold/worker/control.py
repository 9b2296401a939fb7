"""What somebody who may can ask of a running supervisor, through a gateway or by a signal: each order is checked,
begun, and answered with what happens now. Nothing here waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from freehold.config import Config
from freehold.core import Json
from freehold.engine.base import EngineSpec
from freehold.errors import Conflict, FreeholdError, NotFound, Unavailable
from freehold.pipe import Ask, DrainWorker, EndRollout, Order, Reload, RollOut, RolloutStatus, Told
from freehold.worker.child import Child
from freehold.worker.crew import Crew
from freehold.worker.judge import Ending
from freehold.worker.reload import plan
from freehold.worker.rollout import Finding, Rollout
from freehold.worker.staff import Staff
from freehold.worker.takeover import Takeover

Settle = Callable[[Config, Finding], EngineSpec]
"""Finds the files of `config.model` and chooses the engine; may take minutes, and raises `FreeholdError`."""


class Control:
    """Carries out orders on `staff`. `reread`: the settings as they are now written."""

    def __init__(
        self, staff: Staff, takeover: Takeover, settle: Settle | None, reread: Callable[[], Config] | None
    ) -> None:
        self.rollout: Rollout | None = None
        """The last one."""
        self._staff = staff
        self._takeover = takeover
        self._settle = settle
        self._reread = reread
        self._read = staff.config
        """The settings as they were last read."""

    def turn(self, now_s: float) -> bool:
        """Go on with the rollout; False where there is none on its way. Models that come and go have none."""
        if self.rollout is None or self.rollout.over:
            return False
        self.rollout.turn(now_s)
        return True

    def status(self, now_s: float) -> RolloutStatus | None:
        """Of the last rollout."""
        return None if self.rollout is None else self.rollout.status(now_s)

    def heard(self, child: Child, endings: tuple[Ending, ...]) -> None:
        """How requests of a worker ended."""
        if self.rollout is not None:
            self.rollout.heard(child, endings)

    def ends_with(self, child: Child, reason: str) -> bool:
        """A worker ended, or is near its end, that was not to: True if a rollout ends with it."""
        return self.rollout is not None and self.rollout.ends_with(child, reason)

    def obey(self, ask: Ask) -> Told:
        try:
            return Told(ask.number, self._do(ask.order))
        except FreeholdError as error:
            return Told(ask.number, failure=error.failure())

    def obey_signal(self, order: Order) -> None:
        """A refusal is told where all changes are."""
        try:
            self._do(order)
        except FreeholdError as error:
            self._staff.say(str(error))

    def _do(self, order: Order) -> Json:
        if isinstance(order, DrainWorker):
            return self._drain(order)
        if isinstance(order, RollOut):
            return self._roll_out(order)
        if isinstance(order, EndRollout):
            return self._end_rollout()
        return self._reload() if isinstance(order, Reload) else self._upgrade()

    def _drain(self, order: DrainWorker) -> Json:
        child = self._staff.named(order.worker)
        if child is None:
            names = ", ".join(each.name for each in self._staff.workers)
            raise NotFound(f"There is no worker {order.worker[:100]!r}.", next=f"Workers: {names}.")
        if child.leaving or child.recycled:
            raise Conflict(f"{child.name} is {child.state} already.")
        if not order.replace:
            self._staff.do_without(child)
            self._staff.say(f"{child.name} is drained: it finishes what it has begun, and leaves.")
            return {"worker": child.name, "replaced_by": None}
        crew = self._staff.crew_of(child)
        assert crew is not None, f"{child.name} belongs to no crew"
        if crew.on_demand:
            next = "Drain it without --replace: its model is loaded again as soon as somebody asks for it."
            raise Conflict("Memory may not hold another beside it.", f"{crew.spec.name} is loaded on demand.", next)
        relief = crew.relieve(child)
        if relief is None:
            raise Conflict(f"Somebody takes the place of {child.name} already.")
        self._staff.say(f"{relief.name} takes the place of {child.name} once it is ready.")
        return {"worker": child.name, "replaced_by": relief.name}

    # ---- another model ---------------------------------------------------------------------------

    def _roll_out(self, order: RollOut) -> Json:
        old, config = self._crew(order.name), self._staff.config
        if old.on_demand:
            next = "Name the new model with `freehold serve` and start again, or serve the old one alone."
            raise Conflict(f"{old.spec.name} is loaded on demand: nothing can be rolled out in its place.", next=next)
        model = replace(config.model, model=order.model, name=old.spec.name, revision="", chat_template="")
        wanted = replace(config, model=model)
        self._replace_model(old, wanted, order.model, order.canary_percent, order.window_s)
        return {"name": old.spec.name, "model": order.model}

    def _end_rollout(self) -> Json:
        if self.rollout is None or self.rollout.over or self.rollout.state == "taking_over":
            raise Conflict("No rollout is on its way that could be ended.")
        self.rollout.fail("It was ended by hand.")
        return {"name": self.rollout.name, "model": self.rollout.model}

    def _replace_model(self, old: Crew, config: Config, model: str, canary_percent: int, window_s: float) -> None:
        """`config` says what is to be served in the place of `old`."""
        self._check_no_rollout()
        settle = self._settle
        if settle is None:
            raise Unavailable("This supervisor can't look for models.", next="Use `freehold serve`.")
        finding = Finding(lambda finding: settle(config, finding))
        workers, now_s = config.engine.workers, time.monotonic()
        self.rollout = Rollout(self._staff, old, workers, model, finding, canary_percent, window_s, now_s)
        self._staff.say(f"rollout of {model} as {old.spec.name} begins.")

    def _check_no_rollout(self) -> None:
        if self.rollout is not None and not self.rollout.over:
            next = "`freehold rollout --end` ends it."
            raise Conflict(f"A rollout of {self.rollout.model} is on its way.", next=next)

    def _crew(self, name: str) -> Crew:
        crews = [crew for crew in self._staff.crews if (crew.wanted or crew.on_demand) and name in ("", crew.spec.name)]
        if not self._staff.crews:
            next = "Name a host that has some with --on HOST; `freehold workers` shows them."
            raise Conflict(f"No workers run on {self._staff.site.host_name}.", "It has a gateway only.", next)
        if not crews:
            raise NotFound(f"Nothing is served under the name {name[:100]!r}.")
        return crews[0]

    # ---- other settings, another version ---------------------------------------------------------

    def _reload(self) -> Json:
        if self._reread is None:
            raise Unavailable("This supervisor can't read its settings again.", next="Use `freehold serve`.")
        new = self._reread()
        todo = plan(self._read, new)
        if (todo.workers or todo.count) and any(crew.on_demand for crew in self._staff.crews):
            why = "Settings of models and engines are read at the start where models are loaded on demand."
            raise Conflict(f"{', '.join(todo.changed)} can't change now.", why, "Stop the server and start it again.")
        if todo.workers:
            self._check_no_rollout()
        name = self._takeover.begin(new) if todo.gateway else None
        if todo.workers:
            self._replace_model(self._crew(""), new, new.model.model, 100, 1.0)
        if todo.count and not todo.workers:
            self._staff.be(self._crew(""), new.engine.workers)
        self._read = self._staff.config = new
        self._staff.say(f"settings read again; changed: {', '.join(todo.changed) or 'nothing'}.")
        return {"gateway": name, "changed": list(todo.changed)}

    def _upgrade(self) -> Json:
        name = self._takeover.begin(self._staff.config)
        self._staff.renew()
        then = "New workers take the old ones' place, one by one."
        self._staff.say(then if name is None else f"{name} takes over once it serves. {then}")
        return {"gateway": name, "changed": []}
