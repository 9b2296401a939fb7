"""Which of several models is in memory. Pure: their queues, sizes and load times in, who is loaded or unloaded out.

A machine that swaps for every request does nothing else, so the time for it is rationed: seconds of loading are
credited at a fixed share of all seconds, and only who has them may evict. A model's queue is worked on in one go
meanwhile. What waits longest goes first, or what is due first; nobody overtakes one that has waited for `patience_s`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from freehold.core import Record
from freehold.model_status import ModelState


class Rules(Record, frozen=True):
    """What the operator has said."""

    budget_bytes: int = 0
    """For all models in memory together; 0: all fit."""
    idle_unload_s: float = 0.0
    """A model that nobody asks for leaves after this time; 0: never."""
    share: float = 0.2
    """Of all time, at most, that goes into swapping."""
    patience_s: float = 30.0
    """Without a deadline, a queue is taken to be due this long after it began to wait."""
    least_s: float = 2.0
    """A loaded model stays this long, whatever happens: who asked for it may just be sending."""


class Model(Record, frozen=True):
    """One model as it is now. Times are of one clock that never goes back."""

    name: str
    state: ModelState
    need_bytes: int
    load_s: float
    """What loading it takes."""
    waiting: int = 0
    """Requests that nobody has begun."""
    running: int = 0
    waits_since_s: float = 0.0
    """Since when a queue waits for it to be loaded."""
    due_s: float = math.inf
    """The deadline of the one that is next."""
    since_s: float = 0.0
    """When it was loaded."""
    wanted_s: float = 0.0
    """When somebody last wanted it."""
    pinned: bool = False
    """Something else is done to it."""


class Plan(Record, frozen=True):
    """Names. Who is unloaded finishes what it has begun first, and keeps its memory until then."""

    load: tuple[str, ...] = ()
    unload: tuple[str, ...] = ()
    cost_s: float = 0.0
    """To be taken from the credit."""


def most_credit_s(models: Sequence[Model]) -> float:
    """So much swapping may be saved up: every model once, so that the first burst is served at once."""
    return sum(model.load_s for model in models)


def credit_after(credit_s: float, passed_s: float, models: Sequence[Model], rules: Rules) -> float:
    """What a time brings. Debts (loading into room that was free is never denied) are paid off the same way."""
    most_s = most_credit_s(models)
    return min(most_s, max(-most_s, credit_s) + passed_s * rules.share)


def plan(models: Sequence[Model], rules: Rules, credit_s: float, now_s: float) -> Plan:
    """What to begin now. Call it again when something has changed, and about once a second."""
    room = _Room(models, rules)
    load: list[str] = []
    alone = [model for model in models if _left_alone(model, rules, now_s)]
    unload = [model.name for model in alone]
    room.leaving += sum(model.need_bytes for model in alone)
    spent_s = owed_s = 0.0
    waiting = [model for model in models if model.state == "unloaded" and model.waiting and not model.pinned]
    for model in sorted(waiting, key=lambda each: (urgency_s(each, rules), each.name)):
        if model.need_bytes <= room.free:
            room.free -= model.need_bytes
            load.append(model.name)
            spent_s += model.load_s
            continue
        if model.need_bytes <= room.free + room.leaving:  # it is being made
            room.reserve(model)
            owed_s += model.load_s
            continue
        victims = _victims(model, [each for each in models if each.name not in unload], rules, room, now_s)
        paid = credit_s - spent_s - owed_s >= model.load_s
        if victims and (paid or all(_unwanted(victim, model, rules, now_s) for victim in victims)):
            unload += [victim.name for victim in victims]
            room.leaving += sum(victim.need_bytes for victim in victims)
            room.reserve(model)
            owed_s += model.load_s
        elif now_s - model.waits_since_s > rules.patience_s:
            break
    if room.free + room.leaving < 0:  # some turned out to be larger than they were thought to be
        unload += _surplus(models, unload, rules, -room.free - room.leaving, now_s)
    return Plan(load=tuple(load), unload=tuple(unload), cost_s=spent_s)


def first(models: Sequence[Model], rules: Rules) -> tuple[str, ...]:
    """What is loaded before anybody asks: in the given order, as far as it fits."""
    free, names = _Room((), rules).free, []
    for model in models:
        if model.need_bytes <= free:
            free -= model.need_bytes
            names.append(model.name)
    return tuple(names)


def urgency_s(model: Model, rules: Rules) -> float:
    """When it must begin to load, at the latest. The least is the next."""
    return min(model.waits_since_s + rules.patience_s, model.due_s) - model.load_s


def turn_s(model: Model, rules: Rules) -> float:
    """How long a model with a queue is left to work on it: so that loading it was the smaller part."""
    return max(rules.least_s, model.load_s * (1.0 - rules.share) / rules.share)


def soonest_s(model: Model, models: Sequence[Model], rules: Rules, credit_s: float) -> float:
    """In how long it will serve, if nothing is in its way but its load and the ration. A lower bound."""
    if model.state == "loaded":
        return 0.0
    fits = model.need_bytes <= _Room(models, rules).free
    return model.load_s + (0.0 if fits else max(0.0, model.load_s - credit_s) / rules.share)


class _Room:
    """Bytes nobody has, and bytes of those who are leaving."""

    def __init__(self, models: Sequence[Model], rules: Rules) -> None:
        there = [model for model in models if model.state in ("loading", "loaded", "unloading")]
        used = sum(model.need_bytes for model in there)
        self.free: float = rules.budget_bytes - used if rules.budget_bytes else math.inf
        self.leaving: float = sum(model.need_bytes for model in there if model.state == "unloading")

    def reserve(self, model: Model) -> None:
        """It has it once who leaves has left: nobody else may take it."""
        rest = model.need_bytes - self.leaving
        self.leaving = max(0.0, -rest)
        self.free -= max(0.0, rest)


def _left_alone(model: Model, rules: Rules, now_s: float) -> bool:
    idle_s = now_s - max(model.wanted_s, model.since_s)
    return (
        bool(rules.idle_unload_s) and _can_leave(model, rules, now_s) and _idle(model) and idle_s > rules.idle_unload_s
    )


def _can_leave(model: Model, rules: Rules, now_s: float) -> bool:
    return model.state == "loaded" and not model.pinned and now_s - model.since_s >= rules.least_s


def _idle(model: Model) -> bool:
    return not model.waiting and not model.running


def _unwanted(model: Model, newcomer: Model, rules: Rules, now_s: float) -> bool:
    """For so long that loading the newcomer is the smaller part: then it is no waste, whatever else was swapped."""
    return _idle(model) and now_s - max(model.wanted_s, model.since_s) >= turn_s(newcomer, rules)


def _victims(
    newcomer: Model, models: Sequence[Model], rules: Rules, room: _Room, now_s: float
) -> list[Model]:  # fmt: skip
    """Who makes room: the idle, least recently wanted first, then those without a queue, then those who have had their
    turn. None unless they are enough; and nobody more than are needed."""
    may = [
        model
        for model in models
        if _can_leave(model, rules, now_s) and (not model.waiting or now_s - model.since_s >= turn_s(model, rules))
    ]
    may.sort(key=lambda each: (each.waiting > 0, each.running > 0, each.wanted_s, each.since_s, each.name))
    found: list[Model] = []
    missing = newcomer.need_bytes - room.free - room.leaving
    for model in may:
        if missing <= 0:
            break
        found.append(model)
        missing -= model.need_bytes
    if missing > 0:
        return []
    for model in reversed(found[:]):
        if missing + model.need_bytes <= 0:
            found.remove(model)
            missing += model.need_bytes
    return found


def _surplus(
    models: Sequence[Model], leaving: Sequence[str], rules: Rules, over_bytes: float, now_s: float
) -> list[str]:  # fmt: skip
    """Idle ones that leave because memory is over the budget."""
    may = [each for each in models if each.name not in leaving and _can_leave(each, rules, now_s) and _idle(each)]
    names: list[str] = []
    for model in sorted(may, key=lambda each: (each.wanted_s, each.name)):
        if over_bytes > 0:
            names.append(model.name)
            over_bytes -= model.need_bytes
    return names
