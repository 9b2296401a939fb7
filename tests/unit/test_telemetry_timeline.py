"""Slots and windows on a virtual clock: nothing is lost or counted twice, whatever the cut and the clock."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.api_prices import ApiPrice
from freehold.clock import VirtualClock
from freehold.pipe import StepSums
from freehold.sketch import Sketch, of, together
from freehold.slo import parse
from freehold.telemetry.cost import ApiCost, Drift, slot_usd
from freehold.telemetry.exposition import BOUNDS_S, buckets
from freehold.telemetry.figures import judged, misses
from freehold.telemetry.row import Row
from freehold.telemetry.series import Series, step_of
from freehold.telemetry.slot import Part, Slot, pack, unpack
from freehold.telemetry.sums import Sums
from freehold.telemetry.timeline import Timeline
from freehold.telemetry.windows import Windows, joined, whole_of

outcomes = st.sampled_from(["ok", "refused", "failed", "cancelled", "expired"])
rows = st.builds(
    Row,
    id=st.just("a"), route=st.just("/v1/chat/completions"), model=st.just("m"), variant=st.sampled_from(["v", "w"]),
    tenant=st.just("local"), outcome=outcomes, received_unix_s=st.just(0.0), code=st.sampled_from(["overloaded", "x"]),
    accepted_ms=st.just(1.0), claimed_ms=st.just(3.0), first_ms=st.floats(3, 1e4), last_ms=st.floats(1e4, 1e5),
    delivered_ms=st.floats(1e4, 1e5), prompt_tokens=st.integers(0, 99), completion_tokens=st.integers(0, 99),
    good=st.booleans(),
)  # fmt: skip


class SetClock(VirtualClock):
    """Its wall time can be set; the monotonic one goes on."""

    def __init__(self) -> None:
        super().__init__(1_000_003.0)
        self.offset_s = 0.0

    def unix_s(self) -> float:
        return self.monotonic_s() + self.offset_s


def closed(timeline: Timeline) -> Slot:
    return timeline.close(Slot(begin_unix_s=0.0), {})


@settings(deadline=None)
@given(told=st.lists(st.tuples(rows, st.floats(0, 15)), max_size=40))
def test_slots_hold_every_row_once(told: list[tuple[Row, float]]) -> None:
    clock = VirtualClock(1_000_003.0)
    timeline, slots, whole = Timeline(clock), [], Sums()
    for row, gap_s in told:
        clock.sleep(gap_s)
        if timeline.due_in_s <= 0:
            slots.append(closed(timeline))
        timeline.count(row)
        whole.count(row)
    slots.append(unpack(pack(closed(timeline))))
    summed = Sums()
    for part in whole_of(slots).parts.values():
        summed.merge(part)
    for name in ("ok", "failed", "cancelled", "expired", "good", "prompt_tokens", "completion_tokens"):
        assert getattr(summed, name) == getattr(whole, name)
    assert summed.refused == whole.refused
    for metric, sketch in whole.sketches.items():
        assert summed.sketches.get(metric, Sketch()).bins == sketch.bins


def test_slots_begin_at_tens_and_a_set_clock_does_no_harm() -> None:
    clock = SetClock()
    timeline = Timeline(clock)
    assert timeline.due_in_s == 7.0
    clock.sleep(7.0)
    first = closed(timeline)
    assert (first.begin_unix_s, first.seconds) == (1_000_000.0, 7.0)
    clock.sleep(4.0)
    clock.offset_s = -3600.0  # somebody sets the clock back by an hour
    clock.sleep(6.0)
    assert timeline.due_in_s == 0.0
    second = closed(timeline)
    assert (second.begin_unix_s, second.seconds, second.gaps) == (1_000_010.0, 10.0, 0)
    clock.sleep(10.0)
    third = closed(timeline)
    assert (third.begin_unix_s, third.seconds, third.gaps) == (996_420.0, 10.0, 0)
    clock.offset_s = 7200.0
    clock.sleep(10.0)
    assert closed(timeline).seconds == 10.0
    clock.sleep(10.0)
    assert closed(timeline).gaps > 1000


def test_what_steps_read_over_their_time_is_the_bandwidth() -> None:
    timeline = Timeline(VirtualClock(0.0))
    timeline.bandwidth_bytes_per_s = 100e9
    for worker, ms in (("a", 40.0), ("b", 20.0)):
        sketch = Sketch()
        sketch.add(ms)
        timeline.stepped("v", worker, StepSums(1, 2, 2, 0, 0.0, 1e9, sketch.told()))
    slot = closed(timeline)
    assert slot.mbu == pytest.approx(2e9 / 0.040 / 100e9)  # both ran at once, the busiest for 40 ms
    assert slot.parts["v"].step_s == pytest.approx(0.060)
    timeline.stepped("v", "a", StepSums(1, 2, 2, 0, 0.0, None, Sketch().told()))
    assert closed(timeline).mbu is None


@settings(max_examples=60, deadline=None)
@given(
    gaps=st.lists(st.floats(0, 40) | st.floats(0, 4000), min_size=1, max_size=60),
    window_s=st.sampled_from([10.0, 60.0, 300.0, 3600.0, 86_400.0]),
)
def test_a_window_holds_its_time_and_at_most_a_slot_more(gaps: list[float], window_s: float) -> None:
    windows, now_s, times = Windows(), 1234.5, []
    for gap in gaps:
        now_s += gap
        begin_s = now_s - now_s % 10.0
        windows.add(Slot(begin_unix_s=begin_s, parts={"v": Part(ok=1)}), begin_s)
        windows.over(window_s, now_s)  # looking changes nothing
        times.append(now_s)
    now_s += 7.0
    slot_s = {10.0: 10.0, 60.0: 10.0, 300.0: 10.0, 3600.0: 60.0, 86_400.0: 600.0}[window_s]
    whole = windows.over(window_s, now_s)
    found = whole.parts["v"].ok if "v" in whole.parts else 0
    assert sum(t > now_s - window_s for t in times) <= found <= sum(t >= now_s - window_s - slot_s for t in times)


def test_windows_stay_small_and_follow_those_before_them() -> None:
    one, other, whole = Windows(), Windows(), Windows()
    for i in range(10_000):
        slot = Slot(begin_unix_s=10.0 * i, parts={"v": Part(ok=1)})
        whole.add(slot, 10.0 * i)
        (one if i < 6000 else other).add(slot, 10.0 * i)
    assert [len(each) for each in whole._levels] == [31, 61, 145]
    other.follow(one)
    for window_s in (10.0, 300.0, 3600.0, 86_400.0):
        now_s = 100_000.0
        assert other.over(window_s, now_s).parts["v"].ok == whole.over(window_s, now_s).parts["v"].ok


def test_two_gateways_slots_are_one() -> None:
    one = Slot(begin_unix_s=0.0, parts={"v": Part(ok=1)}, queue_depth=5, cost_usd=1.0, restarts=1)
    other = Slot(begin_unix_s=0.0, parts={"v": Part(ok=2), "w": Part(failed=1)}, queue_depth=2, cost_usd=1.0)
    both = joined(one, other)
    assert (both.parts["v"].ok, both.parts["w"].failed, both.queue_depth, both.cost_usd) == (3, 1, 5, 1.0)


@given(values=st.lists(st.floats(0, 1e6), max_size=60))
def test_buckets_are_the_values_up_to_them(values: list[float]) -> None:
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    told = buckets(sketch, BOUNDS_S)
    assert told[-1] == ("+Inf", len(values))
    assert [n for _, n in told] == sorted(n for _, n in told)
    for bound, count in told[:-1]:
        limit_ms = 1000.0 * float(bound)
        assert sum(v <= limit_ms * 0.98 for v in values) <= count <= sum(v <= limit_ms * 1.0205 for v in values)


def test_an_objective_counts_what_the_server_failed() -> None:
    timeline = Timeline(VirtualClock(0.0))
    for i in range(98):
        timeline.count(row_of(outcome="ok", delivered_ms=100.0 if i else 900.0))
    timeline.count(row_of(outcome="refused", code="overloaded"))
    timeline.count(row_of(outcome="refused", code="invalid_request"))
    timeline.count(row_of(outcome="failed", code="engine_failed"))
    whole = timeline.open()
    assert misses(whole.parts["v"]) == 2
    e2e, error = judged(parse("p95 e2e < 500ms, error rate < 1%"), whole)
    assert (e2e.kept, e2e.value_ms) == (True, pytest.approx(100.0, rel=0.011))
    assert e2e.share_kept == pytest.approx(97 / 100)
    assert (error.kept, error.share_kept) == (False, pytest.approx(98 / 100))
    nothing = judged(parse("p99 itl < 50ms"), whole)[0]
    assert (nothing.kept, nothing.share_kept, nothing.value_ms) == (None, None, None)


def test_points_of_a_series_add_up() -> None:
    slots = [Slot(begin_unix_s=10.0 * i, parts={"v": Part(ok=10)}, queue_depth=i) for i in range(12)]
    told = Series().told(slots, 0.0, 30.0)
    assert told["begin_unix_s"] == [0.0, 30.0, 60.0, 90.0]
    assert told["requests_per_s"] == [1.0, 1.0, 1.0, 1.0]
    assert told["queue_depth"] == [2, 5, 8, 11]
    assert told["variants"]["v"]["ttft_ms"]["p99"] == [None] * 4
    assert [step_of(3600.0, points) for points in (1, 120, 360, 1000)] == [3600.0, 30.0, 10.0, 10.0]


def test_money_is_the_slots_and_drift_is_against_the_past() -> None:
    assert slot_usd(3.6, 10.0) == pytest.approx(0.01)
    assert slot_usd(0.0, 10.0) is None
    price = ApiPrice(model="a/b", input_usd=1.0, cached_usd=0.1, output_usd=2.0, as_of="2026-01-01", source="")
    part = Part(useful_prompt_tokens=1_000_000, useful_cached_tokens=500_000, useful_tokens=1_000_000)
    assert ApiCost(price).of(part) == pytest.approx(0.5 + 0.05 + 2.0)
    drift = Drift()
    for hour in range(6):
        for _ in range(360):
            ok = 10 if hour < 5 else 8
            drift.add(Slot(begin_unix_s=0.0, cost_usd=0.01, parts={"v": Part(ok=ok)}))
        if hour < 1:
            assert drift.ratio is None
    assert drift.ratio == pytest.approx(1.25)


def test_all_parts_merge_whatever_they_are() -> None:
    parts = [Sums() for _ in range(3)]
    for i, sums in enumerate(parts):
        sums.count(row_of(outcome="ok", delivered_ms=float(i + 1)))
        sums.bytes_read = 1.0 if i else None
    whole = Sums()
    for sums in parts:
        whole.add(msgspec.msgpack.decode(msgspec.msgpack.encode(sums.part()), type=Part))
    assert whole.bytes_read == 2.0
    assert whole.sketches["e2e"].bins == together(of(s.part().sketches["e2e"]) for s in parts).bins


def row_of(**fields: object) -> Row:
    told = {"id": "a", "route": "/generate", "model": "m", "variant": "v", "tenant": "local", "received_unix_s": 0.0}
    return Row(**(told | fields))  # type: ignore[arg-type]
