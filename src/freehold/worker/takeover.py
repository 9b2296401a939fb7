"""A new gateway takes an old one's place: on the same listening socket, with new code or other settings.

While both live, connections go to either, and workers tell both. Once the new one is heard to serve, the old one stops
accepting, answers what it has, and leaves: nobody is refused, and no stream is cut.
"""

from __future__ import annotations

import signal

import msgspec

from freehold.config import Config
from freehold.errors import Conflict
from freehold.worker.child import Child
from freehold.worker.neighbours import Neighbours
from freehold.worker.pipes import Pipes
from freehold.worker.staff import Staff
from freehold.worker.tether import Directive, GatewayOrder, settings


class Takeover:
    """The gateways of one supervisor over time, those of its neighbours, and its own pipes to all of them."""

    def __init__(self, staff: Staff, pipes: Pipes, neighbours: Neighbours) -> None:
        self._staff = staff
        self._neighbours = neighbours
        self._pipes = pipes
        self._coming: Child | None = None
        self._count = 1
        self._elsewhere: tuple[str, ...] = ()
        self._tell_all()

    def look_around(self) -> None:
        """Gateways of other supervisors may have come or gone."""
        if (found := self._neighbours.changed()) is not None:
            self._elsewhere = found
            self._tell_all()

    def begin(self, config: Config) -> str | None:
        """Start the new one, with `config`. Its name; None where workers alone run."""
        if self._coming is not None:
            raise Conflict("A new gateway is coming up already.", next="Try again in a moment.")
        staff, old = self._staff, self._staff.gateway
        if old is None:
            return None
        self._count += 1
        assert isinstance(old.order, GatewayOrder)
        order = msgspec.structs.replace(old.order, config=settings(config), pipe_path=staff.site.pipe_of(self._count))
        self._coming = Child(f"gateway-{self._count}", "gateway", order, staff.limits, old.fds)
        staff.gateways.append(self._coming)
        self._tell_all()
        return self._coming.name

    def serves(self, child: Child) -> None:
        """A gateway has heard a worker that is ready."""
        if child is not self._coming:
            return
        staff = self._staff
        staff.gateway, self._coming = child, None
        staff.say(f"{child.name} has taken over.")
        for old in staff.gateways:
            if old is not child and not old.leaving:
                old.leaving, old.state = True, "draining"
                old.signal(signal.SIGUSR1)

    def ended(self, child: Child) -> bool:
        """A gateway's process is over. True if nobody shall follow it: it had left, or never came."""
        staff = self._staff
        if child is staff.gateway or child not in staff.gateways:
            return False
        if child is self._coming:
            self._coming = None
            staff.say(f"{child.name} did not come up, so the old one stays. {child.last_error}")
        staff.gateways.remove(child)
        child.close()
        self._tell_all()
        return True

    def _tell_all(self) -> None:
        """Where all gateways are, to who runs and to who will."""
        own = tuple(each.order.pipe_path for each in self._staff.gateways if isinstance(each.order, GatewayOrder))
        paths = own + self._elsewhere
        self._pipes.use(paths)
        self._staff.pipe_paths = paths
        for child in self._staff.workers:
            child.tell(Directive(pipe_paths=paths))
