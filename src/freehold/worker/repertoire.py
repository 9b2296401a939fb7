"""Several models on one machine: those that are asked for are loaded, those that must make room finish and leave.

`swap.py` decides; here its decisions become crews that are filled or dissolved, and what they taught (how long loading
took, how much memory) goes into the next one. A model that can't be loaded costs only its own requests an answer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from freehold.core import Failure, ModelCard
from freehold.engine.base import EngineSpec
from freehold.errors import FreeholdError, ModelError
from freehold.machine import memory_limit_bytes
from freehold.model_status import ModelState, ModelStatus
from freehold.pipe import AnyFrame, Wake, Wanted
from freehold.worker import swap
from freehold.worker.child import Child
from freehold.worker.crew import Crew
from freehold.worker.demand import Demand, Queue
from freehold.worker.expected import expected_bytes, expected_load_s
from freehold.worker.memory import budget_bytes
from freehold.worker.staff import Staff
from freehold.worker.swap import Rules

WANTED_S = 3.0
"""A gateway that waits for a model says so every second."""
FIRST_RETRY_S = 10.0
MOST_RETRY_S = 600.0
"""A model that can't be loaded is tried again after ten seconds, doubling to ten minutes, and only if asked for."""


class Part:
    """One model of the repertoire."""

    def __init__(self, crew: Crew, workers: int, need_bytes: int, load_s: float) -> None:
        self.crew = crew
        self.workers = workers
        self.need_bytes = need_bytes
        self.load_s = load_s
        self.card: ModelCard | None = None
        self.failure: Failure | None = None
        self.retry_at_s = 0.0
        self.asked_until_s = 0.0
        """A gateway waits for its card."""
        self.waits_since_s: float | None = None
        self.wanted_s = 0.0
        self.since_s = 0.0
        self._tries = 0

    @property
    def name(self) -> str:
        return self.crew.spec.name

    def state(self, now_s: float) -> ModelState:
        crew = self.crew
        if crew.wanted:
            return "loaded" if any(child.ready_at_s is not None for child in crew.staying) else "loading"
        if any(child.process is not None for child in crew.members):
            return "unloading"
        return "failed" if self.failure is not None and now_s < self.retry_at_s else "unloaded"

    def ready(self, child: Child, card: ModelCard | None) -> None:
        """One of its workers has loaded."""
        assert child.ready_at_s is not None
        self.card = card or self.card
        self.load_s = child.ready_at_s - child.started_s
        self.need_bytes = max(child.loaded_bytes, card.weight_bytes if card is not None else 0) * self.workers
        self.since_s, self.failure, self._tries = child.ready_at_s, None, 0

    def failed(self, failure: Failure, now_s: float) -> None:
        self.failure = failure
        self.retry_at_s = now_s + min(MOST_RETRY_S, FIRST_RETRY_S * 2**self._tries)
        self._tries += 1


