"""The gateway's line to its supervisor: orders go up, answers come back."""

from __future__ import annotations

import asyncio
import secrets

from freehold.core import Json
from freehold.errors import Conflict, Unavailable, from_failure
from freehold.gateway.fleet import Line
from freehold.pipe import Ask, Order, RolloutStatus, Told, Wanted

ANSWER_S = 5.0
"""The supervisor begins what it is asked and answers at once."""


class Supervisor:
    """`line` is set while one is connected."""

    def __init__(self) -> None:
        self.line: Line | None = None
        self.rollout: RolloutStatus | None = None
        """The last one."""
        self._answers: dict[int, asyncio.Future[Told]] = {}

    async def ask(self, order: Order) -> Json:
        """What it does now. Raises its refusal, `Conflict` where there is none, `Unavailable` if it is silent."""
        if self.line is None:
            why = "This gateway runs without one, or it is just starting."
            raise Conflict("No supervisor is connected.", why, "See `freehold serve`.")
        number = secrets.randbits(53)  # several gateways ask one supervisor, and all hear its answers
        self._answers[number] = asyncio.get_running_loop().create_future()
        self.line.send(Ask(number, order))
        try:
            told = await asyncio.wait_for(self._answers[number], ANSWER_S)
        except TimeoutError:
            raise Unavailable("The supervisor does not answer.", next="See the server's log.") from None
        finally:
            del self._answers[number]
        if told.failure is not None:
            raise from_failure(told.failure)
        return told.told

    def want(self, model: str) -> None:
        """Somebody waits for it. Say it again while they do."""
        if self.line is not None:
            self.line.send(Wanted(model))

    def told(self, frame: Told) -> None:
        """One that comes too late finds nobody."""
        answer = self._answers.get(frame.number)
        if answer is not None and not answer.done():
            answer.set_result(frame)
