"""The nouns of a report's parts, and how plain JSON becomes figures and cells."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from freehold.core import Json, Record
from freehold.sizing.figure import Figure, amount
from freehold.sizing.report.plot import Plot
from freehold.sizing.report.run import Run


class Table(Record, frozen=True):
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Section(Record, frozen=True):
    title: str
    text: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    """A list below the text."""
    plot: Plot | None = None
    figures: tuple[Figure, ...] = ()
    table: Table | None = None
    """The plot's numbers, or a table of its own."""


def same_source(figures: tuple[Figure, ...]) -> str:
    """The source that most of the figures share, to be said once; empty where there is none."""
    counts = Counter(figure.source for figure in figures)
    source, count = counts.most_common(1)[0] if counts else ("", 0)
    return source if count > 1 else ""


def command_of(run: Run, file: str) -> str:
    told = run.files.get(file, {})
    return str(told.get("command") or run.files.get("manifest.json", {}).get("command") or file)


def figure_of(told: Json, name: str = "") -> Figure:
    """From JSON, where infinity is null."""
    value = math.inf if told.get("value") is None else float(told["value"])
    low, high = told.get("low"), told.get("high")
    if low is not None and high is None:
        high = math.inf
    return Figure(
        name=name or told["name"], value=value, low=low, high=high, unit=told.get("unit", ""),
        basis=told.get("basis", "assumed"), source=told.get("source", ""),
    )  # fmt: skip


def renamed(figure: Figure, name: str) -> Figure:
    return Figure(
        name=name, value=figure.value, low=figure.low, high=figure.high, unit=figure.unit, basis=figure.basis,
        source=figure.source,
    )  # fmt: skip


def cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int | float):
        return amount(float(value))
    if isinstance(value, list | tuple):
        return ", ".join(cell(one) for one in value) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{key} {cell(one)}" for key, one in value.items())
    return str(value)
