"""Plots as plain SVG text: lines, steps, bands, dots and rules on linear or logarithmic axes. No colours here.

Classes (`c1`, `band`, `rule`) are coloured by page.css, so that one drawing serves light, dark and paper. Words
stay out of the drawing but for the ticks: the legend is HTML, and `data-series` feeds the tooltip.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from typing import Literal

from freehold.core import Record
from freehold.sizing.figure import amount

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 78, 14, 14, 58
TICKS = 5

Point = tuple[float, float]
Style = Literal["line", "step", "dots"]


class Series(Record, frozen=True):
    name: str
    points: tuple[Point, ...]
    colour: int
    """1 to 4: a class of page.css, which also tells them apart by dashes."""
    style: Style = "line"


class Band(Record, frozen=True):
    """Between `low` and `high` over the same x."""

    name: str
    x: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    colour: int


class Rule(Record, frozen=True):
    """A line right across at `value`; with `low` and `high` a band around it."""

    name: str
    axis: Literal["x", "y"]
    value: float
    low: float | None = None
    high: float | None = None


class Plot(Record, frozen=True):
    title: str
    says: str
    """What it shows, in a sentence: for people who can't see it."""
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    bands: tuple[Band, ...] = ()
    rules: tuple[Rule, ...] = ()
    log_x: bool = False
    log_y: bool = False


class Scale:
    """Data to pixels along one axis, and the ticks."""

    def __init__(self, values: Sequence[float], pixels: tuple[float, float], *, log: bool) -> None:
        clean = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
        low, high = (min(clean), max(clean)) if clean else (0.0, 1.0)
        self.log, self.pixels = log, pixels
        if log:
            high = max(high, low * 1.1)
            self.ticks = _log_ticks(low, high)
        else:
            high = high if high > min(low, 0) else 1.0
            self.ticks = ticks(min(low, 0.0), high)
        self.low, self.high = min(self.ticks[0], low), max(self.ticks[-1], high)

    def __call__(self, value: float) -> float:
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        place = math.log10(max(value, self.low)) if self.log else value
        share = (place - low) / (high - low)
        return self.pixels[0] + min(max(share, 0.0), 1.0) * (self.pixels[1] - self.pixels[0])


def ticks(low: float, high: float, count: int = TICKS) -> list[float]:
    """Round steps (1, 2 or 5 times a power of ten) that cover low to high."""
    rough = (high - low) / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * k for k in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten that cover low to high; powers alone where that would be many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    if last - first > 3:
        every = math.ceil((last - first) / 7)
        return [10.0**k for k in range(first, last + every, every)]
    grid = [m * 10.0**k for k in range(first, last + 1) for m in (1, 2, 5)]
    below = max((g for g in grid if g <= low * (1 + 1e-9)), default=grid[0])
    above = min((g for g in grid if g >= high * (1 - 1e-9)), default=grid[-1])
    return [g for g in grid if below <= g <= above]


def svg(plot: Plot, name: str) -> str:
    """The drawing; `name` makes its ids unique on the page."""
    x, y = _scales(plot)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{name}-t {name}-d"'
        f' data-series="{_data(plot, x, y)}">',
        f'<title id="{name}-t">{html.escape(plot.title)}</title><desc id="{name}-d">{html.escape(plot.says)}</desc>',
        *_axes(plot, x, y),
        *(_band(band, x, y) for band in plot.bands),
        *(_rule(rule, x, y) for rule in plot.rules),
        *(_series(series, x, y) for series in plot.series),
        '<line class="cursor" y1="0" y2="0" x1="0" x2="0"/></svg>',
    ]
    return "".join(parts)


