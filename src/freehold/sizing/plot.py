"""A plot of dots for the terminal: latency over rate, the limit across it, the knee down it. Text in, text out.

A character of Braille holds two by four dots, so 60 columns by 14 rows show 120 by 56 points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Braille dot of (row, column) within a character."""
EMPTY = 0x2800


class Point(NamedTuple):
    """One rate: the figure, and its interval."""

    x: float
    y: float
    low: float
    high: float


def plot(
    points: Sequence[Point],
    limit: float,
    knee: tuple[float, float, float] | None,
    *,
    title: str,
    columns: int = 60,
    rows: int = 14,
) -> str:
    """`points` on a logarithmic y axis, `limit` as a dashed line, `knee` (low, middle, high) as a dotted one with its
    interval on the x axis. Points that aren't finite are left out; none left: an empty string."""
    shown = sorted(p for p in points if math.isfinite(p.y) and p.y > 0)
    if not shown:
        return ""
    ys = [y for p in shown for y in (p.y, p.low, p.high) if math.isfinite(y) and y > 0]
    bottom, top = min(*ys, limit) / 1.2, max(*ys, limit) * 1.2
    right = 1.05 * max(*(p.x for p in shown), knee[2] if knee and math.isfinite(knee[2]) else 0.0)
    field = _Field(columns, rows, right, bottom, top)
    for p in shown:
        low, high = max(p.low, bottom), min(p.high, top)
        field.line(p.x, low, p.x, high)
    for a, b in pairwise(shown):
        field.line(a.x, a.y, b.x, b.y)
    field.across(limit)
    if knee:
        field.down(knee[1])
    labels = {0: _number(top), rows - 1: _number(bottom), field.row(limit) // 4: f"limit {_number(limit)}"}
    lines = [title]
    lines += [f"{labels.get(i, ''):>12} │{text}" for i, text in enumerate(field.text())]
    lines.append(f"{'':>12} └{_axis(columns, right, knee)}")
    lines.append(f"{'':>13}0{_number(right):>{columns - 1}} requests/s")
    return "\n".join(lines)


def _axis(columns: int, right: float, knee: tuple[float, float, float] | None) -> str:
    """The x axis, the interval of the knee drawn thick."""
    line = ["─"] * columns
    if knee:
        low, middle, high = (min(columns - 1, int(min(x, right) / right * columns)) for x in knee)
        line[low : high + 1] = "━" * (high + 1 - low)
        line[middle] = "▲"
    return "".join(line)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


class _Field:
    """The dots. x from 0 to `right`, y logarithmic from `bottom` to `top`."""

    def __init__(self, columns: int, rows: int, right: float, bottom: float, top: float) -> None:
        self.cells = [[0] * columns for _ in range(rows)]
        self.wide, self.high = 2 * columns, 4 * rows
        self.right, self.bottom, self.span = right, bottom, math.log(top / bottom)

    def column(self, x: float) -> int:
        return min(self.wide - 1, max(0, int(x / self.right * self.wide)))

    def row(self, y: float) -> int:
        up = math.log(max(y, self.bottom) / self.bottom) / self.span
        return min(self.high - 1, max(0, int((1 - up) * self.high)))

    def dot(self, column: int, row: int) -> None:
        self.cells[row // 4][column // 2] |= BITS[row % 4][column % 2]

    def line(self, x0: float, y0: float, x1: float, y1: float) -> None:
        c0, r0, c1, r1 = self.column(x0), self.row(y0), self.column(x1), self.row(y1)
        steps = max(abs(c1 - c0), abs(r1 - r0), 1)
        for i in range(steps + 1):
            self.dot(round(c0 + (c1 - c0) * i / steps), round(r0 + (r1 - r0) * i / steps))

    def across(self, y: float) -> None:
        for column in range(0, self.wide, 3):
            self.dot(column, self.row(y))

    def down(self, x: float) -> None:
        for row in range(0, self.high, 3):
            self.dot(self.column(x), row)

    def text(self) -> list[str]:
        return ["".join(chr(EMPTY + cell) for cell in cells) for cells in self.cells]
