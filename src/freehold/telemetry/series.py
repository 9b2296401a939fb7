"""How the numbers went: slots grouped into points. A point that is over never changes, so it is computed once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from freehold.core import Json
from freehold.telemetry import figures
from freehold.telemetry.slot import SLOT_S, Metric, Slot
from freehold.telemetry.sums import all_together
from freehold.telemetry.windows import Whole, whole_of

METRICS: tuple[Metric, ...] = ("ttft", "e2e", "itl", "tpot", "queue", "step")
PLAIN = (
    "begin_unix_s", "queue_depth", "running", "tokens_per_s", "requests_per_s", "failed_per_s", "refused_per_s",
    "cost_per_successful_request_usd", "workers_ready",
)  # fmt: skip
KEPT = 2000
"""Points that are remembered."""


class Point:
    """Some slots that follow each other. `parts` by variant; None where nothing tells."""

    __slots__ = ("parts", "plain")

    def __init__(self, begin_unix_s: float, whole: Whole) -> None:
        sums, seconds = all_together(whole.parts.values()), whole.seconds or SLOT_S
        ended = sums.ok + sums.failed + sums.cancelled + sums.expired
        self.plain: dict[str, float | None] = {
            "begin_unix_s": begin_unix_s,
            "queue_depth": whole.queue_depth,
            "running": whole.running,
            "tokens_per_s": figures.tokens_per_s(sums, seconds),
            "requests_per_s": ended / seconds,
            "failed_per_s": (sums.failed + sums.expired) / seconds,
            "refused_per_s": sums.refused.total() / seconds,
            "cost_per_successful_request_usd": figures.per_success_usd(whole.cost_usd, sums.ok),
            "workers_ready": whole.workers_ready,
        }
        self.parts: dict[str, Json] = {
            variant: {f"{metric}_ms": figures.percentiles(each.sketches.get(metric)) for metric in METRICS}
            | {"batch_mean": figures.batch(each, None).mean}
            for variant, each in whole.parts.items()
        }


class Series:
    """Points by where they begin and how many slots they hold."""

    def __init__(self) -> None:
        self._points: dict[tuple[float, float], Point] = {}

    def told(self, slots: Iterable[Slot], begin_unix_s: float, step_s: float, variant: str = "") -> Json:
        """The points of `step_s` from `begin_unix_s` on that have a slot; the last may still grow."""
        groups: dict[float, list[Slot]] = {}
        for slot in slots:
            if slot.begin_unix_s >= begin_unix_s:
                groups.setdefault(slot.begin_unix_s - slot.begin_unix_s % step_s, []).append(slot)
        newest = max(groups, default=0.0)
        points = [self._point(at, step_s, group, grows=at == newest) for at, group in sorted(groups.items())]
        return told_of(points, step_s, variant)

    def _point(self, at: float, step_s: float, group: list[Slot], *, grows: bool) -> Point:
        key = (at, step_s)
        found = None if grows else self._points.get(key)
        if found is None:
            found = Point(at, whole_of(group))
            if not grows:
                self._points[key] = found
                if len(self._points) > KEPT:
                    del self._points[next(iter(self._points))]
        return found


def told_of(points: Sequence[Point], step_s: float, variant: str = "") -> Json:
    """Columns by name, and by variant; `variant` asks for that one alone."""
    known = [variant] if variant else sorted({name for point in points for name in point.parts})
    told: Json = {name: [point.plain[name] for point in points] for name in PLAIN}
    return told | {"step_s": step_s, "variants": {name: _columns(points, name) for name in known}}


def step_of(window_s: float, points: int) -> float:
    """Seconds a point: whole slots, at most `points` of them in the window."""
    slots = max(1, round(window_s / SLOT_S))
    return SLOT_S * max(1, -(-slots // max(1, points)))


def _columns(points: Sequence[Point], variant: str) -> Json:
    parts = [point.parts.get(variant) for point in points]
    told: Json = {
        f"{metric}_ms": {
            name: [None if part is None else part[f"{metric}_ms"][name] for part in parts] for name in figures.QUANTILES
        }
        for metric in METRICS
    }
    return told | {"batch_mean": [None if part is None else part["batch_mean"] for part in parts]}
