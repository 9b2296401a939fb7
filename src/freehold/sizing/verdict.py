"""The last line is money: keep the API, host it yourself, or the volume at which that changes. "Never" is an answer.

A verdict is given only where at least 90 % of the draws agree; otherwise it is too close to call, and says what to find
out.
"""

from __future__ import annotations

import math
from typing import Literal

from freehold.core import Record
from freehold.sizing import breakeven, cost
from freehold.sizing.breakeven import BreakEven, Staircase, Swing
from freehold.sizing.cost import Bill, Shape
from freehold.sizing.figure import Figure, amount, usd
from freehold.sizing.inputs import Inputs, case

Decision = Literal["keep the API", "self-host", "too close to call"]
SURE = 0.9
MOVERS = 3
UNCHECKED = (
    "whether the answers of both are equally good",
    "how often the API itself fails or is slow",
    "how prices will change",
)
LABELS = {
    "capacity_per_s": "capacity of an instance",
    "planned_share": "share of the capacity planned with",
    "hardware_usd": "price of the hardware",
    "capital_rate": "interest",
    "rent_usd_per_hour": "rent",
    "hosting_usd": "hosting",
    "idle_w": "power when idle",
    "busy_w": "power when busy",
    "pue": "PUE",
    "usd_per_kwh": "price of power",
    "people_hours": "people's hours",
    "people_usd_per_hour": "people's cost",
    "api_input_usd": "API price, input",
    "api_cached_usd": "API price, cached input",
    "api_output_usd": "API price, output",
    "api_token_ratio": "API tokens for one of ours",
}


class Verdict(Record, frozen=True):
    decision: Decision
    sentence: str
    answers_per_month: float
    instances: int
    cost_per_successful_request_usd: Figure
    """Own instances."""
    api_cost_per_successful_request_usd: float
    own: Bill
    api: Bill
    break_even: BreakEven
    movers: tuple[Swing, ...]
    """The inputs that move the difference most, one at a time."""
    staircase: Staircase
    inputs: dict[str, Figure]
    utilisation_mean: float
    """Of all instances, spares included."""
    utilisation_peak: float
    unchecked: tuple[str, ...] = UNCHECKED


def decide(inputs: Inputs, answers: float, *, seed: int = 1, draws: int = breakeven.DRAWS) -> Verdict:
    """Everything that is said about `answers` successful answers a month."""
    middle = case(inputs)
    six = cost.shape(middle)
    own, api = cost.own_bill(middle, answers), cost.api_bill(middle, answers)
    even = breakeven.break_even(inputs, answers, seed=seed, draws=draws)
    movers = breakeven.swings(inputs, answers)[:MOVERS]
    count = int(cost.instances(six, answers))
    decision = _decision(even.cheaper_share)
    steps = breakeven.staircase(inputs, answers, seed=seed, draws=draws)
    per = per_answer(inputs, answers, seed=seed, draws=draws)
    mean = answers / float(middle.success_share) / cost.SECONDS_PER_MONTH / (count * float(middle.capacity_per_s))
    return Verdict(
        decision=decision,
        sentence=_sentence(decision, answers, count, own, api, six, even, movers),
        answers_per_month=answers,
        instances=count,
        cost_per_successful_request_usd=per,
        api_cost_per_successful_request_usd=api.usd_per_answer,
        own=own,
        api=api,
        break_even=even,
        movers=tuple(movers),
        staircase=steps,
        inputs=dict(inputs),
        utilisation_mean=mean,
        utilisation_peak=mean * float(middle.peak_to_mean),
    )


def per_answer(inputs: Inputs, answers: float, *, seed: int = 1, draws: int = breakeven.DRAWS) -> Figure:
    """Own cost of one answer, with a band of 90 %."""
    total = breakeven.own_band(inputs, answers, seed=seed, draws=draws)
    return Figure(
        name="cost_per_successful_request_usd",
        value=total.value / answers,
        low=total.ends[0] / answers,
        high=total.ends[1] / answers,
        unit="USD",
        basis="derived",
        source=f"own bill over answers; {total.source}",
    )


def _decision(cheaper_share: float) -> Decision:
    if cheaper_share >= SURE:
        return "self-host"
    return "keep the API" if cheaper_share <= 1 - SURE else "too close to call"


def _sentence(
    decision: Decision,
    answers: float,
    count: int,
    own: Bill,
    api: Bill,
    six: Shape,
    even: BreakEven,
    movers: list[Swing],
) -> str:
    bills = (
        f"at {amount(answers)} answers a month the API costs {usd(api.total_usd)}"
        f" and {_instances(count)} of your own {usd(own.total_usd)}"
    )
    if decision == "keep the API":
        return f"Keep the API: {bills}. {_flip(even, six, answers)}"
    if decision == "self-host":
        back = ""
        if math.isfinite(even.for_good.value) and answers < even.for_good.value:
            back = f" Past {amount(even.for_good.value)} answers no further instance changes that."
        return f"Self-host: {bills}, cheaper in {_share(even.cheaper_share)} of what the inputs allow.{back}"
    names = " and ".join(words(mover.name) for mover in movers[:2]) or "the inputs"
    return (
        f"Too close to call: {bills}; own instances are cheaper in {_share(even.cheaper_share)} of what the inputs "
        f"allow. Find out more about {names} first. {_flip(even, six, answers)}"
    )


def _share(share: float) -> str:
    """Never rounded up to all."""
    return "over 99%" if 0.995 <= share < 1.0 else f"{share:.0%}"


def _flip(even: BreakEven, six: Shape, answers: float) -> str:
    if math.isinf(even.first.value):
        full = float(six.instance_answers)
        return (
            f"Self-hosting on this hardware is never cheaper than this API: a full instance carries {amount(full)}"
            f" answers a month, for which the API asks {usd(float(six.api_usd) * full)}; the instance costs"
            f" {usd(float(six.instance_usd + six.answer_usd * full))}."
        )
    low, high = even.first.ends
    band = "" if low == high else f" (90 %: {amount(low)} to {amount(high)})"
    if even.first.value > answers:
        return f"Self-hosting becomes cheaper from {amount(even.first.value)} answers a month{band}."
    return f"The costs cross at {amount(even.first.value)} answers a month{band}."


def _instances(count: int) -> str:
    return "1 instance" if count == 1 else f"{count} instances"


def words(name: str) -> str:
    """An input's name for people."""
    return LABELS.get(name) or " ".join("API" if word == "api" else word for word in name.split("_"))
