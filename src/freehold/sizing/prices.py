"""What an API asks, from a file of the user's own, or as `api_prices` finds it; and as inputs of the money."""

from __future__ import annotations

import datetime
import tomllib

import msgspec

from freehold.api_prices import ApiPrice
from freehold.core import Record
from freehold.errors import ConfigError, UsageError
from freehold.sizing.figure import Figure

OLD_DAYS = 90


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
