"""What somebody who may can ask of a running supervisor, through a gateway: each order is checked, begun, and answered
with what happens now. Nothing here waits.
"""

from __future__ import annotations

from freehold.core import Json
from freehold.errors import Conflict, FreeholdError, NotFound
from freehold.pipe import Ask, DrainWorker, Order, Told
from freehold.worker.staff import Staff


class Control:
    """Carries out orders on `staff`."""

    def __init__(self, staff: Staff) -> None:
        self._staff = staff

    def obey(self, ask: Ask) -> Told:
        try:
            return Told(ask.number, self._do(ask.order))
        except FreeholdError as error:
            return Told(ask.number, failure=error.failure())

    def _do(self, order: Order) -> Json:
        return self._drain(order)

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
