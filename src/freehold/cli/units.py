"""Quantities as people type them: `8GiB`, `10m`."""

from __future__ import annotations

import re

from freehold.errors import UsageError

_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)")
_BYTES = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_DECIMAL = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_SECONDS = {"": 1.0, "s": 1.0, "ms": 0.001, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}


def mebibytes(flag: str, text: str) -> int:
    """`8GiB`, `8G` and `8192MiB` are the same; `8GB` is a little less. Raises `UsageError`."""
    number, unit = _split(flag, text, "8GiB")
    if unit in _DECIMAL:
        size = number * _DECIMAL[unit]
    elif unit.removesuffix("ib") in _BYTES:
        size = number * _BYTES[unit.removesuffix("ib")]
    else:
        raise UsageError(f"{flag} {text} has no unit that is known.", next="Write it as 8GiB or 500MiB.")
    if size < 1 << 20:
        raise UsageError(f"{flag} {text} is less than 1 MiB.", next="Write it as 8GiB or 500MiB.")
    return int(size) >> 20


def seconds(flag: str, text: str) -> float:
    """`90`, `90s`, `1.5m`, `2h`. Raises `UsageError`."""
    number, unit = _split(flag, text, "10m")
    if unit not in _SECONDS:
        raise UsageError(f"{flag} {text} has no unit that is known.", next="Write it as 90s, 10m or 2h.")
    return number * _SECONDS[unit]


def _split(flag: str, text: str, example: str) -> tuple[float, str]:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{flag} {text} is no quantity.", next=f"Write it as {example}.")
    return float(match[1]), match[2].lower()
