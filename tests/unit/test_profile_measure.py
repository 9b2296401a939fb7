"""Measuring an engine level by level, and what is read from the levels."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from freehold.cli.app import app
from freehold.engine.base import EngineSpec
from freehold.engine.measure import reading_rate, sweep
from freehold.engine.sim.engine import SimEngine
from freehold.errors import UsageError
from freehold.model.source import Source
from freehold.profile import StepLaw, load, step_ms
from freehold.sizing.steplaw import fit_levels
from freehold.sizing.sweetspot import Point, shares, sweet_spot

LAW = StepLaw(base_ms=4.0, sequence_ms=0.5, context_ms_per_token=0.001)


def points(law: StepLaw, streams: list[int], context: float = 100) -> list[Point]:
    return [
        Point(streams=n, tokens_per_s=1000 * n / step_ms(law, 0, n, int(n * context)), context_tokens=context)
        for n in streams
    ]


def test_every_level_is_measured_and_heard() -> None:
    source = Source(kind="sim", path="instant", label="", name="sim")
    engine = SimEngine(EngineSpec(engine="sim", source=source, name="sim", cache_dir="", max_batch=8))
    engine.load(lambda *_: nullcontext())
    heard: list[int] = []
    found = sweep(
        engine,
        [1, 4, 8],
        prompt_tokens=16,
        output_tokens=8,
        level_s=0.2,
        heard=lambda level: heard.append(level.streams),
    )
    assert heard == [1, 4, 8]
    assert [level.streams for level in found.levels] == [1, 4, 8]
    assert all(level.tokens_per_s > 0 and level.rounds >= 2 for level in found.levels)
    assert sum(step.tokens for step in found.steps) >= 2 * 8 * (1 + 4 + 8)
    assert {step.prefill_tokens for step in found.steps} >= {0, 16, 64, 128}


def test_how_fast_it_reads_is_never_less_than_the_law_says() -> None:
    source = Source(kind="sim", path="instant", label="", name="sim")
    engine = SimEngine(EngineSpec(engine="sim", source=source, name="sim", cache_dir="", max_batch=8))
    engine.load(lambda *_: nullcontext())
    assert reading_rate(engine, 0.1) > 512 / 5.0


def test_the_sweet_spot_is_the_smallest_that_gives_nearly_all() -> None:
    found = sweet_spot(points(LAW, [1, 2, 4, 8, 16, 32, 64, 128]), LAW)
    assert found.streams == 64
    assert found.share >= 0.9
    assert found.reason.startswith("Compute")


@pytest.mark.parametrize(
    ("law", "context", "usage", "said"),
    [
        (StepLaw(base_ms=1.0, sequence_ms=0.01, context_ms_per_token=0.01), 500, None, "Memory bandwidth"),
        (LAW, 100, 1.0, "Memory: "),
        (StepLaw(base_ms=50.0, sequence_ms=0.01), 100, None, "No fall-off"),
    ],
)
def test_why_more_does_not_pay(law: StepLaw, context: float, usage: float | None, said: str) -> None:
    measured = points(law, [1, 8, 32, 64], context)
    if usage is not None:
        flat = Point(streams=128, tokens_per_s=measured[-1].tokens_per_s, context_tokens=context, kv_usage=usage)
        measured.append(flat)
    assert sweet_spot(measured, law).reason.startswith(said)


@given(base=st.floats(0.1, 50), sequence=st.floats(0, 5), context=st.floats(0, 0.01), n=st.integers(1, 64))
def test_the_shares_of_a_step_make_a_whole(base: float, sequence: float, context: float, n: int) -> None:
    law = StepLaw(base_ms=base, sequence_ms=sequence, context_ms_per_token=context)
    assert sum(shares(law, n, 100.0).values()) == pytest.approx(1.0, rel=1e-6)


def test_levels_alone_make_a_law_that_a_profile_accepts() -> None:
    fit = fit_levels([(1, 10.0, 30.0, 20.0), (4, 12.0, 92.0, 20.0), (8, 11.0, 171.0, 20.0)])
    assert fit.law.batch_points == ((1, 10.0), (4, 12.0), (8, 12.0))
    assert fit.law.prefill_ms_per_token == pytest.approx(1.0)


def test_a_profile_is_kept_where_serve_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEHOLD_HOME", str(tmp_path))
    told = CliRunner().invoke(app, ["profile", "sim:instant", "--batches", "1,2", "--quick", "--json"])
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout.strip().splitlines()[-1])
    kept = load(Path(found["path"]))
    assert kept.sweet_batch in (1, 2)
    assert Path(found["path"]).parent == tmp_path / "profiles"
    assert kept.step.base_ms >= 0


def test_a_sweep_leaves_what_a_report_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEHOLD_HOME", str(tmp_path))
    told = CliRunner().invoke(
        app, ["sweep", "sim:instant", "--batches", "1,2", "--quick", "--out", str(tmp_path / "o")]
    )
    assert told.exit_code == 0, told.output
    assert "pays" in told.output
    found = json.loads((tmp_path / "o" / "sweep.json").read_text())
    assert [level["streams"] for level in found["levels"]] == [1, 2]


@pytest.mark.parametrize("asked", [["--batches", "none"], ["--batches", "0,1"], ["--input-tokens", "99999999"]])
def test_what_can_not_be_measured_is_said(asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEHOLD_HOME", str(tmp_path))
    told = CliRunner().invoke(app, ["sweep", "sim:instant", *asked])
    assert isinstance(told.exception, UsageError)
