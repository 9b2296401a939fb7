"""A number that says how it was got: measured, derived or assumed, with its interval and its command or source.

Everything that cost, verdict and report print is a `Figure`. People write one as `4`, `1.5M`, `2..8` or `2..4..8`
(low, value, high); a figure without an interval is taken as exact.
"""

from __future__ import annotations

import math
import re

from freehold.core import Record
from freehold.errors import UsageError
from freehold.profile import Basis

SUFFIXES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12, "%": 0.01}
_NUMBER = re.compile(r"([0-9][0-9_,]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?|\.[0-9]+)\s*([kKMBGT%]?)")


class Figure(Record, frozen=True, omit_defaults=False):
    """Always written out with its tag. `low` and `high` are None where the value is taken as exact; the value may be
    infinite ("never")."""

    name: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    basis: Basis = "assumed"
    source: str = ""
    """The command that measured it, the formula that derived it, or where the assumption comes from."""

    @property
    def ends(self) -> tuple[float, float]:
        """Low and high; the value twice where it is exact."""
        return (
            self.value if self.low is None else self.low,
            self.value if self.high is None else self.high,
        )

    @property
    def exact(self) -> bool:
        return self.ends == (self.value, self.value)


def parse(name: str, text: str, *, unit: str = "", basis: Basis = "assumed", source: str = "") -> Figure:
    """`text` as a figure. Raises `UsageError` that names it."""
    parts = [_number(name, part) for part in text.split("..")]
    if len(parts) > 3 or parts != sorted(parts):
        raise UsageError(f"{name}: {text!r} is no interval.", next="Write it as VALUE, LOW..HIGH or LOW..VALUE..HIGH.")
    if len(parts) == 1:
        return Figure(name=name, value=parts[0], unit=unit, basis=basis, source=source)
    low, high = parts[0], parts[-1]
    value = parts[1] if len(parts) == 3 else (low + high) / 2
    return Figure(name=name, value=value, low=low, high=high, unit=unit, basis=basis, source=source)


def _number(name: str, text: str) -> float:
    found = _NUMBER.fullmatch(text.strip().removeprefix("$"))
    if not found:
        raise UsageError(
            f"{name}: {text!r} is no number.",
            next="Write it plainly or with k, M, B or %, like 250k; an interval as 2..8 or 2..4..8.",
        )
    return float(re.sub("[_,]", "", found[1])) * SUFFIXES[found[2]]


# ---- for people ---------------------------------------------------------------------------------


def amount(value: float) -> str:
    """Three significant digits, with k, M or B: `1.25M`."""
    if math.isinf(value):
        return "never"
    for limit, suffix in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit * 0.9995:
            return f"{_digits(value / (1e3 if suffix == 'k' else limit))}{suffix}"
    if abs(value) >= 999.5:
        return f"{value:,.0f}"
    return _digits(value)


def usd(value: float) -> str:
    """Dollars as precise as anybody needs: `$1,234`, `$12.30`, `$0.00049`."""
    if math.isinf(value):
        return "never"
    if value < 0:
        return f"-{usd(-value)}"
    if value >= 1e6:
        return f"${amount(value)}"
    if value >= 100:
        return f"${value:,.0f}"
    if value >= 1 or value == 0:
        return f"${value:,.2f}"
    return f"${_plain(value, 3)}"


def shown(figure: Figure) -> str:
    """Value with unit and, where there is one, the interval."""
    write = usd if figure.unit.startswith("USD") else amount
    unit = figure.unit.removeprefix("USD")
    per = f" {unit}" if unit and not unit.startswith("/") else unit
    text = f"{write(figure.value)}{per}"
    low, high = figure.ends
    above = "no upper end" if math.isinf(high) and figure.unit == "ms" else write(high)
    return text if figure.exact else f"{text} ({write(low)} to {above})"


def _digits(value: float) -> str:
    return _plain(value, 3)


def _plain(value: float, digits: int) -> str:
    """`digits` significant digits without an exponent and without trailing zeros."""
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
