"""Where own instances become cheaper than the API: a staircase against a line, with a band over what isn't known.

On the n-th step own cost falls below the API's at `(fixed + (n + spares) * instance) / (api - answer)`, if the step is
long enough. So the first volume that pays, and the one past which it always pays, have a closed form; a test holds both
to a search by brute force. "Never" is infinity. The band is Monte Carlo; what moves the answer is told one input
at a time.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from freehold.core import Record
from freehold.sizing import cost
from freehold.sizing.cost import Shape, shape
from freehold.sizing.figure import Figure
from freehold.sizing.inputs import Inputs, case, draw, replaced

DRAWS = 4000
BAND = (0.05, 0.95)
POINTS = 160


class Swing(Record, frozen=True):
    """What one input does, all others at their values."""

    name: str
    low: float
    high: float
    difference_low_usd: float
    """Own less API a month, at the input's low end."""
    difference_high_usd: float
    flips: bool
    """One end says keep the API, the other says self-host."""

    @property
    def swing_usd(self) -> float:
        return abs(self.difference_high_usd - self.difference_low_usd)


class Staircase(Record, frozen=True):
    """Monthly US dollars over answers a month: own cost with its band of 90 %, and the API's with its."""

    answers: tuple[float, ...]
    own_usd: tuple[float, ...]
    own_low_usd: tuple[float, ...]
    own_high_usd: tuple[float, ...]
    api_usd: tuple[float, ...]
    api_low_usd: tuple[float, ...]
    api_high_usd: tuple[float, ...]


class BreakEven(Record, frozen=True):
    first: Figure
    """Answers a month from which own instances are cheaper at all; infinity: never."""
    for_good: Figure
    """Answers a month past which no new instance makes the API cheaper again."""
    never_share: float
    """Of the draws, those in which own instances are never cheaper."""
    cheaper_share: float
    """Of the draws, those in which they are cheaper at the volume asked for."""
    draws: int
    seed: int


def first(six: Shape) -> Any:
    """The smallest volume at which own cost is no more than the API's; infinity where there is none."""
    return _at(six, 0.0)


def for_good(six: Shape) -> Any:
    """The volume past which own cost is never more than the API's again; infinity where there is none."""
    return _at(six, 1.0)


def _at(six: Shape, behind: float) -> Any:
    """Solves the first step that pays at its end (`behind` 0), or that before the first one to pay at its start (1)."""
    gain = np.asarray(six.api_usd - six.answer_usd, float)  # a volume at which it pays grows with this
    full = gain * six.instance_answers - six.instance_usd  # what a full instance gains
    base = six.fixed_usd + six.spares * six.instance_usd
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        step = np.ceil((base + behind * gain * six.instance_answers) / full - cost.WHOLE)
        step = np.maximum(step - behind, 1)
        volume = (base + step * six.instance_usd) / gain
    return np.where((gain > 0) & (full > 0), volume, np.inf)


def break_even(inputs: Inputs, answers: float, *, draws: int = DRAWS, seed: int = 1) -> BreakEven:
    """Both volumes with a band of 90 %, and how often own instances are cheaper at `answers`."""
    six, many = shape(case(inputs)), shape(draw(inputs, draws, seed))
    firsts = np.broadcast_to(first(many), draws)
    own, api = cost.own_usd(many, answers), many.api_usd * answers
    how = _how(draws, seed)
    return BreakEven(
        first=_figure("first", float(first(six)), firsts, how),
        for_good=_figure("for_good", float(for_good(six)), np.broadcast_to(for_good(many), draws), how),
        never_share=float(np.isinf(firsts).mean()),
        cheaper_share=float(np.broadcast_to(own <= api, draws).mean()),
        draws=draws,
        seed=seed,
    )


def staircase(inputs: Inputs, answers: float, *, draws: int = DRAWS, seed: int = 1) -> Staircase:
    """Both costs from nothing to well past the volume asked for and, if it is not too far, past the break-even."""
    six, many = shape(case(inputs)), shape(draw(inputs, draws, seed))
    flip = float(for_good(six))
    end = 2 * max(answers, min(flip, 20 * answers) if np.isfinite(flip) else 0)
    grid = np.linspace(end / POINTS, end, POINTS)
    own = np.array([np.quantile(np.broadcast_to(cost.own_usd(many, v), draws), BAND) for v in grid])
    api = np.array([np.quantile(np.broadcast_to(many.api_usd * v, draws), BAND) for v in grid])
    return Staircase(
        answers=tuple(grid.tolist()),
        own_usd=tuple(float(cost.own_usd(six, v)) for v in grid),
        own_low_usd=tuple(own[:, 0].tolist()),
        own_high_usd=tuple(own[:, 1].tolist()),
        api_usd=tuple(float(six.api_usd * v) for v in grid),
        api_low_usd=tuple(api[:, 0].tolist()),
        api_high_usd=tuple(api[:, 1].tolist()),
    )


def own_band(inputs: Inputs, answers: float, *, draws: int = DRAWS, seed: int = 1) -> Figure:
    """Own month at `answers`, with a band of 90 %."""
    value = float(cost.own_usd(shape(case(inputs)), answers))
    drawn = np.broadcast_to(cost.own_usd(shape(draw(inputs, draws, seed)), answers), draws)
    figure = _figure("own_usd", value, drawn, _how(draws, seed))
    return msgspec.structs.replace(figure, unit="USD/month")


def swings(inputs: Inputs, answers: float) -> list[Swing]:
    """Every uncertain input by how far it moves the difference at `answers`, widest first: one at a time."""
    found = []
    for name, figure in inputs.items():
        if figure.exact:
            continue
        low, high = figure.ends
        ends = [_difference(shape(replaced(inputs, name, value)), answers) for value in (low, high)]
        flips = min(ends) <= 0 < max(ends)
        found.append(
            Swing(name=name, low=low, high=high, difference_low_usd=ends[0], difference_high_usd=ends[1], flips=flips)
        )
    return sorted((one for one in found if one.swing_usd > 0), key=lambda one: -one.swing_usd)


def _difference(six: Shape, answers: float) -> float:
    return float(cost.own_usd(six, answers) - six.api_usd * answers)


def _how(draws: int, seed: int) -> str:
    return f"Monte Carlo over the intervals of the inputs, {draws} draws, seed {seed}"


def _figure(name: str, value: float, drawn: Any, how: str) -> Figure:
    low, high = np.quantile(drawn, BAND, method="inverted_cdf")  # of infinities too: no interpolation
    low, high = min(float(low), value), max(float(high), value)
    return Figure(name=name, value=value, low=low, high=high, unit="answers/month", basis="derived", source=how)
