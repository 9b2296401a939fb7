"""What an answer costs: the bill of own instances and of an API, line by line, charged to successful answers alone.

Own instances are whole and paid for whether busy or not; what failed, was cancelled or came twice is work all the same
and is charged to the answers that succeeded. Everything follows from six numbers, the `Shape`, so that a break-even has
a closed form (`breakeven.py`). All functions take floats or arrays.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from freehold.core import Record
from freehold.sizing.figure import Figure, amount
from freehold.sizing.inputs import Case, Numbers

HOURS_PER_MONTH = 730.0
SECONDS_PER_MONTH = HOURS_PER_MONTH * 3600
WHOLE = 1e-9
"""Rounding of floats is not worth an instance."""


class Shape(NamedTuple):
    """US dollars a month as a function of answers: `fixed + instances(answers) * instance + answer * answers`."""

    fixed_usd: Numbers
    """People, whatever the volume."""
    instance_usd: Numbers
    """Each instance, busy or not: hardware or rent, hosting, power when idle."""
    answer_usd: Numbers
    """Each answer: power above idle, its failed attempts included."""
    api_usd: Numbers
    """Each answer, from the API."""
    instance_answers: Numbers
    """Answers a month that one instance carries at the peak-to-mean given, with headroom, by the lower bound."""
    spares: Numbers


class Bill(Record, frozen=True):
    """One side's month. `lines` add up to `total_usd`."""

    lines: tuple[Figure, ...]
    total_usd: float
    usd_per_answer: float
    usd_per_million_tokens: float
    """Useful tokens: read and written for answers that succeeded."""
    usd_per_million_output_tokens: float


def monthly_capital_usd(case: Case) -> Numbers:
    """Price less resale over the months, with the cost of the capital tied up: the capital recovery factor, the
    resale discounted by the sinking fund factor (any engineering economics textbook). Without interest it is
    `(price - resale) / months`."""
    rate, months = np.asarray(case.capital_rate) / 12, np.asarray(case.months)
    safe = np.where(rate > 0, rate, 1.0)
    recovery = np.where(rate > 0, safe / -np.expm1(-months * np.log1p(safe)), 1 / months)
    return case.hardware_usd * (recovery - case.resale_share * (recovery - rate))


def api_answer_usd(case: Case) -> Numbers:
    """One answer: its tokens at list price, paid again where it was tried again, less the batch discount."""
    read = case.api_cached_share * case.api_cached_usd + (1 - case.api_cached_share) * case.api_input_usd
    tokens = (case.input_tokens * read + case.output_tokens * case.api_output_usd) * case.api_token_ratio / 1e6
    return tokens * (1 + case.api_retry_share) * (1 - case.api_batch_share * case.api_batch_discount)


def shape(case: Case) -> Shape:
    """The six numbers of a case."""
    kwh_usd = case.pue * case.usd_per_kwh / 1000
    busy_hours = 1 / case.success_share / case.capacity_per_s / 3600
    peak = case.capacity_per_s * case.planned_share * (1 - case.headroom)
    return Shape(
        fixed_usd=case.people_hours * case.people_usd_per_hour,
        instance_usd=monthly_capital_usd(case)
        + case.rent_usd_per_hour * case.hours_per_month
        + case.hosting_usd
        + case.idle_w * case.hours_per_month * kwh_usd,
        answer_usd=np.maximum(case.busy_w - case.idle_w, 0) * busy_hours * kwh_usd,
        api_usd=api_answer_usd(case),
        instance_answers=peak / case.peak_to_mean * SECONDS_PER_MONTH * case.success_share,
        spares=case.spares,
    )


def instances(shape: Shape, answers: Numbers) -> Any:
    """Whole instances for `answers` a month, spares included; at least one serves."""
    return np.maximum(np.ceil(answers / shape.instance_answers - WHOLE), 1) + shape.spares


def own_usd(shape: Shape, answers: Numbers) -> Any:
    """Own instances' month."""
    return shape.fixed_usd + instances(shape, answers) * shape.instance_usd + shape.answer_usd * answers


def own_bill(case: Case, answers: float) -> Bill:
    """Own instances' month, line by line."""
    six = shape(case)
    count = float(instances(six, answers))
    each = f"{count:.0f} instances"
    idle_usd = case.idle_w * case.hours_per_month * case.pue * case.usd_per_kwh / 1000
    capital, rent = float(monthly_capital_usd(case)), float(case.rent_usd_per_hour * case.hours_per_month)
    lines = [
        _line("hardware bought", count * capital, f"{each}, price less resale over {case.months:.0f} months, interest"),
        _line("hardware rented", count * rent, f"{each} x {case.hours_per_month:.0f} provisioned hours"),
        _line("hosting", count * float(case.hosting_usd), each),
        _line("power, idle", count * float(idle_usd), f"{each} x {case.idle_w:.0f} W x PUE x tariff, busy or not"),
        _line("power, busy", float(six.answer_usd) * answers, f"{case.busy_w - case.idle_w:.0f} W more while at work"),
        _line("people", float(six.fixed_usd), f"{case.people_hours:.3g} hours x ${case.people_usd_per_hour:.0f}"),
    ]  # fmt: skip
    return _bill([line for line in lines if line.value], case, answers)


def api_bill(case: Case, answers: float) -> Bill:
    """The API's month, line by line."""
    ratio, million = float(case.api_token_ratio), answers / 1e6
    cached = float(case.input_tokens * case.api_cached_share) * ratio * million
    prices = float(case.api_input_usd), float(case.api_cached_usd), float(case.api_output_usd)
    fresh = float(case.input_tokens) * ratio * million - cached
    written = float(case.output_tokens) * ratio * million
    lines = [
        _line(name, tokens * price, f"{amount(tokens * 1e6)} tokens x ${price:g} a million")
        for name, tokens, price in zip(
            ("input", "cached input", "output"), (fresh, cached, written), prices, strict=True
        )
    ]
    plain = sum(line.value for line in lines)
    retries = plain * float(case.api_retry_share)
    off = (plain + retries) * float(case.api_batch_share * case.api_batch_discount)
    lines += [
        _line("tried again", retries, "tokens of attempts that failed or were cut"),
        _line("batch", -off, "discount"),
    ]
    return _bill([line for line in lines if line.value], case, answers)


def _line(name: str, value: float, how: str) -> Figure:
    return Figure(name=name, value=value, unit="USD/month", basis="derived", source=how)


def _bill(lines: list[Figure], case: Case, answers: float) -> Bill:
    total = sum(line.value for line in lines)
    tokens, written = float(case.input_tokens + case.output_tokens), float(case.output_tokens)
    return Bill(
        lines=tuple(lines),
        total_usd=total,
        usd_per_answer=total / answers,
        usd_per_million_tokens=total / answers / tokens * 1e6 if tokens else 0.0,
        usd_per_million_output_tokens=total / answers / written * 1e6 if written else 0.0,
    )
