"""What an API asks for input, cached and output tokens, from the `genai-prices` package, with its age.

The package is a maintained list that comes with its own release and is read without any network. It tells no day on
which a price was checked, so the age is that of its newest dated price: the list is at least as fresh as that.
"""

from __future__ import annotations

import datetime
from difflib import get_close_matches
from importlib import metadata
from typing import TYPE_CHECKING, Any

from freehold.core import Record
from freehold.errors import UsageError

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot


class ApiPrice(Record, frozen=True):
    """US dollars a million tokens."""

    model: str
    input_usd: float
    cached_usd: float
    """Prompt tokens that the API found in its cache."""
    output_usd: float
    as_of: str
    """ISO date."""
    source: str
    batch_discount: float = 0.5
    """Share taken off in the batch interface."""

    def age_days(self, today: datetime.date) -> int:
        return (today - datetime.date.fromisoformat(self.as_of)).days


def from_package(model: str, today: datetime.date, input_tokens: float = 0.0) -> ApiPrice:
    """`model`, or `PROVIDER/model`, from genai-prices; tiers by `input_tokens`. Raises `UsageError` with near names."""
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    provider, _, name = model.rpartition("/")
    try:
        owner, info = snapshot.find_provider_model(name or model, None, provider or None, None)
    except LookupError:
        raise _unknown(model, snapshot) from None
    price = info.get_prices(datetime.datetime.combine(today, datetime.time(12), datetime.UTC))
    read, written = _usd(price.input_mtok, input_tokens), _usd(price.output_mtok, input_tokens)
    if read is None or written is None:
        raise UsageError(f"genai-prices has no price a token for {model}.", next="Give it with --prices FILE.")
    cached = _usd(price.cache_read_mtok, input_tokens)
    return ApiPrice(
        model=f"{owner.id}/{info.id}",
        input_usd=read,
        cached_usd=read if cached is None else cached,
        output_usd=written,
        as_of=_newest(snapshot, today).isoformat(),
        source=f"genai-prices {metadata.version('genai-prices')}",
    )


def _usd(price: Any, input_tokens: float) -> float | None:
    """A plain price, or the tier that a prompt of this length falls into."""
    if price is None:
        return None
    value = getattr(price, "base", price)
    for tier in getattr(price, "tiers", ()):
        if input_tokens >= tier.start:
            value = tier.price
    return float(value)


def _newest(snapshot: DataSnapshot, today: datetime.date) -> datetime.date:
    """The newest date at which a price of the list began, up to today."""
    models = (model for provider in snapshot.providers for model in provider.models)
    conditional = (each for model in models if isinstance(model.prices, list) for each in model.prices)
    starts = (getattr(each.constraint, "start_date", None) for each in conditional)
    return max((day for day in starts if day and day <= today), default=datetime.date(2025, 1, 1))


def _unknown(model: str, snapshot: DataSnapshot) -> UsageError:
    names = sorted({each.id for provider in snapshot.providers for each in provider.models})
    near = get_close_matches(model.rpartition("/")[2], names, n=3, cutoff=0.5)
    return UsageError(
        f"genai-prices knows no model {model!r}.",
        f"Near it: {', '.join(near)}." if near else "",
        "Name it as the API does, or give its prices with --prices FILE.",
    )
