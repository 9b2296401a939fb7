"""The calculation found on so many pages, to compare with: price of the card over the API's bill; what it omits."""

from __future__ import annotations

from freehold.core import Record
from freehold.sizing import cost
from freehold.sizing.cost import SECONDS_PER_MONTH
from freehold.sizing.inputs import Case

LEFT_OUT = (
    "the machine is taken to be full all month: real traffic has nights and peaks",
    "power, people, hosting, interest and a spare are taken to cost nothing",
    "every attempt is taken to succeed, and every answer to be as good as the API's",
)


class Naive(Record, frozen=True):
    months_if_full: float
    """Price over the API's bill for an instance that is busy every second."""
    full_answers: float
    months_at_volume: float
    """Price over the API's bill at the owner's volume; still without any running cost."""
    left_out: tuple[str, ...] = LEFT_OUT


def naive(case: Case, answers: float) -> Naive:
    """Months after which a bought instance "has paid for itself", the naive way."""
    full = float(case.capacity_per_s) * SECONDS_PER_MONTH
    each = float(cost.api_answer_usd(case))
    price = float(case.hardware_usd)
    return Naive(
        months_if_full=price / (full * each) if each else float("inf"),
        full_answers=full,
        months_at_volume=price / (answers * each) if each else float("inf"),
    )
