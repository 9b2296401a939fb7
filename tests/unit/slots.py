"""Slots made up for tests: what ended in ten seconds, in a few words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from freehold.sketch import Sketch
from freehold.telemetry.slot import Metric, Part, Slot

BEGIN_S = 1_800_000_000.0
VARIANT = "tester"


def part(ok: int = 0, *, missed: int = 0, **more: Any) -> Part:
    """`more`: fields of `Part`, or a metric's value in ms (or several), which all `ok` share."""
    sketches = {}
    for metric in ("ttft", "itl", "tpot", "e2e", "queue", "step"):
        if metric in more:
            given = more.pop(metric)
            sketch = Sketch()
            for value in given if isinstance(given, Sequence) else [given] * max(1, ok):
                sketch.add(value)
            sketches[metric] = sketch.told()
    told: dict[Metric, Any] = sketches  # type: ignore[assignment]
    return Part(ok=ok, good=ok - missed, sketches=told, **more)


def slot(number: int, ok: int = 0, *, seconds: float = 10.0, server: dict[str, Any] | None = None, **more: Any) -> Slot:
    """The slot of that number since `BEGIN_S`; `server`: fields of `Slot`, `more`: of its one part."""
    parts = {VARIANT: part(ok, **more)} if ok or more else {}
    return Slot(begin_unix_s=BEGIN_S + seconds * number, seconds=seconds, parts=parts, **(server or {}))
