"""Several models in too little memory: the budget holds, swapping is rationed, and nobody's queue is forgotten."""

from __future__ import annotations

import math

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.model_status import ModelState
from freehold.worker.swap import (
    Model,
    Rules,
    credit_after,
    first,
    most_credit_s,
    plan,
    soonest_s,
    turn_s,
)

STEP_S = 0.5


class Played:
    """One model of a played machine: requests come at `arrivals_s`, `places` at once take `service_s` each."""

    def __init__(self, name: str, need: int, load_s: float, arrivals_s: list[float], service_s: float) -> None:
        self.name, self.need, self.load_s, self.service_s = name, need, load_s, service_s
        self.arrivals_s = sorted(arrivals_s)
        self.state: ModelState = "unloaded"
        self.queue: list[float] = []
        self.ends_s: list[float] = []
        self.changes_s = self.since_s = self.wanted_s = 0.0
        self.waits_since_s: float | None = None
        self.longest_s = 0.0
        self.served = 0

    def turn(self, now_s: float) -> None:
        while self.arrivals_s and self.arrivals_s[0] <= now_s:
            self.queue.append(self.arrivals_s.pop(0))
        self.served += sum(end_s <= now_s for end_s in self.ends_s)
        self.ends_s = [end_s for end_s in self.ends_s if end_s > now_s]
        if self.state == "loading" and now_s >= self.changes_s:
            self.state, self.since_s = "loaded", now_s
        if self.state == "unloading" and not self.ends_s:
            self.state = "unloaded"
        if self.state == "loaded":
            while self.queue and len(self.ends_s) < 2:
                self.queue.pop(0)
                self.ends_s.append(now_s + self.service_s)
        if self.state in ("loaded", "loading") or not self.queue:
            if self.waits_since_s is not None:
                self.longest_s = max(self.longest_s, now_s - self.waits_since_s)
            self.waits_since_s = None
        elif self.waits_since_s is None:
            self.waits_since_s = now_s
        if self.queue or self.ends_s:
            self.wanted_s = now_s

    def seen(self) -> Model:
        return Model(
            name=self.name, state=self.state, need_bytes=self.need, load_s=self.load_s, waiting=len(self.queue),
            running=len(self.ends_s), waits_since_s=self.waits_since_s or 0.0, since_s=self.since_s,
            wanted_s=self.wanted_s,
        )  # fmt: skip


def play(played: list[Played], rules: Rules, until_s: float) -> list[tuple[float, float]]:
    """Until all is served (at the latest `until_s`): when each load began and what it took. Checks the budget."""
    loads: list[tuple[float, float]] = []
    credit_s, now_s = most_credit_s([each.seen() for each in played]), 0.0
    while now_s < until_s and any(each.arrivals_s or each.queue or each.ends_s for each in played):
        for each in played:
            each.turn(now_s)
        models = [each.seen() for each in played]
        credit_s = credit_after(credit_s, STEP_S, models, rules)
        todo = plan(models, rules, credit_s, now_s)
        credit_s -= todo.cost_s
        for each in played:
            if each.name in todo.load:
                assert each.state == "unloaded"
                each.state, each.changes_s = "loading", now_s + each.load_s
                loads.append((now_s, each.load_s))
            if each.name in todo.unload:
                assert each.state == "loaded"
                assert now_s - each.since_s >= rules.least_s
                each.state = "unloading"
        used = sum(each.need for each in played if each.state != "unloaded")
        assert used <= rules.budget_bytes, "the budget is never passed"
        now_s += STEP_S
    return loads


@st.composite
def machines(draw: st.DrawFn) -> list[Played]:
    count = draw(st.integers(2, 5))
    return [
        Played(
            f"m{i}",
            need=draw(st.integers(1, 4)),
            load_s=draw(st.sampled_from([0.5, 2.0, 5.0, 12.0])),
            arrivals_s=draw(st.lists(st.floats(0.0, 200.0), max_size=60)),
            service_s=draw(st.sampled_from([0.5, 2.0, 8.0])),
        )
        for i in range(count)
    ]


@settings(max_examples=120, deadline=None)
@given(machines(), st.integers(4, 8), st.sampled_from([0.0, 20.0]))
def test_all_is_served_in_bounded_time_and_swapping_is_a_bounded_share(
    played: list[Played], budget: int, idle_s: float
) -> None:
    rules = Rules(budget_bytes=budget, patience_s=10.0, idle_unload_s=idle_s)
    asked = sum(len(each.arrivals_s) for each in played)
    loads = play(played, rules, until_s=20_000.0)
    assert sum(each.served for each in played) == asked
    whole_s, longest_s = sum(each.load_s for each in played), max(each.load_s for each in played)
    each_turn_s = 2 * whole_s / rules.share + turn_s(played[0].seen(), rules) + longest_s / rules.share + 8.0 + 5.0
    assert max(each.longest_s for each in played) <= rules.patience_s + len(played) * each_turn_s
    if not idle_s:  # whoever asks for unloading pays for it
        for i, (from_s, _) in enumerate(loads):
            spent_s = 0.0
            for at_s, load_s in loads[i:]:
                spent_s += load_s
                assert spent_s <= rules.share * len(played) * (at_s - from_s + STEP_S) + 3 * whole_s


