"""What restarts cost: seconds and requests, from how long a model takes to load. Arithmetic, each line of it shown."""

from __future__ import annotations

from freehold.core import Record

DAY_S = 86_400.0
MONTH_DAYS = 365.25 / 12
BUDGETS = (0.99, 0.999, 0.9999)
"""Availabilities that are often promised."""


class Restarts(Record, frozen=True):
    """Times are of one instance; `instances` share the requests, and those that stay up take over what they can."""

    load_s: float
    per_day: float
    """Of all instances together."""
    rate_per_s: float
    instances: int
    lost_s_a_day: float
    lost_s_a_month: float
    share_lost: float
    """Of the instances' time."""
    held_up_each: float
    """Requests that come while one instance loads and would have been its own."""
    held_up_a_day: float
    held_up_a_month: float
    longest_wait_s: float
    """Of a request that comes as it goes down: with another instance up, it waits for a place there instead."""
    budget_s_a_day: tuple[tuple[float, float], ...]
    """(availability, seconds a day it allows)"""


def restarts(load_s: float, per_day: float, rate_per_s: float, instances: int = 1) -> Restarts:
    """All figures follow from the four given."""
    lost_day_s = load_s * per_day
    each = rate_per_s * load_s / instances
    return Restarts(
        load_s=load_s,
        per_day=per_day,
        rate_per_s=rate_per_s,
        instances=instances,
        lost_s_a_day=lost_day_s,
        lost_s_a_month=lost_day_s * MONTH_DAYS,
        share_lost=lost_day_s / (DAY_S * instances),
        held_up_each=each,
        held_up_a_day=each * per_day,
        held_up_a_month=each * per_day * MONTH_DAYS,
        longest_wait_s=load_s if instances == 1 else 0.0,
        budget_s_a_day=tuple((share, (1.0 - share) * DAY_S) for share in BUDGETS),
    )


def arithmetic(found: Restarts) -> list[str]:
    """Each figure with the sum it came from, for people."""
    many = "" if found.instances == 1 else f" / {found.instances} instances"
    lines = [
        f"{found.load_s:g} s to load x {found.per_day:g} restarts a day = {found.lost_s_a_day:,.1f} s lost a day, "
        f"{found.lost_s_a_month:,.0f} s a month ({found.share_lost:.4%} of the time)",
        f"{found.rate_per_s:g} requests/s x {found.load_s:g} s{many} = {found.held_up_each:,.1f} requests held up by "
        f"each restart, {found.held_up_a_day:,.0f} a day, {found.held_up_a_month:,.0f} a month",
    ]
    for share, allowed_s in found.budget_s_a_day:
        verdict = (
            "more than all of it" if found.lost_s_a_day > allowed_s else f"{found.lost_s_a_day / allowed_s:.0%} of it"
        )
        lines.append(
            f"{share:.2%} of a day allows {allowed_s:,.1f} s down: one instance's restarts alone take {verdict}"
        )
    return lines
