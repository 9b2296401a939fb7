"""Tables out of samples: quantiles against brute force, nothing dropped, and the same after a way through a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.errors import UsageError
from freehold.loadtest.compare import agreement, differences
from freehold.loadtest.figures import compute, plain
from freehold.loadtest.proof import dispersion, prove
from freehold.loadtest.record import OUTCOMES, Recorder, columns, manifest, open_run
from freehold.loadtest.spread import Spread
from freehold.sample import Outcome, Sample


def sample(number: int, outcome: Outcome = "ok", at_s: float = 0.0, e2e_s: float = 1.0, **more: object) -> Sample:
    told = {"first_s": at_s + e2e_s / 2, "output_tokens": 3, "gaps_ms": (1.0, 2.0), "input_tokens": 5} | more
    if outcome != "ok":
        told = {"error": "It broke."} | more
    return Sample(number=number, intended_s=at_s, sent_s=at_s + 0.001, end_s=at_s + e2e_s, outcome=outcome, **told)  # type: ignore[arg-type]


@given(st.lists(st.floats(0, 1e7), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_a_spread_is_within_one_percent(values: list[float], p: float) -> None:
    spread = Spread()
    for each in np.array_split(np.array(values), 3):
        spread.add(each)
    true = sorted(values)[max(0, int(np.ceil(p * len(values))) - 1)]
    assert spread.quantile(p) == pytest.approx(true, rel=0.0051, abs=1e-4)
    assert spread.count == len(values)


def test_what_is_not_answered_is_counted_and_never_in_the_latencies() -> None:
    samples = [sample(n, outcome, n, 1.0 + n) for n, outcome in enumerate(OUTCOMES)]
    figures, _ = compute(samples, met=lambda each: each.end_s - each.intended_s < 2)
    assert figures.outcomes == dict.fromkeys(OUTCOMES, 1)
    assert figures.asked == 6
    assert figures.latency_ms["e2e"].count == 1
    assert figures.latency_ms["lateness"].count == 5  # unsent has none
    assert figures.latency_ms["itl"].count == 2
    assert figures.met_share == pytest.approx(1 / 6)
    assert figures.errors == {"It broke.": 4}
    assert plain(figures)["latency_ms"]["e2e"]["p50"] == 1000.0


def test_latency_counts_from_the_intended_moment() -> None:
    late = Sample(number=0, intended_s=1.0, sent_s=3.0, end_s=4.0, first_s=3.5, outcome="ok", output_tokens=1)
    figures, _ = compute([late])
    assert figures.latency_ms["e2e"].p50 == 3000.0
    assert figures.latency_ms["ttft"].p50 == 2500.0
    assert figures.latency_ms["lateness"].p50 == 2000.0


def test_no_samples_give_no_figures_and_no_error() -> None:
    figures, _ = compute([])
    assert (figures.asked, figures.latency_ms) == (0, {})


def told() -> object:
    return manifest("load", "freehold load", url="u", model="m", seed=1, load={"loop": "open"}, started_unix_s=1.0)


def test_a_run_is_read_back_as_it_was(tmp_path: Path) -> None:
    samples = [sample(n, at_s=n / 10, queue_ms=None if n % 2 else 4.0) for n in range(20)]
    with Recorder(tmp_path / "run", told()) as recorder:  # type: ignore[arg-type]
        recorder.add(samples)
        recorder.finish(2.0, vitals={"cpu_s": [0.1]})
    with (tmp_path / "run" / "samples.jsonl").open("ab") as file:
        file.write(b'{"number": 99')  # the crash that the docstring speaks of
    run = open_run(tmp_path / "run")
    assert list(run.samples()) == samples
    assert (run.manifest.seconds, run.manifest.vitals) == (2.0, {"cpu_s": [0.1]})
    rows = run.columns()
    assert rows.number.tolist() == list(range(20))
    assert np.isnan(rows.queue_ms[1])
    assert rows.gaps_of(7).tolist() == [1.0, 2.0]
    assert plain(compute(run.samples())[0]) == plain(compute(samples)[0])


def test_a_folder_that_has_a_run_is_not_written_over(tmp_path: Path) -> None:
    with Recorder(tmp_path, told()):  # type: ignore[arg-type]
        pass
    with pytest.raises(UsageError, match="already"):
        Recorder(tmp_path, told())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no run"):
        open_run(tmp_path / "elsewhere")


def proof(late_s: float = 0.0, cpu_s: float = 0.1, outcome: Outcome = "ok") -> object:
    rows = columns(
        Sample(number=n, intended_s=n / 10, sent_s=n / 10 + late_s, end_s=n / 10 + 0.05, outcome=outcome)
        for n in range(100)
    )
    return prove(rows, [cpu_s], 10.0, scheduled=True, rate=None, reached=None)


def test_the_client_says_when_it_may_have_been_the_limit() -> None:
    assert not proof().was_limit  # type: ignore[attr-defined]
    assert "late" in proof(late_s=0.02).why  # type: ignore[attr-defined]
    assert "busy" in proof(cpu_s=9.5).why  # type: ignore[attr-defined]
    assert "open connections" in proof(outcome="unsent").why  # type: ignore[attr-defined]


def test_the_interval_of_a_dispersion_holds_the_truth_as_often_as_it_says() -> None:
    chance = np.random.default_rng(3)
    held = 0
    for _ in range(200):
        told = dispersion(np.cumsum(chance.exponential(0.01, 2000)))
        assert told is not None
        held += told.low <= 1.0 <= told.high
    assert held >= 180


def test_two_servers_that_differ_are_told_apart_and_equal_ones_are_not() -> None:
    chance = np.random.default_rng(1)

    def rows(add_s: float) -> object:
        return columns(sample(n, at_s=float(n), e2e_s=0.5 + add_s + chance.random() / 10) for n in range(200))

    slow = {each.name: each for each in differences(rows(0.0), rows(0.1))}  # type: ignore[arg-type]
    assert slow["p50 e2e"].clear
    assert slow["p50 e2e"].difference_ms == pytest.approx(100, abs=20)
    same = {each.name: each for each in differences(rows(0.0), rows(0.0))}  # type: ignore[arg-type]
    assert not same["p50 e2e"].clear
    few = differences(columns([sample(1)]), columns([sample(1)]))
    assert all(each.low_ms is None for each in few)


def test_answers_agree_in_part() -> None:
    assert agreement(1, "a b c", "a b c").exact
    half = agreement(1, "The cat sat.", "The dog sat.")
    assert (half.exact, half.similarity) == (False, 0.75)
    assert agreement(1, "", "x").similarity == 0.0
