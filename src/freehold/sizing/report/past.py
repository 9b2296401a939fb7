"""The review of a time: what the fleet had to carry, how it fared, what would have sufficed, and what to change.

The page, Markdown and JSON of `freehold report`, over the history instead of a folder of measurements.
"""

from __future__ import annotations

import datetime

import numpy as np

from freehold.sizing.figure import Figure, amount, usd
from freehold.sizing.past import Past, Shadow, Stood, failures, fared, peak_to_mean, waste
from freehold.sizing.report.document import Document
from freehold.sizing.report.plot import Plot, Rule, Series
from freehold.sizing.report.sections import Section, Table
from freehold.sizing.rightsize import Kept, rates
from freehold.sizing.work import Floats, Ints
from freehold.slo import Objective

BUCKETS = 72
"""Most points of a plot over time."""
MUCH_WASTE = 0.05
FAR_OFF = 2.0
"""A simulator that must be stretched by more knows too little of what went on."""
BURSTY = 5.0
WORTH_A_WORD = 0.001
"""Share of the requests."""
HISTORY = "the history of requests"


def review(
    past: Past, stood: Stood, objectives: tuple[Objective, ...], shadow: Shadow | None, against: str = ""
) -> Document:
    """`shadow` None: there is no objective, or nobody knows the model's step law."""
    kept = fared(past, objectives)
    advice = changes(past, stood, kept, shadow)
    sections = [
        _load(past),
        _fared(past, objectives, kept),
        *([_sufficed(shadow, stood)] if shadow else []),
        _failed(past, stood),
        *([_money(past, stood, against)] if stood.cost_usd is not None else []),
        Section(title="What to change", points=tuple(advice)),
    ]
    return Document(
        title=f"Review: {_span(past)}", verdict=verdict(past, stood, kept, shadow), sections=tuple(sections), missing=()
    )


def verdict(past: Past, stood: Stood, kept: tuple[Kept, ...], shadow: Shadow | None) -> str:
    ran = f"{stood.workers_most} {'worker' if stood.workers_most == 1 else 'workers'}"
    count = f"{len(past.outcomes):,} requests"
    if not kept:
        return f"{count} on {ran}; without an objective nobody can say whether that was well."
    broken = [each for each in kept if not each.holds]
    held = "every objective was kept" if not broken else f"{broken[0].objective} was not kept"
    if shadow is None:
        return f"{count} on {ran}: {held}."
    if shadow.sufficed is None:
        return f"{count} on {ran}: {held}, and no number of workers up to {len(shadow.tries)} would have changed that."
    if shadow.sufficed < stood.workers_most:
        return f"{count}: {shadow.sufficed} would have held; you ran {stood.workers_most}."
    if shadow.sufficed > stood.workers_most:
        return f"{count} on {ran}: {held}; {shadow.sufficed} would have held."
    return f"{count}: {ran} was what it took; {held}."


def changes(past: Past, stood: Stood, kept: tuple[Kept, ...], shadow: Shadow | None) -> list[str]:
    """What to do, the most important first; never empty."""
    found = []
    if not kept:
        found.append('Set an objective, like `observe.slo = "p99 e2e < 2s"`: without one nothing can be sized.')
    if shadow:
        found += _resize(shadow, stood.workers_most)
    for outcome, code, count in failures(past)[:3]:
        share = count / len(past.outcomes)
        if outcome in _ENDED and share > WORTH_A_WORD:
            named = f" with `{code}`" if code else ""
            found.append(f"{count:,} requests ({share:.1%}) {_ENDED[outcome]}{named}. {_NEXT[outcome]}")
    lost, written = waste(past)
    if written and lost / written > MUCH_WASTE:
        found.append(f"{lost / written:.0%} of all tokens were for answers that nobody got: see what cancels or fails.")
    if stood.restarts:
        away = f"for {stood.away_s / 60:.0f} worker-minutes one was away"
        found.append(f"Workers restarted {stood.restarts} times; {away}. `freehold workers` and the log say why.")
    if len(past.outcomes) > 1 and peak_to_mean(past) > BURSTY:
        times = f"The busiest minute had {peak_to_mean(past):.0f} times the mean"
        found.append(f"{times}: what can wait should be sent with a lower priority, or as a batch.")
    return found or ["Nothing: it fits."]


