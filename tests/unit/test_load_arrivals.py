"""Schedules: what they promise for every rate, kind, seed and number of processes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.errors import UsageError
from freehold.loadtest.arrivals import Kind, Phase, Rate, arrivals, constant, dice, gamma, poisson, ramp, steps
from freehold.loadtest.proof import dispersion

PHASES = st.lists(
    st.builds(
        Phase,
        seconds=st.floats(0.5, 50.0),
        start_per_s=st.floats(0.0, 40.0),
        end_per_s=st.floats(0.1, 40.0),
    ),
    min_size=1,
    max_size=4,
)


@given(PHASES)
def test_when_is_the_inverse_of_expected(phases: list[Phase]) -> None:
    rate = Rate(phases)
    counts = np.linspace(0.001, rate.total * 0.999, 50)
    assert np.allclose(rate.expected(rate.when(counts)), counts, rtol=1e-6, atol=1e-6)


@given(PHASES, st.sampled_from(["constant", "poisson", "gamma"]), st.integers(0, 1000))
@settings(deadline=None)
def test_a_schedule_rises_within_its_time_and_is_the_same_for_the_same_seed(
    phases: list[Phase], kind: Kind, seed: int
) -> None:
    times = arrivals(Rate(phases), kind, burstiness=0.5, seed=seed)
    assert (np.diff(times) >= 0).all()
    assert times.size == 0 or 0 <= times[0] <= times[-1] <= Rate(phases).seconds + 1e-6
    assert np.array_equal(times, arrivals(Rate(phases), kind, burstiness=0.5, seed=seed))


def test_constant_is_evenly_spaced() -> None:
    assert np.allclose(constant(4.0, 2.0), np.arange(8) / 4)


@pytest.mark.parametrize("seed", range(3))
def test_poisson_has_an_index_of_dispersion_of_one(seed: int) -> None:
    times = poisson(100.0, 300.0, seed)
    for per_window in (5.0, 20.0, 100.0):
        told = dispersion(times, ramp(100, 100, 300.0), per_window=per_window)
        assert told is not None
        assert abs(told.index - 1.0) < 5 * (2 / told.windows) ** 0.5
        assert told.low < told.index < told.high


def test_bursts_are_as_uneven_as_asked() -> None:
    told = dispersion(gamma(100.0, 600.0, burstiness=0.25), ramp(100, 100, 600.0), per_window=400.0)
    assert told is not None
    assert 3.0 < told.index < 5.0  # towards 1 / burstiness in long windows


def test_a_ramp_of_poisson_arrivals_is_poisson_once_its_rate_is_taken_out() -> None:
    rate = ramp(10.0, 400.0, 120.0)
    told = dispersion(arrivals(rate, "poisson", seed=1), rate)
    flat = dispersion(arrivals(rate, "poisson", seed=1))
    assert told is not None
    assert flat is not None
    assert 0.85 < told.index < 1.15
    assert flat.index > 3  # without it, the ramp looks like a burst


def test_steps_have_their_rates() -> None:
    times = arrivals(steps([10.0, 30.0], 100.0), "constant")
    assert [int((times < 100).sum()), int((times >= 100).sum())] == [1000, 3000]


def test_each_purpose_has_random_numbers_of_its_own() -> None:
    drawn = [dice(1, stream, number).integers(1 << 60) for stream in ("arrivals", "think") for number in range(2)]
    assert len(set(map(int, drawn))) == 4
    assert dice(1, "think", 5).random() == dice(1, "think", 5).random()


@pytest.mark.parametrize("phases", [[], [Phase(seconds=1, start_per_s=0, end_per_s=0)]])
def test_no_rate_at_all_is_refused(phases: list[Phase]) -> None:
    with pytest.raises(UsageError):
        Rate(phases)


@pytest.mark.parametrize("phase", [(0, 1, 1), (-1, 1, 1), (1, -1, 1), (float("inf"), 1, 1)])
def test_a_phase_that_means_nothing_is_refused(phase: tuple[float, float, float]) -> None:
    with pytest.raises(UsageError, match="no phase"):
        Rate([Phase(seconds=phase[0], start_per_s=phase[1], end_per_s=phase[2])])
