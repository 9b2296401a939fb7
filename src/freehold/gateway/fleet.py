"""What the gateway knows about its workers: who is connected, what each serves, who is on the way.

Fed by the pipe (Hello, Status, Fleet). The supervisor's word counts for workers that aren't connected, a worker's own
word for one that is.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

import msgspec

from freehold.core import ModelCard, StepRecord, WorkerState, WorkerStatus
from freehold.errors import ModelNotFound, NotFound, Unavailable
from freehold.gateway.offers import Offers
from freehold.pipe import AskSteps, Frame, Steps, life_of, owner

_COMING = ("starting", "loading")
_SERVING = ("ready", "busy")
HELLO_WAIT_S = 3.0
"""How long a request waits when nobody is connected and nothing is known: a restarted gateway is soon found again."""
FAR_WAIT_S = 6.0
"""So, while somebody works for the store: workers of other hosts find a new gateway within seconds."""
NOBODY_S = 10.0
"""When to try again while nobody serves and nobody is on the way."""
STEPS_WAIT_S = 2.0
"""How long a worker may take to tell its steps: it looks up between two of them."""


class Line(Protocol):
    """The gateway's end of one worker's pipe."""

    worker: str
    owner: str
    """Who holds its claims in the ledger: `pipe.owner`."""
    far: bool
    """It comes over TCP: its end is no proof of the worker's death."""

    def send(self, frame: Frame) -> None: ...


class Fleet:
    """The workers as the gateway sees them. Lives in the event loop; no I/O of its own."""

    def __init__(self) -> None:
        self.lines: dict[str, Line] = {}
        self.lost_s = time.monotonic()
        """When the last worker was lost (or this began without one)."""
        self.offers = Offers()
        self._statuses: dict[str, WorkerStatus] = {}
        self._cards: dict[str, ModelCard] = {}
        self._remembered: dict[str, ModelCard] = {}
        self.ended: set[str] = set()
        """Lives that other hosts' supervisors told are over."""
        self.elsewhere = False
        """Somebody works for this store, by its roster: perhaps out of this gateway's reach."""
        self._hosts: dict[str, dict[str, WorkerStatus]] = {}
        """Supervisor's host -> its workers, as it sees them."""
        self._own: str | None = None
        """The host of this gateway's own supervisor, once it has spoken."""
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

    def supervised(self, workers: list[WorkerStatus], host: str = "", *, own: bool = True) -> None:
        self._hosts[host] = {worker.name: worker for worker in workers}
        if own:
            self._own = host
        self._changed()

    def unsupervised(self, host: str) -> None:
        """Its supervisor is gone or out of reach: what is known of its workers is what they say themselves."""
        self._hosts.pop(host, None)
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
        rows = self._supervised()
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
        return any(worker.state in _COMING + _SERVING for worker in self._supervised().values())

    def alive(self) -> set[str] | None:
        """Lives (`pipe.owner`, without its `life`) that go on: connected, or running as this gateway's own supervisor
        says. None: it has not said."""
        if self._own is None:
            return None
        rows = self._hosts[self._own].values()
        lives = {owner(row.name, row.pid) for row in rows if row.state not in ("dead", "stopped")}
        return lives | {life_of(line.owner) for line in self.lines.values()}

    def own_names(self) -> set[str]:
        """Names of the workers that this gateway's own supervisor looks after."""
        return set() if self._own is None else set(self._hosts[self._own])

    def host_of(self, worker: str) -> str | None:
        """Whose supervisor looks after it; None if none does that is known."""
        return next((host for host, rows in self._hosts.items() if worker in rows), None)

    def hopeless(self, grace_s: float) -> bool:
        """Nobody is connected, on the way or to be started again, or would be if asked; not for `grace_s`."""
        if self.someone_coming() or self.elsewhere or any(row.state == "dead" for row in self._supervised().values()):
            return False
        return not (self.lines or self.offers.some()) and time.monotonic() - self.lost_s > grace_s

    def crew(self, model: str) -> list[Line]:
        """The workers that serve `model` and take new work."""
        return [
            line
            for name, line in self.lines.items()
            if name in self._cards and self._cards[name].name == model and self._statuses[name].state in _SERVING
        ]

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
            return self.offers.why_nobody() or "No worker is connected."
        words = [f"{row.name} is {row.state}" + (f" ({row.phase})" if row.phase else "") for row in rows]
        errors = [row.last_error for row in rows if row.last_error]
        return "; ".join(words) + "." + (f" Last error: {errors[-1]}" if errors else "")

    async def card(self, model: str | None) -> ModelCard:
        """The card of `model` (None: of the only or first one), waiting while a worker loads.

        Raises `ModelNotFound`, or `Unavailable` when nobody serves and nobody is coming.
        """
        deadline_s = time.monotonic() + (FAR_WAIT_S if self.elsewhere else HELLO_WAIT_S)
        while not (models := self.models()):
            remaining_s = deadline_s - time.monotonic()
            if not self.someone_coming() and (remaining_s <= 0 or (self._own is not None and not self.elsewhere)):
                nobody = Unavailable("No worker can take the request.", self.why_not_ready(), "Try again later.")
                nobody.retry_after_s = NOBODY_S
                raise nobody
            await self.change(1.0 if self.someone_coming() else remaining_s)
        if model is None:
            return next(iter(models.values()))
        if model not in models:
            raise ModelNotFound(
                f"The model {model!r} is not served here.",
                next=f"Served: {', '.join(sorted({*models, *self.offers.names()}))} (GET /v1/models).",
                param="model",
            )
        return models[model]

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

    def _supervised(self) -> dict[str, WorkerStatus]:
        return {name: row for rows in self._hosts.values() for name, row in rows.items()}

    def _weight(self, worker: str) -> int:
        """How much of its model's requests it takes: while two models have one name, the larger share speaks for it."""
        status = self._statuses.get(worker)
        if status is None or status.state not in _SERVING:
            return -1
        return status.lots[1] - status.lots[0]

    def _hangs(self, worker: str) -> bool:
        """It can't say so itself: its supervisor does."""
        told = next((rows[worker] for rows in self._hosts.values() if worker in rows), None)
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

    async def change(self, timeout_s: float) -> None:
        """Until something changes here, at most so long."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await asyncio.wait([waiter], timeout=timeout_s)
