"""What an API asks for input, cached and output tokens, from a file or the `genai-prices` package, with its age.

The package is a maintained list that comes with its own release and is read without any network. It tells no day on
which a price was checked, so the age is that of its newest dated price: the list is at least as fresh as that.
"""

from __future__ import annotations

import datetime
import tomllib
from difflib import get_close_matches
from importlib import metadata
from typing import TYPE_CHECKING, Any

import msgspec

from freehold.core import Record
from freehold.errors import ConfigError, UsageError
from freehold.sizing.figure import Figure

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot

OLD_DAYS = 90


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


class _Row(Record, frozen=True, forbid_unknown_fields=True):
    input_usd: float
    output_usd: float
    cached_usd: float | None = None
    batch_discount: float = 0.5


class _File(Record, frozen=True, forbid_unknown_fields=True):
    as_of: datetime.date
    source: str
    models: dict[str, _Row]


def from_file(data: bytes, where: str, model: str) -> ApiPrice:
    """`model` from a price file in TOML or JSON. `ConfigError` for a wrong file, `UsageError` for a missing model."""
    try:
        raw = msgspec.json.decode(data) if where.endswith(".json") else tomllib.loads(data.decode())
        found = msgspec.convert(raw, _File)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise ConfigError(
            f"Wrong price file {where}.",
            f"{error}.",
            "It has as_of, source and [models.NAME] with input_usd and output_usd.",
        ) from None
    row = found.models.get(model)
    if row is None:
        raise UsageError(f"{where} has no price for {model!r}.", f"It has: {', '.join(found.models)}.")
    prices = [row.input_usd, row.output_usd, row.cached_usd or 0.0, row.batch_discount]
    if any(not 0 <= price < float("inf") for price in prices) or row.batch_discount > 1:
        raise ConfigError(f"Wrong price for {model!r} in {where}.", "A price is finite and not negative.")
    return ApiPrice(
        model=model,
        input_usd=row.input_usd,
        output_usd=row.output_usd,
        cached_usd=row.input_usd if row.cached_usd is None else row.cached_usd,
        batch_discount=row.batch_discount,
        as_of=found.as_of.isoformat(),
        source=f"{found.source} (in {where})",
    )


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


def figures(price: ApiPrice, today: datetime.date) -> dict[str, Figure]:
    """The inputs of the money that a price list fills."""
    age = price.age_days(today)
    old = ", OLD: look it up again" if age > OLD_DAYS else ""
    source = f"{price.model}: {price.source}, as of {price.as_of}, {age} days ago{old}"
    values = {
        "api_input_usd": price.input_usd,
        "api_cached_usd": price.cached_usd,
        "api_output_usd": price.output_usd,
    }
    found = {name: Figure(name=name, value=value, unit="USD/M tokens", source=source) for name, value in values.items()}
    found["api_batch_discount"] = Figure(name="api_batch_discount", value=price.batch_discount, source=source)
    return found


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
