"""Sizing by joint simulation: laws that any answer must obey, and figures that are known otherwise."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold import slo
from freehold.core import StepRecord
from freehold.errors import UsageError
from freehold.profile import Profile, StepLaw, open_profile, step_ms
from freehold.sample import Sample
from freehold.sizing.capacity import Capacity
from freehold.sizing.cells import play_in_cells
from freehold.sizing.rightsize import (
    asked_at,
    calibrate,
    erlang_c,
    fares,
    rates,
    simulated_capacity,
    size,
    smallest,
)
from freehold.sizing.steplaw import fit_samples, fit_steps, non_negative
from freehold.sizing.work import DONE, Fleet, Work

STARTER = Fleet(profile=open_profile("starter-openvino-2core"), replicas=1)
SLO = slo.parse("p99 e2e < 2s")


def traffic(per_s: float, count: int = 3000, seed: int = 0) -> Work:
    rng = np.random.default_rng(seed)
    return Work(
        arrival_s=np.cumsum(rng.exponential(1 / per_s, count)),
        prompt_tokens=rng.integers(20, 200, count),
        output_tokens=rng.geometric(1 / 60, count),
    )


@pytest.fixture(scope="module")
def alone_per_s() -> float:
    return simulated_capacity(traffic(10), STARTER, SLO)


def test_the_smallest_fleet_holds_and_one_less_does_not() -> None:
    work = traffic(400)
    instances, tried = smallest(work, STARTER, SLO)
    assert instances > 1
    assert next(each.instances for each in tried if all(kept.holds for kept in each.kept)) == instances
    less = play_in_cells(work, msgspec.structs.replace(STARTER, replicas=instances - 1))
    assert not all(kept.holds for kept in fares(work, less, SLO))


def test_a_slower_measurement_slows_the_simulator_until_they_agree(alone_per_s: float) -> None:
    slowness = calibrate(traffic(10), STARTER, SLO, 0.7 * alone_per_s, alone_per_s)
    assert slowness > 1
    slowed = msgspec.structs.replace(STARTER, slowness=slowness)
    assert simulated_capacity(traffic(10), slowed, SLO) == pytest.approx(0.7 * alone_per_s, rel=0.05)


def test_it_is_slowed_far_where_the_guess_is_far_off(alone_per_s: float) -> None:
    """Told a tenth of what the simulation really carries, it must still find the slowness that fits."""
    slowness = calibrate(traffic(10), STARTER, SLO, 0.2 * alone_per_s, 0.1 * alone_per_s)
    slowed = msgspec.structs.replace(STARTER, slowness=slowness)
    assert simulated_capacity(traffic(10), slowed, SLO) == pytest.approx(0.2 * alone_per_s, rel=0.05)


def test_a_faster_measurement_speeds_it_up(alone_per_s: float) -> None:
    slowness = calibrate(traffic(10), STARTER, SLO, 1.4 * alone_per_s, alone_per_s)
    assert slowness < 1
    faster = msgspec.structs.replace(STARTER, slowness=slowness)
    assert simulated_capacity(traffic(10), faster, SLO) == pytest.approx(1.4 * alone_per_s, rel=0.05)


@pytest.mark.parametrize("stretch", [0, 1, 7, 400, 10_000])
def test_what_is_asked_has_the_rate_and_the_rows_of_the_trace(stretch: int) -> None:
    work = traffic(5, count=900)
    unit = asked_at(work, stretch)
    assert len(unit.arrival_s) / unit.arrival_s[-1] == pytest.approx(1.0, rel=0.1)
    assert (np.diff(unit.arrival_s) >= 0).all()
    rows = set(zip(work.prompt_tokens.tolist(), work.output_tokens.tolist(), strict=True))
    assert set(zip(unit.prompt_tokens.tolist(), unit.output_tokens.tolist(), strict=True)) <= rows


def test_a_stretch_keeps_its_bursts() -> None:
    """Pairs of requests, far apart: with Poisson arrivals they would be spread."""
    times = np.repeat(np.arange(500.0), 2) + np.tile([0.0, 0.01], 500)
    work = Work(arrival_s=times, prompt_tokens=np.full(1000, 8), output_tokens=np.full(1000, 8))
    gaps = np.diff(asked_at(work, 100).arrival_s)
    assert np.median(gaps[gaps < 0.1]) == pytest.approx(0.02, rel=0.1)
    assert (gaps < 0.1).mean() == pytest.approx(0.5, abs=0.02)


def test_more_traffic_and_less_capacity_ask_for_more(alone_per_s: float) -> None:
    def instances(per_s: float, capacity: float) -> int:
        measured = Capacity(rate_per_s=capacity, low=capacity, high=capacity)
        return size(traffic(per_s), STARTER, SLO, measured).instances

    base = instances(200, alone_per_s)
    assert base <= instances(400, alone_per_s) <= 2 * base + 1
    assert base <= instances(200, alone_per_s / 2)


def test_a_spare_comes_on_top(alone_per_s: float) -> None:
    measured = Capacity(rate_per_s=alone_per_s, low=alone_per_s, high=alone_per_s)
    answer = size(traffic(100), STARTER, SLO, measured, spare=1)
    assert answer.with_spare == answer.instances + 1
    assert answer.utilisation_mean == pytest.approx(answer.mean_per_s / alone_per_s / answer.instances)
    assert answer.erlang_instances >= 1


def test_what_no_number_of_instances_can_keep_is_said() -> None:
    with pytest.raises(UsageError, match="No number of instances"):
        smallest(traffic(5, 200), STARTER, slo.parse("p99 e2e < 1us"))
    with pytest.raises(UsageError, match="out of reach"):
        calibrate(traffic(5, 200), STARTER, SLO, 0.0, 10.0)
    with pytest.raises(UsageError, match="contradict"):
        calibrate(traffic(5, 200), STARTER, slo.parse("p99 e2e < 1us"), 10.0, 0.0)


def test_a_law_too_slow_for_the_slo_is_quickened_to_what_was_measured() -> None:
    """Learnt while the machine was busy: simulated, not even one request alone is in time."""
    slow = msgspec.structs.replace(STARTER, slowness=100.0)
    assert simulated_capacity(traffic(10), slow, SLO) == 0.0
    answer = size(traffic(5), slow, SLO, Capacity(rate_per_s=20.0, low=15.0, high=25.0))
    assert answer.slowness < 0.5
    assert answer.instances >= 1


@settings(max_examples=30, deadline=None)
@given(replicas=st.integers(1, 40), cell=st.integers(1, 8))
def test_cells_lose_no_request(replicas: int, cell: int) -> None:
    work = traffic(300, 400)
    played = play_in_cells(work, msgspec.structs.replace(STARTER, replicas=replicas), cell=cell)
    assert (played.outcome == DONE).all()
    assert len(played.busy_s) == replicas
    assert (played.end_s >= played.first_s).all()
    assert (played.first_s >= work.arrival_s).all()


@pytest.mark.parametrize(
    ("servers", "load", "waits"), [(1, 0.5, 0.5), (2, 1.0, 1 / 3), (10, 7.0, 0.2217), (5, 5.0, 1.0)]
)
def test_erlang_c_is_what_the_tables_say(servers: int, load: float, waits: float) -> None:
    assert erlang_c(servers, load) == pytest.approx(waits, abs=2e-4)


def test_the_peak_is_the_busiest_minute() -> None:
    arrivals = np.sort(np.concatenate([np.arange(0, 600, 1.0), np.arange(120, 180, 0.1)]))
    mean, peak = rates(arrivals)
    assert peak == pytest.approx(11.0, rel=0.02)
    assert mean == pytest.approx(2.0, rel=0.02)


# ---- the step law ---------------------------------------------------------------------------------

laws = st.builds(
    StepLaw,
    base_ms=st.floats(0.1, 20),
    prefill_ms_per_token=st.floats(0.001, 0.5),
    sequence_ms=st.floats(0.001, 2),
    context_ms_per_token=st.floats(0.0001, 0.01),
)


@settings(max_examples=50, deadline=None)
@given(law=laws, seed=st.integers(0, 1000))
def test_a_law_is_found_again_in_its_own_steps(law: StepLaw, seed: int) -> None:
    rng = np.random.default_rng(seed)
    steps = []
    for _ in range(200):
        read, running = int(rng.choice([0, 0, 50, 300])), int(rng.integers(1, 33))
        context = running * int(rng.integers(50, 800))
        ms = step_ms(law, read, running, context)
        steps.append(StepRecord(read, running, context, running, ms, 0.2))
    fit = fit_steps(steps)
    for read, running, context in ((0, 1, 100), (0, 32, 9000), (300, 8, 3000)):
        assert step_ms(fit.law, read, running, context) == pytest.approx(step_ms(law, read, running, context), rel=0.02)
    assert fit.error < 0.01
    assert fit.gap_ms == pytest.approx(0.2)


@pytest.mark.parametrize("scatter", [0.1, 0.5, 1.0])
def test_a_law_takes_as_long_as_what_was_seen_however_it_scatters(scatter: float) -> None:
    rng = np.random.default_rng(3)
    law = StepLaw(base_ms=2.0, sequence_ms=0.5)
    steps = []
    for _ in range(2000):
        running = int(rng.integers(1, 33))
        ms = step_ms(law, 0, running, 0) * float(rng.lognormal(0.0, scatter))
        steps.append(StepRecord(0, running, 0, running, ms, None))
    fit = fit_steps(steps)
    told = sum(step_ms(fit.law, 0, step.running, 0) for step in steps)
    assert told == pytest.approx(sum(step.step_ms for step in steps), rel=1e-6)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.floats(0.1, 10), min_size=3, max_size=3), min_size=4, max_size=12), st.integers(0, 99))
def test_no_factor_is_negative_and_none_fits_better(rows: list[list[float]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = np.array(rows), rng.uniform(0.5, 5, len(rows))
    found = np.array(non_negative(a, b))
    assert (found >= 0).all()
    cost = float(np.sum((a @ found / b - 1) ** 2))
    for _ in range(200):
        other = np.maximum(0, found + rng.normal(0, 0.05, 3))
        assert cost <= float(np.sum((a @ other / b - 1) ** 2)) + 1e-9


def test_a_law_is_fitted_to_what_a_client_saw() -> None:
    """One answer at a time, then eight: 4 ms and 1 ms a sequence."""
    samples = []
    for wave, width in enumerate([1, 1, 1, 4, 4, 8, 8, 8] * 3):
        begun, step_s = wave * 10.0, (4.0 + width) / 1000
        for i in range(width):
            first = begun + 0.1 * 0.02 + step_s + 0.0001 * i
            samples.append(
                Sample(
                    number=len(samples), intended_s=begun, sent_s=begun, first_s=first, end_s=first + 100 * step_s,
                    outcome="ok", input_tokens=20, output_tokens=101,
                )
            )  # fmt: skip
    fit = fit_samples(samples)
    assert fit.law.base_ms == pytest.approx(4.0, rel=0.1)
    assert fit.law.sequence_ms == pytest.approx(1.0, rel=0.1)
    assert fit.law.prefill_ms_per_token == pytest.approx(0.1, rel=0.15)


def test_too_little_fits_nothing() -> None:
    with pytest.raises(UsageError, match="Too few steps"):
        fit_steps([StepRecord(None, 3, None, 3, 2.0, None)] * 50)
    with pytest.raises(UsageError, match="Too few answers"):
        fit_samples([])


def test_the_profile_without_a_line_is_played_too() -> None:
    """batch_points instead of base and sequence: the stretch law stays linear in the context."""
    points = StepLaw(batch_points=((1, 5.0), (8, 6.0), (64, 20.0)), context_ms_per_token=0.001)
    profile: Profile = msgspec.structs.replace(STARTER.profile, step=points)
    work = traffic(50, 500)
    played = play_in_cells(work, Fleet(profile=profile, replicas=2))
    assert (played.outcome == DONE).all()
    assert math.isfinite(float(played.end_s.max()))
