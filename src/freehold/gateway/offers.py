"""The models that are loaded when somebody asks for them, as their supervisor tells: which there are, how far each is,
and why one can't be had now.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from freehold.core import Failure, ModelCard
from freehold.errors import Unavailable
from freehold.model_status import ModelStatus


class Offers:
    """In the order in which they were named; the first is meant where a request names none. Empty where every model
    stays once it is loaded."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._offers: dict[str, ModelStatus] = {}
        self._heard_s = 0.0
        self._clock_s = clock_s

    def told(self, models: Sequence[ModelStatus]) -> None:
        self._offers = {model.name: model for model in models}
        self._heard_s = self._clock_s()

    def __bool__(self) -> bool:
        return bool(self._offers)

    def __contains__(self, name: str) -> bool:
        return name in self._offers

    def all(self) -> list[ModelStatus]:
        return list(self._offers.values())

    def names(self) -> list[str]:
        return list(self._offers)

    def why_nobody(self) -> str:
        """Why there is no worker, where that is as it should be."""
        away = [offer.name for offer in self._offers.values() if offer.state == "unloaded"]
        return f"Loaded when asked for: {', '.join(away)}." if away else ""

    def first(self) -> str:
        return next(iter(self._offers))

    def cards(self) -> dict[str, ModelCard]:
        """Of those that have been loaded before: what they can is known, and their requests can be accepted."""
        return {name: offer.card for name, offer in self._offers.items() if offer.card is not None}

    def failed(self) -> dict[str, Failure]:
        """Those that couldn't be loaded, and are not tried again yet."""
        return {
            name: offer.failure
            for name, offer in self._offers.items()
            if offer.state == "failed" and offer.failure is not None
        }

    def some(self) -> bool:
        """At least one can be had."""
        return any(offer.state != "failed" for offer in self._offers.values())

    def some_served(self) -> bool:
        """At least one can be had that has been loaded before: it works."""
        return any(offer.state != "failed" and offer.card is not None for offer in self._offers.values())

    def some_away(self) -> bool:
        """Somebody must be told when a request for them is accepted."""
        return any(offer.state != "loaded" for offer in self._offers.values())

    def ready_in_s(self, name: str) -> float:
        """About when it will serve; 0 if it isn't one of these."""
        offer = self._offers.get(name)
        return max(0.0, offer.ready_in_s - self._passed_s()) if offer is not None else 0.0

    def check(self, name: str) -> None:
        """Raises `Unavailable` if it can't be had now."""
        failure = self.failed().get(name)
        if failure is not None:
            raise unavailable(name, failure, max(0.0, self._offers[name].retry_in_s - self._passed_s()))

    def _passed_s(self) -> float:
        return self._clock_s() - self._heard_s


def unavailable(name: str, failure: Failure, retry_in_s: float = 0.0) -> Unavailable:
    """What a client is told whose model could not be loaded."""
    why = " ".join(part for part in (failure.what, failure.why) if part)
    when = f"It is tried again in {retry_in_s:.0f} s." if retry_in_s else "It is tried again later."
    error = Unavailable(f"The model {name!r} can't be loaded.", why, when)
    error.retry_after_s = max(1.0, retry_in_s)
    return error
