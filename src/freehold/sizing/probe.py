"""The one window through which sizing sees a server: trials that yield samples as time goes by.

Whoever implements it owns the clock and the network (the load client) or pretends to (`synthetic.py`). Closing the
iterator ends the trial; samples still under way are then given up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from freehold.sample import Sample

Trial = Iterator[tuple[float, list[Sample]]]
"""(seconds since the trial began, samples that ended since the last time), a few times a second or more seldom.
Samples are numbered in the order of their intended send times, from 0 on, without holes."""


class Probe(Protocol):
    """A server that can be put under load, one trial at a time."""

    @property
    def ceiling_per_s(self) -> float:
        """The most requests per second that this client can send on time; infinity if it has no limit."""
        ...

    def open(self, rate_per_s: float, seed: int) -> Trial:
        """Requests at that mean rate, whether or not the server keeps up."""
        ...

    def closed(self, users: int) -> Trial:
        """`users` that each ask again as soon as they have their answer."""
        ...


def end(trial: Trial) -> None:
    """End `trial` early; a plain iterator has nothing to end."""
    close = getattr(trial, "close", None)
    if close is not None:
        close()
