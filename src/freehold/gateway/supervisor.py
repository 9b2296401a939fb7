"""The gateway's lines to supervisors, its own and those of other hosts that share the store: orders go up, answers come
back.
"""

from __future__ import annotations

import asyncio
import secrets

from freehold.core import Json
from freehold.errors import Conflict, NotFound, Unavailable, from_failure
from freehold.gateway.fleet import Line
from freehold.pipe import Ask, Fleet, Order, RolloutStatus, Told, Wanted

ANSWER_S = 5.0
"""The supervisor begins what it is asked and answers at once."""


class Supervisor:
    """`line` is set while its own is connected; `others` are of other hosts, by name."""

    def __init__(self) -> None:
        self.line: Line | None = None
        self.others: dict[str, Line] = {}
        self._host = ""
        self._rollouts: dict[str, RolloutStatus | None] = {}
        self._answers: dict[int, asyncio.Future[Told]] = {}

    def heard(self, line: Line, frame: Fleet) -> None:
        if line.far:
            self.others[frame.host] = line
        else:
            self.line, self._host = line, frame.host
        self._rollouts[frame.host] = frame.rollout

    def lost(self, line: Line) -> str | None:
        """A connection has ended. The host whose supervisor it was, if it was one's."""
        if self.line is line:
            self.line = None
        for host in [host for host, other in self.others.items() if other is line]:
            del self.others[host]
            return host
        return None

    def rollout(self, host: str = "") -> RolloutStatus | None:
        """The last one."""
        return self._rollouts.get(host or self._host)

    async def ask(self, order: Order, host: str | None = None) -> Json:
        """What the supervisor of `host` (this gateway's own unless told) does now. Raises its refusal, `Conflict` where
        there is none, `NotFound` for a host that isn't there, `Unavailable` if it is silent."""
        line = self._line_to(host or self._host)
        number = secrets.randbits(53)  # several gateways ask one supervisor, and all hear its answers
        self._answers[number] = asyncio.get_running_loop().create_future()
        line.send(Ask(number, order))
        try:
            told = await asyncio.wait_for(self._answers[number], ANSWER_S)
        except TimeoutError:
            raise Unavailable("The supervisor does not answer.", next="See the server's log.") from None
        finally:
            del self._answers[number]
        if told.failure is not None:
            raise from_failure(told.failure)
        return told.told

    def _line_to(self, host: str) -> Line:
        if host in self.others:
            return self.others[host]
        if host != self._host:
            hosts = ", ".join(sorted(filter(None, {self._host, *self.others})))
            raise NotFound(f"There is no host {host[:100]!r}.", next=f"Hosts: {hosts or 'this one'}.")
        if self.line is None:
            why = "This gateway runs without one, or it is just starting."
            raise Conflict("No supervisor is connected.", why, "See `freehold serve`.")
        return self.line

    def want(self, model: str) -> None:
        """Somebody waits for a model of which nothing is known yet. Say it again while they do."""
        if self.line is not None:
            self.line.send(Wanted(model))

    def told(self, frame: Told) -> None:
        """One that comes too late finds nobody."""
        answer = self._answers.get(frame.number)
        if answer is not None and not answer.done():
            answer.set_result(frame)
