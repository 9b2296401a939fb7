"""What a search is given, tells while it goes on, and hands back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from freehold.core import Record
from freehold.sizing.bracket import Rung
from freehold.sizing.sequential import Standing, Verdict
from freehold.slo import Objective

Outcome = Literal["found", "none", "beyond"]
"""`none`: no rate keeps the SLO; the knee is 0. `beyond`: it holds up to all that this client can send; the knee is
that rate."""


class Plan(Record, frozen=True):
    """How much time the search may take, and how narrow the interval should be."""

    longest_s: float = 600.0
    """Measuring time of everything together."""
    precision: float = 0.05
    """Half the width of the interval, as a share of the knee, at which the search ends."""
    confidence: float = 0.9
    trials: int = 5
    """Into about so many trials the time is divided; those that end early leave theirs to the others."""
    ladder_share: float = 0.15
    """Of the time, at most, for the closed loops."""


class Tried(Record, frozen=True):
    """One open-loop trial, ended."""

    rate_per_s: float
    seconds: float
    verdict: Verdict
    standings: tuple[Standing, ...]
    rising: bool
    late: bool = False
    """The client could not send on time; a miss here is no evidence."""


class Found(Record, frozen=True):
    """Where the knee is, and what was done to find it."""

    outcome: Outcome
    knee_per_s: float
    low_per_s: float
    high_per_s: float
    confidence: float
    seconds: float
    binding: Objective
    """The one that breaks first."""
    ladder: tuple[Rung, ...]
    tried: tuple[Tried, ...]


class Progress(Record, frozen=True):
    """What goes on, for whoever watches: a rung that was left, or a look at the trial that runs."""

    seconds: float
    """Measured so far."""
    rung: Rung | None = None
    number: int = 0
    rate_per_s: float = 0.0
    trial_s: float = 0.0
    requests: int = 0
    rising: bool = False
    low_per_s: float = 0.0
    high_per_s: float = 0.0
    """Where the knee lay before this trial."""


Watch = Callable[[Progress], None]