def _resize(shadow: Shadow, ran: int) -> list[str]:
    if shadow.sufficed is None:
        return ["Shorten the answers or serve a faster model: more workers alone would not have helped."]
    if shadow.sufficed < ran:
        fewer = f"Run {ran - shadow.sufficed} fewer: `--workers {shadow.sufficed}`"
        return [f"{fewer} would have kept the objectives on this traffic."]
    if shadow.sufficed > ran:
        return [f"Run {shadow.sufficed}: with {ran} the objectives were not kept in the simulation."]
    return []


_ENDED = {"failed": "failed", "expired": "missed their deadline", "refused": "were refused"}
_NEXT = {
    "failed": "`freehold requests --outcome failed` lists them.",
    "expired": "Give them more time, or run more workers.",
    "refused": "The queue was full or the deadline too near: run more workers, or send later.",
}


def _load(past: Past) -> Section:
    mean, peak = rates(past.arrival_unix_s) if len(past.outcomes) > 1 else (0.0, 0.0)
    starts, which, width_s = _buckets(past)
    counts = np.bincount(which, minlength=len(starts)) / width_s
    plot = Plot(
        title="Requests over time", says=f"Requests a second; the busiest minute had {amount(peak)}.",
        x_label="hours since the begin", y_label="requests a second",
        series=(Series(name="asked for", points=_points(starts, counts), colour=1, style="step"),),
    )  # fmt: skip
    figures = (
        _figure("requests", len(past.outcomes), ""),
        _figure("mean", mean, "requests/s"),
        _figure("busiest minute", peak, "requests/s"),
        _figure("tokens read", float(past.prompt_tokens.sum()), ""),
        _figure("tokens written", float(past.output_tokens.sum()), ""),
    )
    return Section(title="What it had to carry", plot=plot, figures=figures)


def _fared(past: Past, objectives: tuple[Objective, ...], kept: tuple[Kept, ...]) -> Section:
    starts, which, _ = _buckets(past)
    series = []
    for colour, q in enumerate((50, 95, 99), 1):
        values = np.array([_percentile(past.e2e_ms[which == i], q) for i in range(len(starts))])
        series.append(Series(name=f"p{q}", points=_points(starts, values), colour=colour))
    limits = [each for each in objectives if each.metric == "e2e"]
    plot = Plot(
        title="End to end over time", says="Percentiles of the time from received to delivered.",
        x_label="hours since the begin", y_label="milliseconds", series=tuple(series),
        rules=tuple(Rule(name=str(each), axis="y", value=each.limit_ms) for each in limits),
    )  # fmt: skip
    rows = []
    for name, values in (
        ("end to end", past.e2e_ms),
        ("first token", past.ttft_ms),
        ("in queue", past.queue_ms),
        ("a token", past.tpot_ms),
    ):
        rows.append(
            (
                name,
                *(f"{amount(_percentile(values, q))} ms" if not np.isnan(values).all() else "-" for q in (50, 95, 99)),
            )
        )
    text = tuple(
        f"{each.objective}: {'kept' if each.holds else 'not kept'}, {each.missed:.2%} missed of {each.allowed:.2%}."
        for each in kept
    )
    table = Table(head=("", "p50", "p95", "p99"), rows=tuple(rows))
    return Section(title="How it fared", text=text, plot=plot, table=table)