def _scales(plot: Plot) -> tuple[Scale, Scale]:
    xs = [x for series in plot.series for x, _ in series.points] + [x for band in plot.bands for x in band.x]
    ys = [y for series in plot.series for _, y in series.points]
    ys += [y for band in plot.bands for y in (*band.low, *band.high)]
    for rule in plot.rules:
        ends = [end for end in (rule.value, rule.low, rule.high) if end is not None and math.isfinite(end)]
        (xs if rule.axis == "x" else ys).extend(ends)
    across, up = (LEFT, WIDTH - RIGHT), (HEIGHT - BOTTOM, TOP)
    return Scale(xs, across, log=plot.log_x), Scale(ys, up, log=plot.log_y)


def _axes(plot: Plot, x: Scale, y: Scale) -> list[str]:
    parts = []
    for tick in y.ticks:
        at = f"{y(tick):.1f}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at}" dy=".32em" text-anchor="end">{amount(tick)}</text>')
    for tick in x.ticks:
        at = f"{x(tick):.1f}"
        parts.append(f'<line class="tick" x1="{at}" x2="{at}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM + 5}"/>')
        parts.append(f'<text x="{at}" y="{HEIGHT - BOTTOM + 21}" text-anchor="middle">{amount(tick)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    label = html.escape(plot.x_label)
    parts.append(f'<text class="label" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{label}</text>')
    label, up = html.escape(plot.y_label), (TOP + HEIGHT - BOTTOM) / 2
    turned = f'transform="rotate(-90 16 {up})"'
    parts.append(f'<text class="label" x="16" y="{up}" text-anchor="middle" {turned}>{label}</text>')
    return parts


def _series(series: Series, x: Scale, y: Scale) -> str:
    at = [(x(a), y(b)) for a, b in series.points if math.isfinite(b)]
    if series.style == "dots":
        return "".join(f'<circle class="dot c{series.colour}" cx="{a:.1f}" cy="{b:.1f}" r="2.6"/>' for a, b in at)
    path = _path(at, step=series.style == "step")
    dots = "".join(f'<circle class="dot c{series.colour}" cx="{a:.1f}" cy="{b:.1f}" r="3.2"/>' for a, b in at)
    return f'<path class="line c{series.colour}" d="{path}"/>' + (dots if len(at) <= 20 else "")


def _path(at: list[Point], *, step: bool) -> str:
    """`step`: what holds at a point has held since the one before it."""
    words = []
    for i, (a, b) in enumerate(at):
        if step and i:
            words.append(f"L{at[i - 1][0]:.1f} {b:.1f}")
        words.append(f"{'L' if i else 'M'}{a:.1f} {b:.1f}")
    return "".join(words)


def _band(band: Band, x: Scale, y: Scale) -> str:
    there = [(x(a), y(b)) for a, b in zip(band.x, band.high, strict=True)]
    back = [(x(a), y(b)) for a, b in zip(band.x, band.low, strict=True)]
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in [*there, *reversed(back)])
    return f'<polygon class="band c{band.colour}" points="{points}"/>'


def _rule(rule: Rule, x: Scale, y: Scale) -> str:
    """A knee is a vertical rule with its interval, an SLO a horizontal one."""
    kind = f"rule {rule.axis}"
    if rule.axis == "y":
        at = f"{y(rule.value):.1f}"
        return f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>'
    at, tall = f"{x(rule.value):.1f}", HEIGHT - BOTTOM - TOP
    drawn = f'<line class="{kind}" x1="{at}" x2="{at}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
    if rule.low is None or rule.high is None:
        return drawn
    left, right = x(rule.low), x(rule.high)
    return f'<rect class="between" x="{left:.1f}" y="{TOP}" width="{right - left:.1f}" height="{tall}"/>{drawn}'


def _data(plot: Plot, x: Scale, y: Scale) -> str:
    """What the tooltip needs: pixels and words, nearest x first found."""
    told = [
        {"name": series.name, "at": [[round(x(a), 1), round(y(b), 1), amount(a), amount(b)] for a, b in series.points]}
        for series in plot.series
    ]
    return html.escape(json.dumps({"x": plot.x_label, "y": plot.y_label, "series": told}), quote=True)
