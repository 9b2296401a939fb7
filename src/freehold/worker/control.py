"""What somebody who may can ask of a running supervisor, through a gateway: each order is checked, begun, and answered
with what happens now. Nothing here waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from freehold.config import Config
from freehold.core import Json
from freehold.engine.base import EngineSpec
from freehold.errors import Conflict, FreeholdError, NotFound, Unavailable
from freehold.pipe import Ask, DrainWorker, EndRollout, Order, RollOut, Told
from freehold.worker.rollout import Finding, Rollout
from freehold.worker.staff import Staff

Settle = Callable[[Config, Finding], EngineSpec]
"""Finds the files of `config.model` and chooses the engine; may take minutes, and raises `FreeholdError`."""


class Control:
    """Carries out orders on `staff`."""

    def __init__(self, staff: Staff, settle: Settle | None) -> None:
        self.rollout: Rollout | None = None
        """The last one."""
        self._staff = staff
        self._settle = settle

    def obey(self, ask: Ask) -> Told:
        try:
            return Told(ask.number, self._do(ask.order))
        except FreeholdError as error:
            return Told(ask.number, failure=error.failure())

    def _do(self, order: Order) -> Json:
        match order:
            case DrainWorker():
                return self._drain(order)
            case RollOut():
                return self._roll_out(order)
            case EndRollout():
                return self._end_rollout()

    def _roll_out(self, order: RollOut) -> Json:
        if self.rollout is not None and not self.rollout.over:
            raise Conflict(
                f"A rollout of {self.rollout.model} is on its way.", next="`freehold rollout --end` ends it."
            )
        crews = [crew for crew in self._staff.crews if crew.wanted and order.name in ("", crew.spec.name)]
        if not crews:
            raise NotFound(f"Nothing is served under the name {order.name[:100]!r}.")
        settle, old, config = self._settle, crews[0], self._staff.config
        if settle is None:
            raise Unavailable("This supervisor can't look for models.", next="Use `freehold serve`.")
        model = replace(config.model, model=order.model, name=old.spec.name, revision="", chat_template="")
        wanted = replace(config, model=model)
        finding = Finding(lambda finding: settle(wanted, finding))
        now_s = time.monotonic()
        self.rollout = Rollout(
            self._staff, old, order.model, finding, order.canary_percent, order.window_s, now_s
        )  # fmt: skip
        self._staff.say(f"rollout of {order.model} as {old.spec.name} begins.")
        return {"name": old.spec.name, "model": order.model}

    def _end_rollout(self) -> Json:
        if self.rollout is None or self.rollout.over or self.rollout.state == "taking_over":
            raise Conflict("No rollout is on its way that could be ended.")
        self.rollout.fail("It was ended by hand.")
        return {"name": "", "model": self.rollout.model}

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
        relief = crew.relieve(child)
        if relief is None:
            raise Conflict(f"Somebody takes the place of {child.name} already.")
        self._staff.say(f"{relief.name} takes the place of {child.name} once it is ready.")
        return {"worker": child.name, "replaced_by": relief.name}
