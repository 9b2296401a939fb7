"""What `freehold knee` shows: one line while it searches; then the answer, a row for each rate, and a plot."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from freehold.sizing.answer import Answer, Rate
    from freehold.sizing.dependence import Interval
    from freehold.sizing.found import Progress
    from freehold.slo import Objective

BY_PERCENTILE = {0.5: "p50", 0.05: "p95", 0.01: "p99"}


class Watcher:
    """One line that says what the search does; without a terminal, a line for each trial and rung."""

    def __init__(self, console: Console, longest_s: float) -> None:
        self._console = console
        self._longest_s = longest_s
        self._number = 0
        self._status = console.status("asking one user") if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def __call__(self, now: Progress) -> None:
        text = f"{now.seconds:.0f} of at most {self._longest_s:.0f} s  "
        if now.rung is not None:
            text += f"{now.rung.users} users: {now.rung.per_s:.1f}/s, {1000 * now.rung.mean_s:.0f} ms each"
        else:
            text += f"trial {now.number}: {now.rate_per_s:.2f}/s for {now.trial_s:.0f} s, {now.requests} judged; "
            text += f"knee between {now.low_per_s:.1f} and {now.high_per_s:.1f}"
            text += ", backlog rises" if now.rising else ""
        if self._status is not None:
            self._status.update(text)
        elif now.rung is not None or now.number != self._number:
            self._number = now.number
            self._console.print(text, markup=False, soft_wrap=True)


def show(console: Console, told: Answer, objectives: Sequence[Objective]) -> None:
    console.print()
    for line in _verdict(told):
        console.print(line, markup=False, soft_wrap=True)
    if told.rates:
        binding = next(each for each in objectives if str(each) == told.binding)
        _table(console, told, "e2e" if binding.metric == "error" else binding.metric)
        drawn = _plot(told, binding)
        if drawn:
            console.print(f"\n{drawn}", markup=False, soft_wrap=True)
    late = sum(rate.late and rate.verdict != "pass" for rate in told.rates)
    if late:
        console.print(f"This client sent late in {late} trials, which count for nothing: the machine is too busy.")
    off = [rung for rung in told.ladder if not rung.holds]
    if off:
        where = ", ".join(f"{rung.users} users {rung.little:.2f}" for rung in off)
        console.print(f"Little's law is off in the closed loop ({where}; 1 is right): a rung was short or uneven.")
    console.print(f"{told.seconds:.0f} s of measuring, {len(told.rates)} open-loop trials.")


def _verdict(told: Answer) -> list[str]:
    if told.outcome == "none":
        return [
            f"No rate keeps {told.binding}.",
            alone(told),
            "Give a wider limit, shorter answers, or a faster server.",
        ]
    if told.outcome == "beyond":
        return [
            f"{', '.join(told.objectives)} holds up to {told.knee_per_s:.1f} requests/s, all this client can send.",
            f"The knee is beyond that. {told.cause.words if told.cause.name == 'client' else ''}".rstrip(),
            "Use more processes (--processes) or another machine as the client.",
        ]
    high = "no upper end" if told.high_per_s is None else f"{told.high_per_s:.2f}"
    share = f" ({told.cause.share:.0%} of what went wrong)" if told.cause.share else ""
    return [
        f"Knee: {told.knee_per_s:.2f} requests/s ({told.confidence:.0%} interval {told.low_per_s:.2f} to {high}), "
        f"where {told.binding} breaks.",
        f"Plan with {told.recommended_per_s:.2f} requests/s, {told.headroom:.0%} below.",
        f"Why it breaks: {told.cause.words}{share}",
    ]


def alone(told: Answer) -> str:
    """How the objective that breaks fares with nobody else there."""
    rung = told.ladder[0]
    missed = rung.missed[told.objectives.index(told.binding)]
    failed = f", {rung.failed:.1%} by failing" if rung.failed else ""
    return (
        f"With one user alone {missed:.1%} of {rung.requests} requests miss it{failed}; "
        f"an answer takes {1000 * rung.mean_s:.0f} ms on average."
    )


def _table(console: Console, told: Answer, metric: str) -> None:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("per s", "for s", f"{metric} p50", "p95", "p99 ms (95 %)", "misses", "of", ""):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=bool(heading))
    for rate in told.rates:
        table.add_row(*_cells(rate, metric))
    console.print()
    console.print(table)
    console.print("misses of so many independent requests as the trial is worth", style="dim")


def _cells(rate: Rate, metric: str) -> tuple[str, ...]:
    spread = rate.row.latencies.get(metric)
    judged = [each for each in rate.judgements if each.misses is not None]
    worst = max(judged, key=lambda each: (each.misses or 0.0) / each.allowed, default=None)
    word = {"pass": "kept", "fail": "broken", "open": "near"}[rate.verdict]
    notes = [word, *(["backlog rises"] if rate.rising else []), *(["client late"] if rate.late else [])]
    return (
        f"{rate.row.rate_per_s:.2f}",
        f"{rate.row.seconds:.0f}",
        f"{spread.p50.value:.0f}" if spread else "",
        f"{spread.p95.value:.0f}" if spread else "",
        _interval(spread.p99) if spread else "",
        "" if worst is None else f"{worst.misses:.2%}",
        "" if worst is None else f"{worst.effective:.0f}",
        ", ".join(notes),
    )


def _interval(of: Interval) -> str:
    high = f"{of.high:.0f}" if math.isfinite(of.high) else "?"
    return f"{of.value:.0f} ({of.low:.0f}-{high})"


def _plot(told: Answer, binding: Objective) -> str:
    """The binding latency over the rate, at the percentile of its objective if that is one of the table's, else its
    p99."""
    from freehold.sizing.plot import Point, plot

    if binding.metric == "error":
        return ""
    name = BY_PERCENTILE.get(binding.allowed, "p99")
    points = []
    for rate in told.rates:
        spread = rate.row.latencies.get(binding.metric)
        if spread is not None:
            at: Interval = getattr(spread, name)
            points.append(Point(rate.row.rate_per_s, at.value, at.low, at.high))
    high = math.inf if told.high_per_s is None else told.high_per_s
    knee = (told.low_per_s, told.knee_per_s, high) if told.outcome == "found" else None
    return plot(points, binding.limit_ms, knee, title=f"{name} {binding.metric} in ms")
