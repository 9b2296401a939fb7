"""Money as it is spent: what a slot cost, what the chosen API would have asked, and whether a success gets dearer."""

from __future__ import annotations

import datetime
import math

from freehold.api_prices import ApiPrice, from_package
from freehold.telemetry.slot import Part, Slot

HOUR_S = 3600.0
MEMORY_H = 24.0
"""The baseline of the cost of a success forgets half of what it knows in so many hours."""


def slot_usd(price_per_hour_usd: float, seconds: float) -> float | None:
    """What so much time cost, used or not; None without a price."""
    return price_per_hour_usd * seconds / HOUR_S if price_per_hour_usd else None


class ApiCost:
    """An API's prices, applied to what ended well here. Prompts that were found in our cache count at the API's price
    for cached ones: a saving is told rather too small than too large."""

    def __init__(self, price: ApiPrice) -> None:
        self.price = price

    def usd(self, slot: Slot) -> float:
        """What the API would have asked for the answers of a slot."""
        return sum(self.of(part) for part in slot.parts.values())

    def of(self, part: Part) -> float:
        fresh_tokens = part.useful_prompt_tokens - part.useful_cached_tokens
        return (
            fresh_tokens * self.price.input_usd
            + part.useful_cached_tokens * self.price.cached_usd
            + part.useful_tokens * self.price.output_usd
        ) / 1e6


def api_cost(against: str, today: datetime.date) -> ApiCost:
    """Of `observe.against`. Reads the price list (a part of a second). Raises `UsageError` for an unknown model."""
    return ApiCost(from_package(against, today))


class Drift:
    """The cost of a success over the last hour against its own past: an average of the hours before, the newest
    counting most."""

    def __init__(self) -> None:
        self._usd = self._seconds = 0.0
        self._successes = 0
        self._mean: float | None = None
        self._last: float | None = None

    def add(self, slot: Slot) -> None:
        """Slots without a price tell nothing, and hours without a success have no cost of one."""
        if slot.cost_usd is None:
            return
        self._usd += slot.cost_usd
        self._seconds += slot.seconds
        self._successes += sum(part.ok for part in slot.parts.values())
        if self._seconds < HOUR_S:
            return
        if self._successes:
            if self._last is not None:
                share = 1.0 - math.exp2(-self._seconds / HOUR_S / MEMORY_H)
                self._mean = self._last if self._mean is None else self._mean + share * (self._last - self._mean)
            self._last = self._usd / self._successes
        self._usd = self._seconds = 0.0
        self._successes = 0

    @property
    def baseline_usd(self) -> float | None:
        """None before two whole hours with successes have passed."""
        return self._mean

    @property
    def ratio(self) -> float | None:
        """The last whole hour over the baseline: 1.25 is a quarter dearer."""
        return None if self._mean is None or not self._mean or self._last is None else self._last / self._mean