class Repertoire:
    """Turned by the supervisor's loop. The parts are in the order in which they were named; the first is what is meant
    where a request names none. Without parts it does nothing."""

    def __init__(self, staff: Staff, demand: Demand | None, parts: Sequence[Part], rules: Rules, now_s: float) -> None:
        self.parts = list(parts)
        self.fds = [demand.fileno()] if demand is not None else []
        """Readable when there is a reason to turn."""
        self._staff = staff
        self._demand = demand
        self._rules = rules
        self._states: list[ModelState] = []
        models = self._seen({}, now_s)
        self._credit_s, self._credited_s = swap.most_credit_s(models), now_s
        for name in swap.first(models, rules):
            self._load(self._part(name))

    def turn(self, now_s: float) -> bool:
        """Load and unload what is to be; True if there is something to tell."""
        if self._demand is None:
            return False
        queues = self._demand.queues
        for part in self.parts:
            self._look(part, queues.get(part.name, Queue()), now_s)
        self._plan(queues, now_s)
        before, self._states = self._states, [part.state(now_s) for part in self.parts]
        return before != self._states

    def look(self) -> None:
        """Whatever made `fds` readable is seen in the next turn."""
        if self._demand is not None:
            self._demand.heard()

    def _plan(self, queues: Mapping[str, Queue], now_s: float) -> None:
        models = self._seen(queues, now_s)
        passed_s, self._credited_s = now_s - self._credited_s, now_s
        self._credit_s = swap.credit_after(self._credit_s, passed_s, models, self._rules)
        plan = swap.plan(models, self._rules, self._credit_s, now_s)
        self._credit_s -= plan.cost_s
        for name in plan.load:
            self._load(self._part(name))
        for name in plan.unload:
            self._staff.say(f"{name} is unloaded: it finishes what it has begun, and comes back when asked for.")
            self._staff.dissolve(self._part(name).crew)

    def hear(self, frame: AnyFrame) -> None:
        """A gateway has accepted something; or it has somebody who waits for a model that it knows nothing of yet."""
        if self._demand is None:
            return
        if isinstance(frame, Wake):
            self._demand.look()
        elif isinstance(frame, Wanted) and frame.model in {part.name for part in self.parts}:
            self._part(frame.model).asked_until_s = time.monotonic() + WANTED_S

    def ready(self, child: Child, card: ModelCard | None) -> None:
        part = self._part_of(child)
        if part is None:
            return
        part.ready(child, card)
        budget = self._rules.budget_bytes
        if budget and part.need_bytes > budget:
            self._give_up(part, never_fits(part.name, part.need_bytes, budget))

    def given_up(self, child: Child, error: FreeholdError) -> bool:
        """A worker won't come up: the others serve on. False if no model is left that ever came up."""
        part = self._part_of(child)
        if part is None:
            return False
        self._give_up(part, error)
        part.crew.remove(child)
        return any(each.card is not None or each.failure is None for each in self.parts)

    def statuses(self, now_s: float) -> list[ModelStatus]:
        models = self._seen({}, now_s)
        return [
            ModelStatus(
                name=part.name, state=model.state, engine=part.crew.spec.engine, source=part.crew.spec.source.label,
                card=part.card, memory_bytes=part.need_bytes, load_s=part.load_s, failure=part.failure,
                ready_in_s=swap.soonest_s(model, models, self._rules, self._credit_s),
                retry_in_s=max(0.0, part.retry_at_s - now_s) if model.state == "failed" else 0.0,
            )
            for part, model in zip(self.parts, models, strict=True)
        ]  # fmt: skip

    # ---- inside ----------------------------------------------------------------------------------

    def _look(self, part: Part, queue: Queue, now_s: float) -> None:
        """Since when it is waited for, and when it was wanted last."""
        waits = queue.waiting > 0 or part.asked_until_s > now_s
        if waits or queue.running:
            part.wanted_s = now_s
        if not waits or part.crew.wanted:
            part.waits_since_s = None
        elif part.waits_since_s is None:
            part.waits_since_s = now_s

    def _seen(self, queues: Mapping[str, Queue], now_s: float) -> list[swap.Model]:
        return [self._model(part, queues.get(part.name, Queue()), now_s) for part in self.parts]

    def _model(self, part: Part, queue: Queue, now_s: float) -> swap.Model:
        asked = part.asked_until_s > now_s and part.card is None
        return swap.Model(
            name=part.name, state=part.state(now_s), need_bytes=part.need_bytes, load_s=part.load_s,
            waiting=queue.waiting + asked, running=queue.running, due_s=queue.due_s, since_s=part.since_s,
            waits_since_s=now_s if part.waits_since_s is None else part.waits_since_s, wanted_s=part.wanted_s,
        )  # fmt: skip

    def _load(self, part: Part) -> None:
        self._staff.be(part.crew, part.workers)

    def _give_up(self, part: Part, error: FreeholdError) -> None:
        now_s = time.monotonic()
        part.failed(error.failure(), now_s)
        self._staff.dissolve(part.crew)
        self._staff.say(f"{part.name} can't be loaded. {error} The next try is in {part.retry_at_s - now_s:.0f} s.")

    def _part(self, name: str) -> Part:
        return next(part for part in self.parts if part.name == name)

    def _part_of(self, child: Child) -> Part | None:
        return next((part for part in self.parts if child in part.crew.members), None)


class OneByOne(Repertoire):
    """A model whose every request gets a process of its own: started for it, and gone with its end. The first one only
    shows that the model loads, and what it can."""

    def __init__(self, staff: Staff, demand: Demand, part: Part, most: int, now_s: float) -> None:
        super().__init__(staff, demand, [part], Rules(), now_s)
        self._most = most

    def _plan(self, queues: Mapping[str, Queue], now_s: float) -> None:
        (part,) = self.parts
        queue = queues[part.name]
        if part.state(now_s) == "failed":
            return
        alive = [child for child in part.crew.members if child.gone_at_s is None]
        free = max(0, len(alive) - queue.running)
        """Started, and not at work yet."""
        wanted = max(queue.waiting, int(part.card is None))
        more = max(0, min(self._most - len(alive), wanted - free))
        part.crew.wanted = len(part.crew.staying) + more


@contextmanager
def employed(staff: Staff, specs: Sequence[EngineSpec]) -> Iterator[Repertoire]:
    """The crews of `specs`: one model alone is there to stay, unless it is to leave when idle. Raises `ModelError` if
    one could never be loaded."""
    config = staff.config.engine
    if specs and staff.config.server.mode == "stateless":
        with Demand(staff.site.store_path, [specs[0].name]) as demand:
            part = Part(staff.found(specs[0], 0, on_demand=True), 1, 0, expected_load_s(specs[0]))
            yield OneByOne(staff, demand, part, config.workers, time.monotonic())
        return
    if len(specs) < 2 and not (specs and config.idle_unload_s):
        for spec in specs:
            staff.found(spec, config.workers)
        yield Repertoire(staff, None, (), Rules(), 0.0)
        return
    budget = budget_bytes(config.memory_budget_mb, memory_limit_bytes()) if len(specs) > 1 else 0
    parts = []
    for spec in specs:
        need = expected_bytes(spec) * config.workers
        if budget and need > budget:
            raise never_fits(spec.name, need, budget)
        parts.append(Part(staff.found(spec, 0, on_demand=True), config.workers, need, expected_load_s(spec)))
    with Demand(staff.site.store_path, [spec.name for spec in specs]) as demand:
        rules = Rules(budget_bytes=budget, idle_unload_s=config.idle_unload_s)
        yield Repertoire(staff, demand, parts, rules, time.monotonic())


def never_fits(name: str, need_bytes: int, budget_bytes: int) -> ModelError:
    return ModelError(
        f"{name} takes {need_bytes >> 20} MiB of memory, and {budget_bytes >> 20} MiB is all that models may take.",
        "It could never be loaded.",
        "Raise engine.memory_budget_mb (--memory-budget), or leave that model out.",
    )