def test_alternating_requests_do_not_make_a_machine_swap_all_the_time() -> None:
    """Naively every request would cost a load of 5 s: 200 s of each 100."""
    played = [
        Played("a", 1, 5.0, [2.0 * i for i in range(500)], 0.5),
        Played("b", 1, 5.0, [2.0 * i + 1.0 for i in range(500)], 0.5),
    ]
    loads = play(played, Rules(budget_bytes=1), until_s=2000.0)
    assert [each.served for each in played] == [500, 500]
    assert sum(load_s for _, load_s in loads) <= 0.2 * 1000 + 20.0
    assert max(each.longest_s for each in played) <= 60.0


NOW_S = 1000.0


def model(name: str, state: ModelState = "unloaded", **more: object) -> Model:
    facts = {"name": name, "state": state, "need_bytes": 4, "load_s": 2.0, "waits_since_s": NOW_S} | more
    return msgspec.convert(facts, Model)


def planned(*models: Model, credit_s: float = 100.0, **rules: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    todo = plan(models, msgspec.convert({"budget_bytes": 8} | rules, Rules), credit_s, NOW_S)
    return todo.load, todo.unload


def test_the_least_recently_wanted_idle_one_makes_room() -> None:
    a, b = model("a", "loaded", wanted_s=900.0), model("b", "loaded", wanted_s=800.0)
    assert planned(a, b, model("c", waiting=1)) == ((), ("b",))
    leaving = msgspec.structs.replace(b, state="unloading")
    assert planned(a, leaving, model("c", waiting=1)) == ((), ())  # its room is being made
    assert planned(a, model("b"), model("c", waiting=1)) == (("c",), ())


def test_nobody_is_asked_to_leave_in_vain_or_without_need() -> None:
    small, big = model("a", "loaded", need_bytes=2, wanted_s=1.0), model("b", "loaded", need_bytes=6, wanted_s=2.0)
    assert planned(small, big, model("c", waiting=1, need_bytes=6)) == ((), ("b",))
    assert planned(small, model("b", "loading", need_bytes=6), model("c", waiting=1)) == ((), ())


def test_a_model_with_a_queue_has_its_turn_first() -> None:
    newcomer = model("c", waiting=1, need_bytes=8)
    young = model("a", "loaded", waiting=5, since_s=NOW_S - 7.0, need_bytes=8)
    assert planned(young, newcomer) == ((), ())
    assert planned(msgspec.structs.replace(young, since_s=NOW_S - 8.0), newcomer) == ((), ("a",))
    assert planned(msgspec.structs.replace(young, waiting=0, running=5), newcomer) == ((), ("a",))
    assert planned(msgspec.structs.replace(young, waiting=0, pinned=True), newcomer) == ((), ())


def test_without_credit_nobody_is_evicted_but_free_room_is_used() -> None:
    idle, newcomer = model("a", "loaded", need_bytes=8, wanted_s=NOW_S - 7.0), model("c", waiting=1)
    assert planned(idle, newcomer, credit_s=1.9) == ((), ())
    assert soonest_s(newcomer, (idle, newcomer), Rules(budget_bytes=8), 1.0) == 2.0 + 1.0 / 0.2
    assert planned(newcomer, credit_s=-50.0) == (("c",), ())
    unwanted = msgspec.structs.replace(idle, wanted_s=NOW_S - 8.0)  # four times what the newcomer takes to load
    assert planned(unwanted, newcomer, credit_s=-50.0) == ((), ("a",))


def test_what_is_due_goes_first_and_nobody_overtakes_the_patient() -> None:
    old, due = model("a", waiting=1, waits_since_s=NOW_S - 5.0), model("b", waiting=1, due_s=NOW_S + 4.0)
    assert planned(old, due, budget_bytes=4) == (("b",), ())
    overdue = model("a", waiting=1, waits_since_s=NOW_S - 31.0, need_bytes=8)
    busy = model("x", "loaded", waiting=1, since_s=NOW_S - 3.0)
    assert planned(busy, overdue, model("b", waiting=1)) == ((), ())
    patient = msgspec.structs.replace(overdue, waits_since_s=NOW_S - 3.0)
    assert planned(busy, patient, model("b", waiting=1)) == (("b",), ())


def test_who_is_not_wanted_leaves_after_a_time_and_a_surplus_at_once() -> None:
    idle = model("a", "loaded", wanted_s=NOW_S - 61.0)
    assert planned(idle, idle_unload_s=60.0) == ((), ("a",))
    assert planned(idle, idle_unload_s=62.0) == ((), ())
    assert planned(msgspec.structs.replace(idle, running=1), idle_unload_s=60.0) == ((), ())
    assert planned(msgspec.structs.replace(idle, need_bytes=9)) == ((), ("a",))


def test_the_first_are_loaded_in_their_order_as_far_as_they_fit() -> None:
    three = (model("a"), model("b", need_bytes=6), model("c"))
    assert first(three, Rules(budget_bytes=8)) == ("a", "c")
    assert first(three, Rules()) == ("a", "b", "c")
    assert credit_after(-math.inf, 10.0, three, Rules()) == -6.0 + 2.0
