from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold import profile as profiles
from freehold.core import LoadPhase
from freehold.errors import ConfigError
from freehold.profile import Profile, StepLaw, step_ms, sweet_spot

PLAIN = Profile(
    name="plain",
    model="m",
    engine="e",
    machine="a machine",
    date="2026-11-22",
    source="a command",
    step=StepLaw(base_ms=2.0, prefill_ms_per_token=0.5, sequence_ms=0.25, context_ms_per_token=0.001),
    sweet_batch=4,
    max_batch=8,
    context_tokens=1024,
)


def changed(**fields: object) -> Profile:
    return msgspec.structs.replace(PLAIN, **fields)


# ---- built in -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", profiles.built_in_names())
def test_built_in_is_whole_and_says_where_it_is_from(name: str) -> None:
    profile = profiles.open_profile(name)
    assert profile.name == name
    assert profiles.check(profile) == []
    assert len(profile.source) > 40
    law = {f"step.{f}" for f in StepLaw.__struct_fields__ if getattr(profile.step, f)}
    assert law <= set(profile.basis), "each figure of the law says how it was got"


def test_the_promised_ones_are_there() -> None:
    promised = {"starter-openvino-2core", "llama-125m-openvino-2core", "llama-125m-llamacpp-2core", "instant"}
    assert promised < set(profiles.built_in_names())


@pytest.mark.parametrize(
    ("name", "rates", "off"),
    [
        ("llama-125m-openvino-2core", {1: 95, 4: 325, 8: 503, 16: 668, 32: 1013}, 0.10),
        ("llama-125m-llamacpp-2core", {1: 124, 4: 132, 8: 229, 16: 319, 32: 364}, 0.01),
    ],
)
def test_law_gives_back_what_it_was_fitted_to(name: str, rates: dict[int, float], off: float) -> None:
    law = profiles.open_profile(name).step
    for sequences, tokens_per_s in rates.items():
        ms = step_ms(law, 0, sequences, sequences * 152)
        assert ms == pytest.approx(sequences * 1000 / tokens_per_s, rel=off)


@pytest.mark.parametrize(
    ("sequences", "context_tokens", "ms"),
    [(1, 36, 0.489), (1, 660, 0.606), (4, 1103, 0.899), (8, 5280, 2.341), (16, 4409, 2.704), (32, 1167, 2.549),
     (32, 8839, 4.965), (48, 1748, 3.899), (64, 2326, 5.174)],
)  # fmt: skip
def test_the_starters_law_gives_back_the_steps_it_was_fitted_to(sequences: int, context_tokens: int, ms: float) -> None:
    law = profiles.open_profile("starter-openvino-2core").step
    assert step_ms(law, 0, sequences, context_tokens) == pytest.approx(ms, rel=0.075)


def test_sweet_batches_follow_from_the_laws() -> None:
    for name in ("llama-125m-openvino-2core", "llama-125m-llamacpp-2core", "starter-openvino-2core"):
        profile = profiles.open_profile(name)
        assert profile.sweet_batch == sweet_spot(profile.step, profile.max_batch, 152)


def test_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        profiles.open_profile("llama-125m-openvin-2cores")
    assert "llama-125m-openvino-2core" in caught.value.next
    assert "instant" in caught.value.why


# ---- the law ------------------------------------------------------------------------------------


def test_law_by_hand() -> None:
    assert step_ms(PLAIN.step, 10, 4, 1000) == pytest.approx(2 + 5 + 1 + 1)
    assert step_ms(PLAIN.step, 0, 0, 0) == 0


def test_points_are_met_and_joined() -> None:
    law = StepLaw(batch_points=((1, 8.0), (4, 30.0), (8, 34.0)))
    at = {n: step_ms(law, 0, n, 0) for n in (1, 2, 4, 6, 8, 12)}
    assert at == pytest.approx({1: 8, 2: 8 + 22 / 3, 4: 30, 6: 32, 8: 34, 12: 38})


def test_one_point_is_flat() -> None:
    assert step_ms(StepLaw(batch_points=((4, 9.0),)), 0, 100, 0) == 9.0


coefficients = st.floats(0, 100)


@given(
    st.builds(
        StepLaw,
        base_ms=coefficients,
        prefill_ms_per_token=coefficients,
        sequence_ms=coefficients,
        context_ms_per_token=coefficients,
    ),
    st.integers(0, 5000),
    st.integers(1, 500),
    st.integers(0, 100_000),
)
def test_more_work_never_costs_less(law: StepLaw, prefill: int, sequences: int, context: int) -> None:
    here = step_ms(law, prefill, sequences, context)
    assert here >= 0
    assert step_ms(law, prefill + 1, sequences, context) >= here
    assert step_ms(law, prefill, sequences + 1, context) >= here
    assert step_ms(law, prefill, sequences, context + 1) >= here