def _sufficed(shadow: Shadow, stood: Stood) -> Section:
    rows = []
    for each in shadow.tries:
        ran = " (ran)" if each.instances == stood.workers_most else ""
        missed = ", ".join(f"{one.missed:.2%} of {one.allowed:.2%}" for one in each.kept)
        rows.append(
            (
                f"{each.instances}{ran}",
                "held" if each.holds else "broken",
                missed,
                f"{amount(each.p99_e2e_ms)} ms",
                f"{each.busy:.0%}",
            )
        )
    table = Table(head=("workers", "objectives", "missed", "p99 end to end", "busy"), rows=tuple(rows))
    text: tuple[str, ...] = (
        f"{shadow.played:,} requests played through so many simulated workers. The simulator's steps were stretched by "
        f"{shadow.slowness:.2f} to take as long for the median request as the real ones took: a simulation proposes, "
        "only a measurement certifies.",
    )
    if not 1 / FAR_OFF < shadow.slowness < FAR_OFF:
        text += ("That is far off: something else than the model's steps took the time. Measure with `freehold knee`.",)
    return Section(title="What would have sufficed", text=text, table=table)


def _failed(past: Past, stood: Stood) -> Section:
    lost, written = waste(past)
    rows = tuple((outcome, code or "-", f"{count:,}") for outcome, code, count in failures(past))
    figures = (
        _figure("tokens written for nobody", float(lost), f"of {amount(float(written))}"),
        _figure("restarts", float(stood.restarts), ""),
        _figure("a worker was away", stood.away_s / 60.0, "worker-minutes"),
    )
    table = Table(head=("outcome", "code", "requests"), rows=rows) if rows else None
    return Section(title="What failed", text=() if rows else ("Nothing.",), figures=figures, table=table)


def _money(past: Past, stood: Stood, against: str) -> Section:
    cost = stood.cost_usd or 0.0
    ok = past.outcomes.count("ok")
    lost, written = waste(past)
    figures = [
        Figure(name="what ran cost", value=cost, unit="USD", basis="derived", source="observe.price_per_hour_usd"),
        Figure(
            name="a successful request",
            value=cost / ok if ok else float("inf"),
            unit="USD",
            basis="derived",
            source=f"of {ok:,}",
        ),
        Figure(
            name="of it for nobody",
            value=cost * lost / written if written else 0.0,
            unit="USD",
            basis="derived",
            source="by tokens",
        ),
    ]
    text: tuple[str, ...] = ()
    if stood.api_usd is not None:
        figures.append(
            Figure(
                name=f"{against} for the same answers",
                value=stood.api_usd,
                unit="USD",
                basis="derived",
                source="its list price",
            )
        )
        saved = stood.api_usd - cost
        text = (f"{usd(abs(saved))} {'less' if saved >= 0 else 'more'} than {against} would have cost.",)
    return Section(title="The money", text=text, figures=tuple(figures))


# ---- time -----------------------------------------------------------------------------------------


def _buckets(past: Past) -> tuple[Floats, Ints, float]:
    """(hours since the begin of each bucket, the bucket of each request, seconds of a bucket)."""
    at_s = past.arrival_unix_s - past.arrival_unix_s[0]
    width_s = max(float(at_s[-1]) / BUCKETS, 1.0)
    which = (at_s // width_s).astype(np.int64)
    return np.arange(int(which.max()) + 1, dtype=np.float64) * (width_s / 3600.0), which, width_s


def _points(x: Floats, y: Floats) -> tuple[tuple[float, float], ...]:
    return tuple((float(a), float(b)) for a, b in zip(x, y, strict=True) if not np.isnan(b))


def _percentile(values: Floats, q: float) -> float:
    known = values[~np.isnan(values)]
    return float(np.percentile(known, q)) if known.size else float("nan")


def _figure(name: str, value: float, unit: str) -> Figure:
    return Figure(name=name, value=value, unit=unit, basis="measured", source=HISTORY)


def _span(past: Past) -> str:
    begin, end = (datetime.datetime.fromtimestamp(float(past.arrival_unix_s[i]), datetime.UTC) for i in (0, -1))
    return f"{begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
