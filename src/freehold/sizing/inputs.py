"""Every input of the money: its meaning, its unit, and what is assumed of it where nobody says better.

`Case` holds the values the arithmetic works on: floats, or arrays with one value a draw. `ASSUMED` has a figure for
each field; whoever asks replaces them by what was measured, looked up or said.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

import msgspec
import numpy as np
import numpy.typing as npt

from freehold.core import Record
from freehold.errors import UsageError
from freehold.sizing.capacity import Capacity
from freehold.sizing.figure import Figure, parse

Numbers = float | npt.NDArray[np.float64]


class Case(Record, frozen=True):
    """One set of inputs. An "answer" is a request that ended successfully; a month has 730 hours."""

    capacity_per_s: Numbers
    planned_share: Numbers
    headroom: Numbers
    spares: Numbers
    peak_to_mean: Numbers
    success_share: Numbers
    input_tokens: Numbers
    output_tokens: Numbers
    hardware_usd: Numbers
    resale_share: Numbers
    months: Numbers
    capital_rate: Numbers
    rent_usd_per_hour: Numbers
    hours_per_month: Numbers
    hosting_usd: Numbers
    idle_w: Numbers
    busy_w: Numbers
    pue: Numbers
    usd_per_kwh: Numbers
    people_hours: Numbers
    people_usd_per_hour: Numbers
    api_input_usd: Numbers
    api_cached_usd: Numbers
    api_output_usd: Numbers
    api_cached_share: Numbers
    api_token_ratio: Numbers
    api_retry_share: Numbers
    api_batch_share: Numbers
    api_batch_discount: Numbers


def _assume(
    name: str, value: float, unit: str, source: str, low: float | None = None, high: float | None = None
) -> Figure:
    return Figure(name=name, value=value, unit=unit, low=low, high=high, source=source)


UPTIME = "Uptime Institute survey 2025: 1.54 on average; an office without cooling is near 1"
_TABLE = (
    _assume("capacity_per_s", 0, "requests/s", "one instance at its SLO; from `freehold knee`, or claimed"),
    _assume("planned_share", 1, "", "lower end of the measured interval over its value: what a plan may count on"),
    _assume("headroom", 0.2, "", "share of the capacity kept free at the peak"),
    _assume("spares", 1, "instances", "N+1: one may fail at the peak"),
    _assume("peak_to_mean", 3, "", "busiest minutes over the month's mean", 2, 5),
    _assume("success_share", 1, "", "of all attempts on own hardware, those that end with an answer"),
    _assume("input_tokens", 0, "tokens", "a request's prompt, mean"),
    _assume("output_tokens", 0, "tokens", "its answer, mean"),
    _assume("hardware_usd", 0, "USD", "an instance, bought: cards and host"),
    _assume("resale_share", 0.2, "", "of the price, when it is sold at the end", 0, 0.4),
    _assume("months", 36, "months", "until it is sold", 24, 48),
    _assume("capital_rate", 0.08, "/year", "what the money would earn elsewhere, or a loan costs", 0.04, 0.12),
    _assume("rent_usd_per_hour", 0, "USD/hour", "an instance, rented"),
    _assume("hours_per_month", 730, "hours", "provisioned (and, if rented, paid for): all of them unless given back"),
    _assume("hosting_usd", 0, "USD/month", "rack, network and insurance of an instance"),
    _assume("idle_w", 0, "W", "an instance with its model loaded, doing nothing"),
    _assume("busy_w", 0, "W", "an instance at full load"),
    _assume("pue", 1.3, "", UPTIME, 1.0, 1.54),
    _assume("usd_per_kwh", 0.15, "USD/kWh", "a common price for small businesses", 0.10, 0.30),
    _assume("people_hours", 4, "hours/month", "people looking after it, beyond what the API needs", 2, 8),
    _assume("people_usd_per_hour", 80, "USD/hour", "with everything an employer pays", 60, 120),
    _assume("api_input_usd", 0, "USD/M tokens", "price list"),
    _assume("api_cached_usd", 0, "USD/M tokens", "price list"),
    _assume("api_output_usd", 0, "USD/M tokens", "price list"),
    _assume("api_cached_share", 0, "", "of prompt tokens, billed as cached"),
    _assume("api_token_ratio", 1, "", "the API's tokens for the same text over ours (tokenizers differ)", 0.9, 1.15),
    _assume("api_retry_share", 0.01, "", "of requests, paid twice because the first failed or was cut", 0, 0.03),
    _assume("api_batch_share", 0, "", "of requests, sent through a batch interface"),
    _assume("api_batch_discount", 0.5, "", "what the batch interface takes off"),
)  # fmt: skip
ASSUMED: dict[str, Figure] = {figure.name: figure for figure in _TABLE}
SHARES = {"headroom", "success_share", "resale_share", "api_cached_share", "api_batch_share", "api_batch_discount"}
POSITIVE = {"capacity_per_s", "months", "planned_share", "success_share", "peak_to_mean", "hours_per_month"}

Inputs = Mapping[str, Figure]


def merged(*given: Inputs) -> dict[str, Figure]:
    """`ASSUMED`, overridden from left to right, and checked. Raises `UsageError` that names the input."""
    inputs = dict(ASSUMED)
    for some in given:
        inputs |= some
    for figure in inputs.values():
        _check(figure)
    return inputs


def said(settings: Mapping[str, str]) -> dict[str, Figure]:
    """`name=value` texts as figures. An unknown name is an error that tells the nearest one."""
    found = {}
    for name, text in settings.items():
        if name not in ASSUMED:
            near = get_close_matches(name, ASSUMED, n=1, cutoff=0.4)
            hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(ASSUMED)}."
            raise UsageError(f"There is no input {name!r}.", next=hint)
        found[name] = parse(name, text, unit=ASSUMED[name].unit, source="said on the command line")
    return found


def of_capacity(capacity: Capacity) -> dict[str, Figure]:
    """The inputs that a measurement fills."""
    share = capacity.low / capacity.rate_per_s if capacity.rate_per_s else 1.0
    basis, source = capacity.basis, capacity.source
    found = {
        "capacity_per_s": Figure(
            name="capacity_per_s", value=capacity.rate_per_s, low=capacity.low, high=capacity.high,
            unit="requests/s", basis=basis, source=source,
        ),
        "planned_share": Figure(name="planned_share", value=share, basis="derived", source="low over value"),
        "success_share": Figure(name="success_share", value=capacity.success_share, basis=basis, source=source),
    }  # fmt: skip
    for name, tokens in (("input_tokens", capacity.input_tokens), ("output_tokens", capacity.output_tokens)):
        if tokens:
            found[name] = Figure(name=name, value=tokens, unit="tokens", basis=basis, source=source)
    return found


def case(inputs: Inputs) -> Case:
    """The central values."""
    return Case(**{name: figure.value for name, figure in inputs.items()})


def replaced(inputs: Inputs, name: str, value: float) -> Case:
    """The central values but for one."""
    return msgspec.structs.replace(case(inputs), **{name: value})


def draw(inputs: Inputs, count: int, seed: int) -> Case:
    """`count` draws. Each uncertain input comes, by itself, from a triangle over its interval that peaks at its value.

    A triangle, because low, likely and high are all that one can say of most inputs (Johnson, Statistician 46, 1997).
    """
    drawn: dict[str, Numbers] = {}
    for (name, figure), stream in zip(
        sorted(inputs.items()), np.random.SeedSequence(seed).spawn(len(inputs)), strict=True
    ):
        low, high = figure.ends
        drawn[name] = (
            np.random.default_rng(stream).triangular(low, figure.value, high, count) if low < high else figure.value
        )
    return Case(**drawn)


def _check(figure: Figure) -> None:
    low, high = figure.ends
    if not (np.isfinite([low, figure.value, high]).all() and 0 <= low <= figure.value <= high):
        raise UsageError(
            f"{figure.name} can't be {figure.value:g} between {low:g} and {high:g}.",
            "An input is finite, not negative, and its value lies within its interval.",
        )
    if figure.name in SHARES and high > 1:
        raise UsageError(f"{figure.name} is a share and can't be {high:g}.", next="Write 0.2 or 20%.")
    if figure.name == "headroom" and high >= 1:
        raise UsageError("headroom 1 leaves no capacity at all.", next="Write 0.2 or 20%.")
    if figure.name in POSITIVE and low <= 0:
        missing = "Give --rate, or a folder with a knee.json." if figure.name == "capacity_per_s" else ""
        raise UsageError(f"{figure.name} must be over 0.", next=missing)
