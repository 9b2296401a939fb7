"""What the gateway knows about its workers: who is connected, what each serves, who is on the way.

Fed by the pipe (Hello, Status, Fleet). The supervisor's word counts for workers that aren't connected, a worker's own
word for one that is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from freehold.core import ModelCard, StepRecord, WorkerState, WorkerStatus
from freehold.errors import DeadlinePassed, ModelNotFound, NotFound, Unavailable
from freehold.gateway.offers import Offers
from freehold.pipe import AskSteps, Frame, ModelStatus, Steps, owner

_COMING = ("starting", "loading")
_SERVING = ("ready", "busy")
HELLO_WAIT_S = 3.0
"""How long a request waits when nobody is connected and nothing is known: a restarted gateway is soon found again."""
NOBODY_S = 10.0
"""When to try again while nobody serves and nobody is on the way."""
STEPS_WAIT_S = 2.0
"""How long a worker may take to tell its steps: it looks up between two of them."""


class Line(Protocol):
    """The gateway's end of one worker's pipe."""

    worker: str
    owner: str
    """Who holds its claims in the ledger: `pipe.owner`."""

    def send(self, frame: Frame) -> None: ...


class Fleet:
    """The workers as the gateway sees them. Lives in the event loop; no I/O of its own."""

    def __init__(self) -> None:
        self.lines: dict[str, Line] = {}
        self.lost_s = time.monotonic()
        """When the last worker was lost (or this began without one)."""
        self.offers = Offers()
        self.ask_for: Callable[[str], None] = lambda model: None
        """Tells the supervisor that somebody waits for a model of which nothing is known yet."""
        self._statuses: dict[str, WorkerStatus] = {}
        self._cards: dict[str, ModelCard] = {}
        self._remembered: dict[str, ModelCard] = {}
        self._supervised: dict[str, WorkerStatus] | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._answers: dict[int, asyncio.Future[list[StepRecord]]] = {}
        self._asked = 0

    # ---- told by the pipe ----

    def hello(self, line: Line, pid: int, card: ModelCard | None) -> None:
        self.lines[line.worker] = line
        state: WorkerState = "ready" if card else "loading"
        self._statuses[line.worker] = WorkerStatus(
            name=line.worker, pid=pid, state=state, engine=card.engine if card else ""
        )
        self._learn(line.worker, card)

    def status(self, worker: str, status: WorkerStatus, card: ModelCard | None) -> None:
        self._statuses[worker] = status
        self._learn(worker, card)

    def supervised(self, workers: list[WorkerStatus], models: Sequence[ModelStatus] = ()) -> None:
        self._supervised = {worker.name: worker for worker in workers}
        self.offers.told(models)
        self._changed()

    def told_steps(self, frame: Steps) -> None:
        """The answer to an `AskSteps`; one that came too late finds nobody."""
        answer = self._answers.pop(frame.number, None)
        if answer is not None and not answer.done():
            answer.set_result(frame.steps)

    def gone(self, line: Line) -> None:
        if self.lines.get(line.worker) is line:
            del self.lines[line.worker]
            self._statuses.pop(line.worker, None)
            self._cards.pop(line.worker, None)
            self.lost_s = time.monotonic()
        self._changed()

    # ---- asked by the routes ----

    def workers(self) -> list[WorkerStatus]:
        """All workers, dead and restarting ones included, by name."""
        rows = dict(self._supervised or {})
        for name, status in self._statuses.items():
            known = rows.get(name)
            model = status.model or (self._cards[name].name if name in self._cards else "")
            restarts = max(status.restarts, known.restarts if known else 0)
            error = status.last_error or (known.last_error if known else "")
            state = "hung" if self._hangs(name) else status.state
            rows[name] = msgspec.structs.replace(status, state=state, model=model, restarts=restarts, last_error=error)
        return [rows[name] for name in sorted(rows)]

    def models(self) -> dict[str, ModelCard]:
        """Cards of the models that are served, or will be again when their workers are back or somebody asks."""
        return {
            **(self.offers.cards() or (self._remembered if self.someone_coming() else {})),
            **{self._cards[worker].name: self._cards[worker] for worker in sorted(self._cards, key=self._weight)},
        }

    def someone_ready(self) -> bool:
        return any(
            name in self._cards and status.state in _SERVING and not self._hangs(name)
            for name, status in self._statuses.items()
        )

    def ready(self) -> bool:
        """A request sent now would be worked on, as soon as its model is loaded."""
        return self.someone_ready() or self.offers.some_served()

    def someone_coming(self) -> bool:
        """A worker is connected, or its supervisor is starting one."""
        if self._statuses:
            return any(status.state in _COMING + _SERVING for status in self._statuses.values())
        return any(worker.state in _COMING + _SERVING for worker in (self._supervised or {}).values())

    def alive(self) -> set[str] | None:
        """Owners of claims that live: connected, or running as their supervisor says. None: it has not said."""
        if self._supervised is None:
            return None
        lives = {owner(row.name, row.pid) for row in self._supervised.values() if row.state not in ("dead", "stopped")}
        return lives | {line.owner for line in self.lines.values()}

    def supervised_names(self) -> set[str]:
        """Names of the workers that this machine's supervisor looks after."""
        return set(self._supervised or {})

    def hopeless(self, grace_s: float) -> bool:
        """Nobody is connected, on the way or to be started again, or would be if asked; not for `grace_s`."""
        if self.someone_coming() or any(worker.state == "dead" for worker in (self._supervised or {}).values()):
            return False
        return not (self.lines or self.offers.some()) and time.monotonic() - self.lost_s > grace_s

    def crew(self, model: str) -> list[Line]:
        """The workers that serve `model` and take new work."""
        return [
            line
            for name, line in self.lines.items()
            if name in self._cards and self._cards[name].name == model and self._statuses[name].state in _SERVING
        ]

    def check_crew(self, model: str) -> None:
        """Raises `Unavailable` unless somebody serves `model` now."""
        if not self.crew(model):
            nobody = Unavailable("No worker can take the request now.", self.why_not_ready(), "Try again later.")
            nobody.retry_after_s = max(1.0, self.ready_in_s(model))
            raise nobody

    def card_of(self, worker: str) -> ModelCard | None:
        """The card of a worker that is connected and loaded."""
        return self._cards.get(worker)

    def ready_in_s(self, model: str) -> float:
        """When somebody will serve `model`: 0 if one does, else as long as it took to load last time."""
        card = self.models().get(model)
        if card is None or self.crew(model):
            return 0.0
        if model in self.offers:
            return self.offers.ready_in_s(model)
        return sum(phase.seconds for phase in card.phases)

    def why_not_ready(self) -> str:
        """One sentence for /readyz and 503s."""
        rows = self.workers()
        if not rows:
            away = [offer.name for offer in self.offers.all() if offer.state == "unloaded"]
            return f"Loaded when asked for: {', '.join(away)}." if away else "No worker is connected."
        words = [f"{row.name} is {row.state}" + (f" ({row.phase})" if row.phase else "") for row in rows]
        errors = [row.last_error for row in rows if row.last_error]
        return "; ".join(words) + "." + (f" Last error: {errors[-1]}" if errors else "")

    async def card(
        self, model: str | None, due_unix_s: float | None = None, check: Callable[[], None] = lambda: None
    ) -> ModelCard:
        """The card of `model` (None: of the only or first one), waiting while a worker loads, until `due_unix_s` at the
        latest. `check` is called now and then meanwhile, and may raise.

        Raises `ModelNotFound`, or `Unavailable` when nobody serves and nobody is coming; `DeadlinePassed`.
        """
        if self.offers and (model is None or model in self.offers):
            return await self._offered(model or self.offers.first(), due_unix_s, check)
        deadline_s = time.monotonic() + HELLO_WAIT_S
        while not (models := self.models()):
            remaining_s = deadline_s - time.monotonic()
            if not self.someone_coming() and (remaining_s <= 0 or self._supervised is not None):
                nobody = Unavailable("No worker can take the request.", self.why_not_ready(), "Try again later.")
                nobody.retry_after_s = NOBODY_S
                raise nobody
            await self._wait(1.0 if self.someone_coming() else remaining_s)
        if model is None:
            return next(iter(models.values()))
        if model not in models:
            served = sorted({*models, *(offer.name for offer in self.offers.all())})
            raise ModelNotFound(
                f"The model {model!r} is not served here.",
                next=f"Served: {', '.join(served)} (GET /v1/models).",
                param="model",
            )
        return models[model]

    async def _offered(self, model: str, due_unix_s: float | None, check: Callable[[], None]) -> ModelCard:
        """Of one that is loaded when somebody asks for it."""
        while True:
            self.offers.check(model)
            if (card := self.models().get(model)) is not None:
                return card
            check()
            wait_s = 1.0 if due_unix_s is None else min(1.0, due_unix_s - time.time())
            if wait_s <= 0:
                raise DeadlinePassed(f"The deadline passed while {model!r} was loaded.", next="Ask for more time.")
            self.ask_for(model)
            await self._wait(wait_s)

    async def steps(self, worker: str, last: int) -> list[StepRecord]:
        """The newest `last` steps of a worker, oldest first. Raises `NotFound`, or `Unavailable` if it can't tell."""
        known = {row.name: row for row in self.workers()}
        if worker not in known:
            told = f"Workers: {', '.join(known) or 'none'} (GET /freehold/workers)."
            raise NotFound(f"There is no worker {worker[:100]!r}.", next=told)
        line, state = self.lines.get(worker), known[worker].state
        if line is None or state in _COMING:
            raise Unavailable(f"{worker} has no steps to tell.", f"It is {state}.", "Try again when it is ready.")
        self._asked += 1
        answer: asyncio.Future[list[StepRecord]] = asyncio.get_running_loop().create_future()
        number = self._asked
        self._answers[number] = answer
        line.send(AskSteps(number, last))
        try:
            await asyncio.wait([answer], timeout=STEPS_WAIT_S)
        finally:
            self._answers.pop(number, None)
        if not answer.done():
            why = f"It is {state}, and a step that takes longer than {STEPS_WAIT_S:g} s keeps it, or it hangs."
            raise Unavailable(f"{worker} does not answer.", why, "Try again; see its state in GET /freehold/workers.")
        return answer.result()

    # ---- inside ----

    def _weight(self, worker: str) -> int:
        """How much of its model's requests it takes: while two models have one name, the larger share speaks for it."""
        status = self._statuses.get(worker)
        if status is None or status.state not in _SERVING:
            return -1
        return status.lots[1] - status.lots[0]

    def _hangs(self, worker: str) -> bool:
        """It can't say so itself: its supervisor does."""
        told = (self._supervised or {}).get(worker)
        return told is not None and told.state == "hung"

    def _learn(self, worker: str, card: ModelCard | None) -> None:
        if card is not None:
            self._cards[worker] = card
            self._remembered[card.name] = card
        self._changed()

    def _changed(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _wait(self, timeout_s: float) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await asyncio.wait([waiter], timeout=timeout_s)
