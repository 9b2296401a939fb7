"""The catalogue of hardware: what a machine costs to buy, to rent and to run, and what its physics allow.

`hardware.toml` beside this file has dated rows with a source for each kind of figure; a file of the owner's in the same
form overrides rows or adds some. A card needs a host around it; a box is whole.
"""

from __future__ import annotations

import datetime
import tomllib
from difflib import get_close_matches
from importlib import resources
from typing import Literal

import msgspec

from freehold.core import Record
from freehold.errors import ConfigError, UsageError
from freehold.sizing.figure import Figure, parse

OLD_DAYS = 180
"""A price older than this is told to be old."""


class Hardware(Record, frozen=True, forbid_unknown_fields=True):
    """One row. Prices and watts are texts like `2000` or `1600..2000..2800`; an empty one is not known."""

    label: str
    kind: Literal["card", "box"]
    memory_gb: float
    """10^9 bytes."""
    bandwidth_gb_s: float
    peak_tflops: float
    """16 bit, dense, accumulated in 32 bit."""
    spec_source: str
    date: str
    """When the prices were looked up."""
    idle_w: str = ""
    busy_w: str = ""
    power_source: str = ""
    price_usd: str = ""
    price_source: str = ""
    rent_usd_per_hour: str = ""
    rent_source: str = ""
    count: int = 1
    """Cards in one instance."""

    @property
    def memory_bytes(self) -> float:
        return self.memory_gb * 1e9 * self.count

    @property
    def bandwidth_bytes_per_s(self) -> float:
        return self.bandwidth_gb_s * 1e9 * self.count

    @property
    def peak_flops(self) -> float:
        return self.peak_tflops * 1e12 * self.count

    def age_days(self, today: datetime.date) -> int:
        return (today - datetime.date.fromisoformat(self.date)).days


class Host(Record, frozen=True, forbid_unknown_fields=True):
    """The computer around cards."""

    price_usd: str
    idle_w: str
    busy_w: str
    source: str
    date: str


class Catalogue(Record, frozen=True, forbid_unknown_fields=True):
    hardware: dict[str, Hardware] = {}
    host: Host | None = None


def built_in() -> Catalogue:
    data = (resources.files("freehold") / "sizing" / "hardware.toml").read_bytes()
    return parse_catalogue(data, "hardware.toml")


def parse_catalogue(data: bytes, where: str) -> Catalogue:
    """A catalogue from TOML; raises `ConfigError` that names the file and the field."""
    try:
        found = msgspec.convert(tomllib.loads(data.decode()), Catalogue)
        for row in found.hardware.values():
            datetime.date.fromisoformat(row.date)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError, ValueError) as error:
        raise ConfigError(f"Wrong hardware catalogue in {where}.", f"{error}.") from None
    return found


def with_own(catalogue: Catalogue, own: Catalogue) -> Catalogue:
    """`own` rows before those that come along."""
    return Catalogue(hardware={**catalogue.hardware, **own.hardware}, host=own.host or catalogue.host)


def choose(catalogue: Catalogue, name: str) -> Hardware:
    """A row by name, or `2x NAME` for two of a card in one instance. Raises `UsageError` with the nearest name."""
    times, _, rest = name.rpartition("x ")
    count = int(times) if times.strip().isdigit() else 1
    row = catalogue.hardware.get((rest if times else name).strip())
    if row is None or count < 1:
        near = get_close_matches(name, catalogue.hardware, n=1, cutoff=0.4)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise UsageError(
            f"No hardware named {name!r} in the catalogue.",
            f"{hint}There are: {', '.join(sorted(catalogue.hardware))}.",
            "Add a row of your own with --catalogue FILE, or say hardware_usd, idle_w and busy_w with --set.",
        )
    return msgspec.structs.replace(row, count=count * row.count)


def figures(row: Hardware, host: Host | None, *, rented: bool, today: datetime.date) -> dict[str, Figure]:
    """The inputs of the money that one instance of `row` fills. Rent includes the power."""
    if rented:
        rent = _times(
            "rent_usd_per_hour", row.rent_usd_per_hour, row.count, "USD/hour", _said(row, row.rent_source, today)
        )
        return {"rent_usd_per_hour": _wanted(rent, row, "rent")}
    price = _times("hardware_usd", row.price_usd, row.count, "USD", _said(row, row.price_source, today))
    found = {
        "hardware_usd": _wanted(price, row, "price"),
        "idle_w": _wanted(_times("idle_w", row.idle_w, row.count, "W", row.power_source), row, "idle power"),
        "busy_w": _wanted(_times("busy_w", row.busy_w, row.count, "W", row.power_source), row, "busy power"),
    }
    if row.kind == "card" and host:
        for name, text in (("hardware_usd", host.price_usd), ("idle_w", host.idle_w), ("busy_w", host.busy_w)):
            found[name] = _sum(found[name], parse(name, text), f"host: {host.source}")
    return found


def _said(row: Hardware, source: str, today: datetime.date) -> str:
    age = row.age_days(today)
    old = ", OLD: look it up again" if age > OLD_DAYS else ""
    return f"{source} ({row.date}, {age} days ago{old})"


def _times(name: str, text: str, count: int, unit: str, source: str) -> Figure | None:
    if not text:
        return None
    one = parse(name, text)
    low, high = one.ends
    return Figure(name=name, value=one.value * count, low=low * count, high=high * count, unit=unit, source=source)


def _wanted(figure: Figure | None, row: Hardware, what: str) -> Figure:
    if figure is None:
        raise UsageError(
            f"The catalogue knows no {what} for {row.label}.",
            next="Say it with --set, rent it with --rent, or add a row of your own with --catalogue FILE.",
        )
    return figure


def _sum(card: Figure, host: Figure, source: str) -> Figure:
    low, high = (a + b for a, b in zip(card.ends, host.ends, strict=True))
    return msgspec.structs.replace(
        card, value=card.value + host.value, low=low, high=high, source=f"{card.source}; {source}"
    )
