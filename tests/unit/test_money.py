"""The money: published analyses to the cent, laws that any bill obeys, break-evens held to a search by brute force."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.errors import ConfigError, UsageError
from freehold.sizing import breakeven, cost, inputs, verdict
from freehold.sizing.capacity import Capacity, from_knee
from freehold.sizing.cost import Shape
from freehold.sizing.figure import Figure, amount, parse, shown, usd
from freehold.sizing.naive import naive

PUBLISHED = json.loads((Path(__file__).parent / "golden" / "published.json").read_text())
PLAIN = {"planned_share": 1, "success_share": 1, "resale_share": 0, "capital_rate": 0, "pue": 1, "months": 36,
         "api_retry_share": 0, "api_token_ratio": 1, "api_cached_share": 0, "api_batch_share": 0}  # fmt: skip
TYPICAL = {**PLAIN, **PUBLISHED[0]["inputs"]}


def exact(values: dict[str, float]) -> dict[str, Figure]:
    return inputs.merged({name: Figure(name=name, value=value) for name, value in values.items()})


def case(**changed: float) -> inputs.Case:
    return inputs.case(exact({**TYPICAL, **changed}))


# ---- published -----------------------------------------------------------------------------------


@pytest.mark.parametrize("published", PUBLISHED, ids=[one["what"] for one in PUBLISHED])
def test_published_analyses_come_out_to_the_cent(published: dict[str, Any]) -> None:
    one = inputs.case(exact({**PLAIN, **published["inputs"]}))
    six, answers = cost.shape(one), published["answers"]
    assert int(cost.instances(six, answers)) == published["instances"]
    assert cost.own_bill(one, answers).total_usd == pytest.approx(published["own_usd"], abs=0.005)
    assert cost.api_bill(one, answers).total_usd == pytest.approx(published["api_usd"], abs=0.005)
    if "flips_at_tokens" in published:
        tokens = float(breakeven.first(six)) * float(one.input_tokens + one.output_tokens)
        assert tokens == pytest.approx(published["flips_at_tokens"], rel=1e-4)


def test_the_popular_claim_naively_and_honestly() -> None:
    """A card of $1,600 against an API bill of $518k: a hundred requests a second all month, and nothing else costs."""
    claim = case(hardware_usd=1600, capacity_per_s=100, api_input_usd=2.5, api_output_usd=10.6)
    told = naive(claim, 1e6)
    assert told.full_answers == pytest.approx(262.8e6)
    assert told.months_if_full == pytest.approx(0.003, abs=0.0005)
    assert told.months_at_volume > 200 * told.months_if_full


# ---- laws ----------------------------------------------------------------------------------------

money = st.floats(0, 5000)
shapes = st.builds(
    Shape,
    fixed_usd=money,
    instance_usd=st.floats(1, 5000),
    answer_usd=st.floats(0, 0.01),
    api_usd=st.floats(0, 0.05),
    instance_answers=st.floats(1e3, 1e7),
    spares=st.integers(0, 3),
)


@given(shapes)
def test_the_closed_form_agrees_with_brute_force(six: Shape) -> None:
    """Own cost is looked at on both sides of every step up to far beyond both volumes."""
    first, good = float(breakeven.first(six)), float(breakeven.for_good(six))
    assert first <= good
    assert math.isinf(first) == math.isinf(good)
    last = 400 if math.isinf(good) else min(400, int(good / six.instance_answers) + 3)
    pays = []
    for n in range(1, last + 1):
        for volume in (
            (n - 1 + 1e-6) * six.instance_answers,
            (n - 0.5) * six.instance_answers,
            n * six.instance_answers,
        ):
            own, api = float(cost.own_usd(six, volume)), six.api_usd * volume
            slack = 1e-6 * max(own, api)
            pays.append((volume, own <= api + slack, own < api - slack))
    for volume, maybe, surely in pays:
        if volume < first * (1 - 1e-6):
            assert not surely, "cheaper before the first volume that pays"
        if volume > good * (1 + 1e-6):
            assert maybe, "dearer after the volume past which it always pays"
    if math.isfinite(first):
        own = float(cost.own_usd(six, first))
        assert own == pytest.approx(six.api_usd * first, rel=1e-6)


@given(st.floats(1, 1e9), st.floats(1, 1e9))
def test_cost_rises_with_volume_and_in_steps(a: float, b: float) -> None:
    six = cost.shape(case())
    low, high = sorted((a, b))
    assert cost.own_usd(six, low) <= cost.own_usd(six, high) + 1e-9
    count = float(cost.instances(six, high))
    assert count == int(count) >= 2
    assert (count - 1) * float(six.instance_answers) >= high * (1 - 1e-6), "the serving instances carry it"


RISING = ("hardware_usd", "rent_usd_per_hour", "hosting_usd", "idle_w", "usd_per_kwh", "pue", "people_hours", "spares",
          "peak_to_mean", "capital_rate", "headroom")  # fmt: skip
FALLING = ("capacity_per_s", "success_share", "resale_share", "months", "planned_share")


@pytest.mark.parametrize("name", RISING + FALLING)
@given(share=st.floats(0.05, 1), volume=st.floats(1, 1e8))
def test_each_input_moves_the_bill_its_way(name: str, share: float, volume: float) -> None:
    value = TYPICAL[name] if TYPICAL.get(name) else 0.5
    less, more = (float(cost.own_usd(cost.shape(case(**{name: v})), volume)) for v in (value * share, value))
    assert less >= 0
    assert (less <= more + 1e-6) if name in RISING else (less >= more - 1e-6)


@given(
    st.fixed_dictionaries(
        {name: st.floats(0.01, 100) for name in ("hardware_usd", "idle_w", "busy_w", "people_hours")}
    ),
    st.floats(1, 1e7),
)
def test_no_bill_is_negative_and_lines_add_up(values: dict[str, float], answers: float) -> None:
    one = case(**values)
    for bill in (cost.own_bill(one, answers), cost.api_bill(one, answers)):
        assert all(line.value >= 0 for line in bill.lines)
        assert sum(line.value for line in bill.lines) == pytest.approx(bill.total_usd)
        assert bill.usd_per_answer * answers == pytest.approx(bill.total_usd)
    own = float(cost.own_usd(cost.shape(one), answers))
    assert own == pytest.approx(cost.own_bill(one, answers).total_usd)


def test_work_that_failed_is_charged_to_what_succeeded() -> None:
    good, bad = cost.shape(case()), cost.shape(case(success_share=0.5))
    assert float(bad.instance_answers) == pytest.approx(float(good.instance_answers) / 2)
    assert float(bad.answer_usd) == pytest.approx(2 * float(good.answer_usd))
    assert cost.api_bill(case(api_retry_share=0.1), 1e6).total_usd == pytest.approx(307.20 * 1.1)


def test_capital_with_interest_is_an_annuity() -> None:
    """The resale and all payments, discounted, pay for the machine."""
    one = case(hardware_usd=10_000, resale_share=0.25, capital_rate=0.12, months=24)
    monthly = float(cost.monthly_capital_usd(one))
    present = sum(monthly / 1.01**k for k in range(1, 25)) + 2500 / 1.01**24
    assert present == pytest.approx(10_000)


def test_cached_tokens_and_batches_have_their_own_price() -> None:
    bill = cost.api_bill(
        case(api_cached_share=0.5, api_cached_usd=0.1, api_batch_share=0.5, api_batch_discount=0.5), 1e6
    )
    plain = 128 * 0.4 + 128 * 0.1 + 128 * 1.6
    assert bill.total_usd == pytest.approx(plain * 0.75)
    assert bill.usd_per_million_tokens == pytest.approx(plain * 0.75 / 384)


# ---- draws, swings, verdicts ---------------------------------------------------------------------

UNSURE = {**exact(TYPICAL), "people_hours": parse("people_hours", "2..4..10"), "pue": parse("pue", "1..1.3..1.6")}


def test_draws_are_seeded_and_stay_in_their_intervals() -> None:
    one, again, other = (np.asarray(inputs.draw(UNSURE, 500, seed).people_hours) for seed in (1, 1, 2))
    assert (one == again).all()
    assert (one != other).any()
    assert one.min() >= 2
    assert one.max() <= 10
    assert inputs.draw(UNSURE, 500, 1).months == 36


def test_the_widest_swing_comes_first_and_exact_inputs_have_none() -> None:
    found = breakeven.swings(UNSURE, 1e6)
    assert [swing.name for swing in found] == ["people_hours", "pue"]
    assert found[0].swing_usd == pytest.approx(8 * 80)


def test_the_three_verdicts() -> None:
    keep, near, own = (verdict.decide(UNSURE, volume, draws=500) for volume in (2e5, 1.55e6, 2e7))
    assert keep.decision == "keep the API"
    assert "becomes cheaper from 1.62M" in keep.sentence
    assert near.decision == "too close to call"
    assert "people's hours" in near.sentence
    assert own.decision == "self-host"
    assert own.break_even.first.value == pytest.approx(1.62e6, rel=0.01)
    low, high = own.break_even.first.ends
    assert low <= own.break_even.first.value <= high


def test_never_is_an_answer_and_says_why() -> None:
    told = verdict.decide(
        {**UNSURE, "api_output_usd": parse("api_output_usd", "0.01"), "api_input_usd": parse("x", "0.01")}, 1e9
    )
    assert told.decision == "keep the API"
    assert "never cheaper" in told.sentence
    assert "a full instance carries 3.5M answers" in told.sentence
    assert told.break_even.never_share == 1
    assert math.isinf(told.break_even.first.value)


def test_the_staircase_climbs_and_its_band_holds_it() -> None:
    steps = verdict.decide(UNSURE, 5e6, draws=300).staircase
    assert list(steps.own_usd) == sorted(steps.own_usd)
    jumps = [b - a for a, b in zip(steps.own_usd, steps.own_usd[1:], strict=False)]
    assert max(jumps) > 20 * sorted(jumps)[len(jumps) // 2]
    assert all(low <= high for low, high in zip(steps.own_low_usd, steps.own_high_usd, strict=True))


# ---- what people write ---------------------------------------------------------------------------


def test_figures_as_people_write_them() -> None:
    assert parse("x", "1.5M").value == 1.5e6
    assert parse("x", "20%").value == pytest.approx(0.2)
    assert parse("x", "2..8").ends == (2, 8)
    assert parse("x", "2..4..8").value == 4
    assert parse("x", "$1,600").value == 1600
    for wrong in ("", "a lot", "8..2", "1..2..3..4", "-3", "nan", "inf", "1.2.3"):
        with pytest.raises(UsageError, match="x"):
            parse("x", wrong)


@given(st.floats(1e-12, 1e12))
def test_what_is_shown_is_within_a_percent(value: float) -> None:
    text = usd(value).removeprefix("$").replace(",", "")
    scale = {"k": 1e3, "M": 1e6, "B": 1e9}.get(text[-1], 1.0)
    assert float(text.rstrip("kMB")) * scale == pytest.approx(value, rel=0.006)


def test_figures_as_they_are_shown() -> None:
    assert usd(-570.4) == "-$570"
    assert usd(0.000307) == "$0.000307"
    assert (amount(math.inf), amount(12_800), amount(999.9), amount(0)) == ("never", "12.8k", "1,000", "0")
    assert shown(Figure(name="x", value=0.15, unit="USD/kWh", low=0.1, high=0.3)) == "$0.15/kWh ($0.1 to $0.3)"


def test_an_unknown_input_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="people_hour") as caught:
        inputs.said({"people_hour": "4"})
    assert "people_hours" in caught.value.next


@pytest.mark.parametrize(
    "wrong", [{"headroom": 1.0}, {"resale_share": 1.5}, {"months": 0}, {"capacity_per_s": 0}, {"pue": math.inf}]
)
def test_inputs_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        exact({**TYPICAL, **wrong})


def test_a_knee_becomes_inputs_and_plans_with_its_lower_end() -> None:
    data = b'{"capacity": {"rate_per_s": 5, "low": 4, "high": 6, "success_share": 0.9}, "other": 1}'
    found = from_knee(data, "knee.json")
    assert found == Capacity(rate_per_s=5, low=4, high=6, success_share=0.9)
    filled = inputs.of_capacity(found)
    assert filled["planned_share"].value == pytest.approx(0.8)
    assert filled["capacity_per_s"].basis == "measured"
    for wrong in (b"{}", b"no", b'{"capacity": {"rate_per_s": 0, "low": 0, "high": 0}}'):
        with pytest.raises(ConfigError, match=r"knee\.json"):
            from_knee(wrong, "knee.json")
