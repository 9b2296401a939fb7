"""When alerts begin, fire and are over: laws over made-up slots, and each built-in rule once over its threshold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.core import CardPace
from freehold.slo import parse as slo
from freehold.telemetry.alerts import Alert, Silence, to_tell
from freehold.telemetry.builtin import built_in
from freehold.telemetry.evaluate import Evaluator, Held, replay
from freehold.telemetry.past import WHOLE_S, Past, Sums
from freehold.telemetry.rules import Rule
from freehold.telemetry.slot import Event, Slot
from slots import BEGIN_S, VARIANT, slot

DEPTHS = st.lists(st.tuples(st.integers(0, 20), st.sampled_from([0, 0, 0, 0, 1])), max_size=40)
"""(queue depth, slots missing before it)."""
LIMIT, CLEAR = 10, 7


def queue_rule(for_slots: int, clear_slots: int) -> Rule:
    return Rule(
        name="long", metric="queue_depth", above=LIMIT, clear=CLEAR, window_s=10.0, for_s=10.0 * for_slots,
        clear_for_s=10.0 * clear_slots,
    )  # fmt: skip


def slots_of(depths: list[tuple[int, int]]) -> list[Slot]:
    found, number = [], 0
    for depth, gaps in depths:
        number += 1 + gaps
        found.append(slot(number, server={"queue_depth": depth, "gaps": gaps}))
    return found


def slowly(depths: list[tuple[int, int]], for_slots: int, clear_slots: int) -> list[tuple[int, str]]:
    """The same by hand: (number of the slot in the list, what happened)."""
    told: list[tuple[int, str]] = []
    over = calm = 0
    firing = False
    for place, (depth, gaps) in enumerate(depths):
        if gaps:
            over = calm = 0
        if firing:
            calm = calm + 1 if depth <= CLEAR else 0
            if calm >= max(1, clear_slots):
                told.append((place, "resolved"))
                firing, over = False, 0
        else:
            over = over + 1 if depth > LIMIT else 0
            if over and over >= for_slots:
                told.append((place, "firing"))
                firing, calm = True, 0
    return told


@given(DEPTHS, st.integers(0, 5), st.integers(0, 4))
def test_it_fires_after_for_without_a_break_and_ends_after_clear_for(
    depths: list[tuple[int, int]], for_slots: int, clear_slots: int
) -> None:
    evaluator = Evaluator([queue_rule(for_slots, clear_slots)])
    told = [(i, each.state) for i, one in enumerate(slots_of(depths)) for each in evaluator.step(one)]
    assert told == slowly(depths, for_slots, clear_slots)


@given(DEPTHS, st.integers(0, 5), st.integers(0, 4))
def test_it_always_ends_and_never_twice(depths: list[tuple[int, int]], for_slots: int, clear_slots: int) -> None:
    rules = [queue_rule(for_slots, clear_slots)]
    over, firing = replay(rules, slots_of([*depths, *[(0, 0)] * (clear_slots + 1)]))
    assert not firing
    assert len({each.id for each in over}) == len(over)
    for each in over:
        assert each.fired_unix_s is not None
        assert each.resolved_unix_s is not None
        assert each.since_unix_s < each.fired_unix_s < each.resolved_unix_s


@given(DEPTHS, st.integers(0, 40))
def test_a_replay_says_the_same_and_a_restart_changes_nothing(depths: list[tuple[int, int]], cut: int) -> None:
    rules, slots = [queue_rule(2, 2)], slots_of(depths)
    whole, again = Evaluator(rules), Evaluator(rules)
    first = [whole.step(each) for each in slots]
    assert first == [again.step(each) for each in slots]
    parted, after = Evaluator(rules), []
    for place, each in enumerate(slots):
        if place == cut:  # a new process: it reads the history, and what was held
            past = Past()
            for old in slots[:place]:
                past.add(old)
            parted = Evaluator(rules, past, parted.held)
        after.append(parted.step(each))
    assert after == first


# ---- what was built in --------------------------------------------------------------------------------

CARD = {"batch_limit": 4}
RULES = built_in(slo("p99 e2e < 500ms"))
PACE = CardPace(step_ms=20.0, lone_step_ms=10.0, prefill_ms_per_token=0.1)
GOOD: dict[str, Any] = {"e2e": 100.0, "step": 10.0}
FAULTS: dict[str, tuple[int, dict[str, Any]]] = {
    "slo-p99-e2e": (30, {"ok": 50, "e2e": 490.0}),
    "slo-burn-fast": (52, {"ok": 50, "missed": 50}),
    "queue-long": (6, {"ok": 1, "server": {**CARD, "queue_depth": 41}}),
    "load-failed": (1, {"ok": 1, "server": {**CARD, "load_failures": {"worker-1": "Broken."}}}),
    "worker-hung": (1, {"ok": 1, "server": {**CARD, "hung": {"worker-1": 1}}}),
    "restart-loop": (3, {"ok": 1, "server": {**CARD, "deaths": {"worker-1": 1}}}),
    "failing": (12, {"ok": 5, "failed": 5}),
    "refusing": (30, {"ok": 5, "refused": {"overloaded": 5}}),
    "runaway": (1, {"ok": 5, "runaway": 1}),
    "rambling": (6, {"ok": 5, "rambling": True, "longer_answers": 2.0}),
    "looping": (6, {"ok": 50, "looped": 20}),
    "steps-slow": (30, {"ok": 50, "step": 51.0}),
    "memory-high": (6, {"server": {**CARD, "memory_bytes": {"a": 88}, "memory_limit_bytes": {"a": 100}}}),
    "kv-full": (30, {"server": {**CARD, "kv_usage": {"a": 0.99}}}),
    "no-samples": (11, {"server": {**CARD, "queue_depth": 1}}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_built_in_rule_fires_in_time_and_is_over_afterwards(name: str) -> None:
    after, fault = FAULTS[name]
    evaluator = Evaluator(RULES)
    evaluator.past.paces = {VARIANT: PACE}
    for number in range(400):
        assert evaluator.step(slot(number, 50, server=CARD, **GOOD)) == []
    fired_at = None
    for number in range(400, 400 + after + 30):
        server, ok = fault.get("server", CARD), fault.get("ok", 0)
        changed = {key: value for key, value in fault.items() if key not in ("server", "ok")}
        usual = {} if name == "no-samples" or not ok else GOOD
        for alert in evaluator.step(slot(number, ok, server=server, **{**usual, **changed})):
            if alert.rule == name and fired_at is None:
                fired_at = number
                assert alert.state == "firing"
                assert alert.advice
                assert alert.numbers["value"] > alert.numbers["threshold"]
        if fired_at is not None:
            break
    assert fired_at is not None
    assert 400 + after - 1 <= fired_at <= 400 + after + 8  # windows of a minute fill up first
    number = fired_at
    while any(alert.rule == name for alert in evaluator.firing):
        number += 1
        evaluator.step(slot(number, 50, server=CARD, **GOOD))
        assert number - fired_at < 130, "it is never over"


def test_steps_that_read_prompts_may_take_longer() -> None:
    evaluator = Evaluator(RULES)
    evaluator.past.paces = {VARIANT: PACE}
    for number in range(60):  # 50 steps, 20,000 tokens read: 40 ms a step more
        assert evaluator.step(slot(number, 50, server=CARD, e2e=100.0, step=90.0, prompt_tokens=20_000)) == []


def test_a_cost_that_drifts_is_told_after_an_hour_and_a_quiet_night_is_none() -> None:
    evaluator, told = Evaluator(RULES, slot_s=60.0), []
    for minute in range(3 * 1440):
        hour = minute // 60
        ok = 60 if 8 <= hour % 24 < 20 else 12
        server = {**CARD, "cost_usd": 0.006 if hour < 2 * 24 + 12 else 0.0084}
        changed = evaluator.step(slot(minute, ok, seconds=60.0, server=server))
        told += [(each, hour) for each in changed if each.rule == "cost-up"]
        if told:
            break
    [(alert, hour)] = told
    assert hour == 2 * 24 + 13
    assert alert.numbers["value"] == pytest.approx(1.4, rel=0.02)


def test_a_budget_is_not_burnt_in_the_first_minutes() -> None:
    evaluator = Evaluator(RULES)
    fired = [each.rule for number in range(60) for each in evaluator.step(slot(number, 50, missed=4, **GOOD))]
    assert fired == []  # 8 times too fast, for ten minutes: 2 % of what six hours may burn
    fired = [each.rule for number in range(60, 2160) for each in evaluator.step(slot(number, 50, missed=4, **GOOD))]
    assert fired == ["slo-burn-steady"]  # three days' 10 % take nine hours


def test_what_can_not_wait_is_told_before_its_slot_ends_and_only_once() -> None:
    evaluator = Evaluator(RULES)
    evaluator.step(slot(0, 1, server=CARD))
    event = Event(kind="load_failed", at_unix_s=BEGIN_S + 12.0, worker="worker-1", why="The file is cut off.")
    [alert] = evaluator.hear(event)
    assert (alert.rule, alert.state, alert.labels) == ("load-failed", "firing", {"worker": "worker-1"})
    assert "worker-1: The file is cut off." in alert.what
    assert evaluator.hear(event) == []
    failures = {"load_failures": {"worker-1": "The file is cut off."}}
    assert evaluator.step(slot(1, 1, server={**CARD, **failures})) == []
    assert evaluator.firing[0].id == alert.id
    assert evaluator.hear(Event(kind="runaway", at_unix_s=BEGIN_S + 13.0)) == []


def test_telemetry_that_stops_is_told_and_is_over_with_the_next_slot() -> None:
    evaluator = Evaluator(RULES)
    evaluator.step(slot(0, 1, server=CARD))
    assert evaluator.silent(30.0, BEGIN_S + 40) == []
    [alert] = evaluator.silent(61.0, BEGIN_S + 71)
    assert alert.rule == "no-telemetry"
    assert evaluator.silent(71.0, BEGIN_S + 81) == []
    [over] = evaluator.step(slot(9, 1, server=CARD))
    assert (over.id, over.state) == (alert.id, "resolved")


def test_a_rule_that_is_gone_ends_what_it_raised() -> None:
    before = Evaluator([queue_rule(0, 2)])
    before.step(slot(0, server={"queue_depth": 20}))
    after = Evaluator([], before.past, before.held)
    assert [each.state for each in after.step(slot(1, server={"queue_depth": 20}))] == ["resolved"]


def test_a_clock_put_back_stops_nothing() -> None:
    evaluator = Evaluator([queue_rule(2, 1)])
    for number in (100, 101, 50, 51, 52):
        evaluator.step(slot(number, server={"queue_depth": 20}))
    assert evaluator.firing
    [over] = evaluator.step(slot(53, server={"queue_depth": 0}))
    assert over.state == "resolved"


# ---- sums of the past ---------------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.lists(st.integers(0, 5), min_size=400, max_size=450), st.data())
def test_sums_are_those_of_the_slots(counts: list[int], data: st.DataObject) -> None:
    past = Past()
    for number, ok in enumerate(counts):
        past.add(slot(number, ok, server={"cost_usd": 1.0}))
    begin = data.draw(st.integers(0, len(counts)))
    end = data.draw(st.integers(begin, len(counts)))
    found = past.sums("", BEGIN_S + 10 * begin, BEGIN_S + 10 * end)
    oldest_whole = len(counts) - int(WHOLE_S / 10)
    if begin >= oldest_whole:
        assert found == Sums(sum(counts[begin:end]), 0, sum(counts[begin:end]), pytest.approx(end - begin))
    else:
        assert abs(found.cost_usd - (end - begin)) <= 10


def test_a_week_of_sums_stays_small_and_right() -> None:
    past = Past()
    for number in range(9 * 8640):
        past.add(Slot(begin_unix_s=BEGIN_S + 10 * number, cost_usd=1.0))
    assert len(past._totals) < 8 * 1440 + 400
    assert past.last_sums("", 3 * 86_400).cost_usd == pytest.approx(3 * 8640, abs=6)
    assert past.last_sums("", 86_400_000).cost_usd == pytest.approx(8 * 8640, abs=6)


# ---- who is told ----------------------------------------------------------------------------------------


def alert(id: str, state: str = "firing", rule: str = "queue-long", severity: str = "warning") -> Alert:
    return Alert(id=id, rule=rule, severity=severity, state=state, since_unix_s=0.0)  # type: ignore[arg-type]


def test_an_alert_is_told_once_and_its_end_once() -> None:
    told: set[str] = set()
    one = alert("1")
    assert to_tell([one], [one], told, [], 10.0) == [one]
    assert to_tell([], [one], told, [], 20.0) == []
    over = alert("1", "resolved")
    assert to_tell([over], [], told, [], 30.0) == [over]
    assert to_tell([over], [], told, [], 30.0) == []


def test_a_silence_holds_back_until_it_ends() -> None:
    told: set[str] = set()
    silences = [Silence(rule="queue-*", until_unix_s=100.0)]
    one, other = alert("1"), alert("2", rule="failing", severity="critical")
    assert to_tell([one, other], [one, other], told, silences, 10.0) == [other]
    assert to_tell([], [one, other], told, silences, 99.0) == []
    assert to_tell([], [one, other], told, silences, 100.0) == [one]
    quiet = alert("3")
    to_tell([quiet], [quiet], told, [Silence(rule="*", until_unix_s=200.0)], 150.0)
    assert to_tell([alert("3", "resolved")], [], told, [], 160.0) == []  # nobody heard of it


def test_the_most_severe_is_told_first() -> None:
    found = [alert("1"), alert("2", severity="critical"), alert("3", severity="info")]
    assert [each.id for each in to_tell(found, found, set(), [], 1.0)] == ["2", "1", "3"]


def test_what_is_held_survives_being_written_down() -> None:
    import msgspec

    evaluator = Evaluator([queue_rule(0, 3)])
    evaluator.step(slot(0, server={"queue_depth": 20}))
    evaluator.step(slot(1, server={"queue_depth": 0}))
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(evaluator.held), type=list[Held])
    assert again == evaluator.held
    assert again[0].clear_since_unix_s is not None