@given(st.floats(0.01, 50), st.floats(0.001, 5), st.integers(1, 300))
def test_sweet_spot_is_the_smallest_that_pays(base: float, each: float, most: int) -> None:
    law = StepLaw(base_ms=base, sequence_ms=each)
    spot = sweet_spot(law, most, 0)
    rates = [n / step_ms(law, 0, n, 0) for n in range(1, most + 1)]
    assert rates[spot - 1] >= profiles.PAYING_SHARE * max(rates)
    assert all(rate < profiles.PAYING_SHARE * max(rates) for rate in rates[: spot - 1])


def test_sweet_spot_where_nothing_costs() -> None:
    assert sweet_spot(StepLaw(), 64, 0) == 64


# ---- files --------------------------------------------------------------------------------------


@given(st.builds(StepLaw, base_ms=coefficients, sequence_ms=coefficients), st.integers(1, 64))
def test_json_gives_the_same_profile_back(law: StepLaw, batch: int) -> None:
    profile = changed(step=law, sweet_batch=batch, max_batch=64, load=(LoadPhase(name="map", seconds=0.5),))
    assert profiles.parse(msgspec.json.encode(profile), "memory") == profile


def test_save_and_open(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "profile.json"
    profiles.save(PLAIN, path)
    assert profiles.open_profile(str(path)) == PLAIN
    assert [entry.name for entry in path.parent.iterdir()] == ["profile.json"]


def test_a_wrong_profile_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    profiles.save(PLAIN, path)
    with pytest.raises(ConfigError):
        profiles.save(changed(sweet_batch=0), path)
    assert profiles.load(path) == PLAIN


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Can't read"):
        profiles.open_profile(str(tmp_path / "none.json"))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{", "truncated"),
        (b"[]", "Expected `object`"),
        (b"\xff{}", "malformed"),
        (b"{}", "missing required field"),
    ],
)
def test_broken_files(data: bytes, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        profiles.parse(data, "here.json")
    assert "here.json" in str(caught.value)
    assert said in str(caught.value)


def test_unknown_field_gets_the_nearest() -> None:
    data = msgspec.json.encode(PLAIN).replace(b'"sequence_ms"', b'"sequences_ms"')
    with pytest.raises(ConfigError) as caught:
        profiles.parse(data, "here.json")
    assert "sequences_ms" in caught.value.why
    assert "'sequence_ms'" in caught.value.next


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"step": StepLaw(base_ms=-1)}, "step.base_ms"),
        ({"step": StepLaw(sequence_ms=math.inf)}, "step.sequence_ms"),
        ({"step": StepLaw(context_ms_per_token=math.nan)}, "step.context_ms_per_token"),
        ({"step": StepLaw(batch_points=((4, 1.0), (2, 2.0)))}, "must rise"),
        ({"step": StepLaw(batch_points=((0, 1.0),))}, "must rise"),
        ({"step": StepLaw(batch_points=((1, 0.0),))}, "over 0"),
        ({"step": StepLaw(batch_points=((1, 9.0), (2, 3.0)))}, "slope"),
        ({"step": StepLaw(base_ms=1, batch_points=((1, 1.0),))}, "stands for"),
        ({"max_batch": 0}, "max_batch"),
        ({"sweet_batch": 9}, "over max_batch"),
        ({"kv_bytes_per_token": -1}, "kv_bytes_per_token"),
        ({"bandwidth_bytes_per_s": math.inf}, "bandwidth"),
        ({"load": (LoadPhase(name="map", seconds=-1.0),)}, "load seconds"),
        ({"source": ""}, "source"),
        ({"date": "yesterday"}, "ISO date"),
        ({"format": 2}, "format 2"),
        ({"basis": {"step.bases_ms": "measured"}}, "'step.base_ms'"),
    ],
)
def test_wrong_figures_are_named(fields: dict[str, object], said: str) -> None:
    problems = " ".join(profiles.check(changed(**fields)))
    assert said in problems


def test_kv_cache_in_tokens() -> None:
    assert PLAIN.kv_cache_tokens == 8 * 1024
    assert changed(kv_cache_bytes=1000, kv_bytes_per_token=10).kv_cache_tokens == 100
