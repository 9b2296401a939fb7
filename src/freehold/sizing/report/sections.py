"""The sections of a report, one function each; None where the folder has nothing for it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from freehold.core import Json, Record
from freehold.profile import Basis
from freehold.sizing.figure import Figure, amount, usd
from freehold.sizing.report.plot import Band, Plot, Rule, Series
from freehold.sizing.report.run import Requests, Run
from freehold.sizing.verdict import words

WINDOWS = 60
"""Most points on the timeline."""


class Table(Record, frozen=True):
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Section(Record, frozen=True):
    title: str
    text: tuple[str, ...] = ()
    plot: Plot | None = None
    figures: tuple[Figure, ...] = ()
    table: Table | None = None
    """The plot's numbers, or a table of its own."""


def money(run: Run) -> Section | None:
    """Both bills and what moves the answer."""
    told = run.files.get("verdict.json") or run.files.get("cost.json")
    if not told:
        return None
    command = _command(run, "verdict.json" if "verdict.json" in run.files else "cost.json")
    count = f"{told['instances']} instances"
    each = _figure(told["cost_per_successful_request_usd"], name=f"a successful answer, own ({count})")
    figures = [each, *_per(told["own"], "own", command)]
    rows = [("own", line["name"], usd(line["value"]), line["source"]) for line in told["own"]["lines"]]
    rows.append(("own", "a month", usd(told["own"]["total_usd"]), ""))
    if told.get("api"):
        api = told["api"]
        one = Figure(
            name="a successful answer, API", value=api["usd_per_answer"], unit="USD", basis="derived", source=command
        )
        figures += [one, *_per(api, "API", command)]
        rows += [("API", line["name"], usd(line["value"]), line["source"]) for line in api["lines"]]
        rows.append(("API", "a month", usd(api["total_usd"]), ""))
    text = [_mover(mover) for mover in told.get("movers", [])]
    if text:
        text.insert(0, "What moves the difference (own less API, a month) most, one input at a time:")
    text += [f"Physics, {check['name']}: {check['arithmetic']}" for check in told.get("checks") or []]
    if told.get("unchecked"):
        text.append(f"Not checked: {'; '.join(told['unchecked'])}.")
    head = ("side", "line", "a month", "how")
    return Section(
        title="The money", text=tuple(text), figures=tuple(figures), table=Table(head=head, rows=tuple(rows))
    )


def staircase(run: Run) -> Section | None:
    """Cost over volume: own instances are whole, so theirs is a staircase."""
    told = run.files.get("verdict.json")
    if not told or not told.get("staircase"):
        return None
    steps, even = told["staircase"], told["break_even"]
    x = tuple(steps["answers"])
    own = Series(name="own instances", points=tuple(zip(x, steps["own_usd"], strict=True)), colour=1, style="step")
    api = Series(name="API", points=tuple(zip(x, steps["api_usd"], strict=True)), colour=2)
    bands = tuple(
        Band(
            name=f"{name}, 90 %",
            x=x,
            low=tuple(steps[f"{key}_low_usd"]),
            high=tuple(steps[f"{key}_high_usd"]),
            colour=c,
        )
        for name, key, c in (("own", "own", 1), ("API", "api", 2))
        if key == "own" or steps["api_low_usd"] != steps["api_high_usd"]
    )
    first, for_good = _figure(even["first"]), _figure(even["for_good"])
    rules = [Rule(name=f"your {amount(told['answers_per_month'])} a month", axis="x", value=told["answers_per_month"])]
    plot = Plot(
        title="Cost over volume",
        says=f"Own cost in steps, the API's as a line. They first cross at {amount(first.value)} answers a month.",
        x_label="successful answers a month", y_label="US dollars a month",
        series=(own, api), bands=bands, rules=tuple(rules),
    )  # fmt: skip
    named = [
        _renamed(first, "own instances first cheaper, from"),
        _renamed(for_good, "cheaper for good, from"),
        Figure(
            name="draws in which they are cheaper at your volume", value=even["cheaper_share"], basis="derived",
            source=f"{even['draws']} draws, seed {even['seed']}",
        ),
    ]  # fmt: skip
    every = range(0, len(x), max(1, len(x) // 16))
    rows = tuple((amount(x[i]), usd(steps["own_usd"][i]), usd(steps["api_usd"][i])) for i in every)
    table = Table(head=("answers a month", "own", "API"), rows=rows)
    return Section(title="Where it flips", plot=plot, figures=tuple(named), table=table)


def knee(run: Run) -> Section | None:
    """Latency against rate, with the SLO and the knee."""
    told = run.files.get("knee.json")
    if not told or not isinstance(told.get("capacity"), dict):
        return None
    capacity = told["capacity"]
    command = capacity.get("source") or _command(run, "knee.json")
    basis: Basis = capacity.get("basis", "measured")
    figures = [
        Figure(name="capacity at the SLO", value=capacity["rate_per_s"], low=capacity["low"], high=capacity["high"],
               unit="requests/s", basis=basis, source=command),
    ]  # fmt: skip
    if told.get("recommended_per_s"):
        value = float(told["recommended_per_s"])
        figures.append(
            Figure(name="recommended", value=value, unit="requests/s", basis="derived", source="below the knee")
        )
    text = [f"SLO: {capacity['slo']}."] if capacity.get("slo") else []
    if told.get("why"):
        text.append(f"Why it breaks: {told['why']}")
    rates = [row for row in told.get("rates", []) if isinstance(row, dict) and row.get("rate_per_s")]
    rates.sort(key=lambda row: row["rate_per_s"])
    plot = _latency_plot(rates, capacity, told) if len(rates) > 1 else None
    head = ("requests/s", "p50 ms", "p95 ms", "p99 ms", "seconds", "verdict")
    keys = ("rate_per_s", "p50_ms", "p95_ms", "p99_ms", "seconds", "verdict")
    rows = tuple(tuple(_cell(row.get(key)) for key in keys) for row in rates)
    table = Table(head=head, rows=rows) if rows else None
    return Section(title="Latency against rate", text=tuple(text), plot=plot, figures=tuple(figures), table=table)


def _latency_plot(rates: list[Json], capacity: Json, told: Json) -> Plot:
    series = [
        Series(name=name, points=_points(rates, "rate_per_s", f"{name}_ms"), colour=colour)
        for colour, name in enumerate(("p50", "p95", "p99"), 1)
    ]
    rules = [
        Rule(name="the knee, 90 %", axis="x", value=capacity["rate_per_s"], low=capacity["low"], high=capacity["high"])
    ]
    if told.get("limit_ms"):
        rules.append(Rule(name=f"SLO {amount(told['limit_ms'])} ms", axis="y", value=float(told["limit_ms"])))
    values = [y for one in series for _, y in one.points if y > 0]
    return Plot(
        title="Latency against rate",
        says=f"Percentiles at {len(rates)} rates; the SLO breaks at {amount(capacity['rate_per_s'])} requests/s.",
        x_label="requests a second offered", y_label="milliseconds", series=tuple(one for one in series if one.points),
        rules=tuple(rules), log_y=bool(values) and max(values) > 20 * min(values),
    )  # fmt: skip


def sweep(run: Run) -> Section | None:
    """Throughput against batch."""
    told = run.files.get("sweep.json")
    rows = [row for row in (told or {}).get("points", []) if row.get("batch") and row.get("tokens_per_s")]
    if not told or not rows:
        return None
    sweet, command = told.get("sweet_batch"), _command(run, "sweep.json")
    rules = (Rule(name=f"sweet spot: batch {sweet}", axis="x", value=float(sweet)),) if sweet else ()
    plot = Plot(
        title="Throughput against batch",
        says=f"Tokens a second at {len(rows)} batch sizes." + (f" Past {sweet} it stops paying." if sweet else ""),
        x_label="sequences at once", y_label="tokens a second", rules=rules, log_x=True,
        series=(Series(name="tokens/s", points=_points(rows, "batch", "tokens_per_s"), colour=1),),
    )  # fmt: skip
    figures = [Figure(name="sweet batch", value=float(sweet), basis="derived", source=command)] if sweet else []
    best = max(row["tokens_per_s"] for row in rows)
    figures.append(Figure(name="best throughput", value=best, unit="tokens/s", basis="measured", source=command))
    keys = ("batch", "tokens_per_s", "latency_ms", "memory_bytes")
    table = Table(head=("batch", "tokens/s", "latency ms", "memory bytes"),
                  rows=tuple(tuple(_cell(row.get(key)) for key in keys) for row in rows))  # fmt: skip
    text = (f"Why it falls off: {told['reason']}",) if told.get("reason") else ()
    return Section(title="Throughput against batch", text=text, plot=plot, figures=tuple(figures), table=table)


def timeline(run: Run) -> Section | None:
    """What the run looked like over its time, and its percentiles."""
    requests = run.requests
    if requests is None:
        return None
    command = _command(run, "manifest.json")
    times = _windows(requests)
    plot = None
    if len(times) > 1:
        plot = Plot(
            title="Over the run",
            says="Median and 95th percentile of latency from the intended send time, window by window.",
            x_label="seconds since the start", y_label="milliseconds",
            series=(
                Series(name="p50", points=tuple((t, p50) for t, p50, _, _ in times), colour=1),
                Series(name="p95", points=tuple((t, p95) for t, _, p95, _ in times), colour=2),
            ),
        )  # fmt: skip
    figures = [
        _measured("answered", float(requests.ok.mean()), "", command),
        *(
            _measured(f"p{p} {name}", float(np.nanpercentile(values, p)), "ms", command)
            for name, values in (("end to end", requests.latency_ms), ("first token", requests.first_ms))
            if np.isfinite(values).any()
            for p in (50, 95, 99)
        ),
    ]
    rows = tuple((amount(t), amount(p50), amount(p95), str(lost)) for t, p50, p95, lost in times)
    counted = ", ".join(f"{count:,} {name}" for name, count in sorted(requests.outcomes.items()))
    text = (f"All requests: {counted}. Latency counts from the intended send time, of answered requests.",)
    head = ("second", "p50 ms", "p95 ms", "not answered")
    return Section(
        title="Over the run", text=text, plot=plot, figures=tuple(figures), table=Table(head=head, rows=rows)
    )


def _windows(requests: Requests) -> list[tuple[float, float, float, int]]:
    """(middle second, p50, p95, lost) of equal windows of time that have an answer."""
    start, end = float(requests.intended_s[0]), float(requests.intended_s[-1])
    count = max(1, min(WINDOWS, len(requests.intended_s) // 10))
    edges = np.linspace(start, end, count + 1)
    window = np.clip(np.searchsorted(edges, requests.intended_s, side="right") - 1, 0, count - 1)
    found = []
    for i in range(count):
        mine = window == i
        answered = requests.latency_ms[mine & requests.ok]
        if len(answered):
            p50, p95 = np.percentile(answered, (50, 95))
            found.append(((edges[i] + edges[i + 1]) / 2, float(p50), float(p95), int((mine & ~requests.ok).sum())))
    return found


def size(run: Run) -> Section | None:
    """Whatever size.json says in plain values."""
    told = run.files.get("size.json")
    if not told:
        return None
    command = _command(run, "size.json")
    figures = []
    for key, value in told.items():
        if isinstance(value, dict) and "value" in value:
            figures.append(_figure(value, name=words(key)))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            figures.append(Figure(name=words(key), value=float(value), basis="derived", source=command))
    text = tuple(value for key, value in told.items() if key in ("sentence", "why") and isinstance(value, str))
    return Section(title="How many instances", text=text, figures=tuple(figures))


def inputs(run: Run) -> Section | None:
    """Every input of the money with its tag and source."""
    told = run.files.get("verdict.json") or run.files.get("cost.json")
    if not told or not told.get("inputs"):
        return None
    figures = [_figure(one, name=words(one["name"])) for one in told["inputs"].values()]
    return Section(title="Inputs", figures=tuple(one for one in figures if one.value or not one.exact))


def machine(run: Run) -> Section | None:
    """Who measured what, where, with which versions."""
    told = run.files.get("manifest.json")
    if not told:
        return None
    plain = {key: value for key, value in told.items() if isinstance(value, str | int | float)}
    rows = [(words(key), str(value)) for key, value in plain.items()]
    for key in ("machine", "versions", "load", "vitals"):
        rows += [(f"{key}: {words(name)}", _cell(value)) for name, value in (told.get(key) or {}).items()]
    return Section(title="How it was measured", table=Table(head=("what", "value"), rows=tuple(rows)))


# ---- small parts --------------------------------------------------------------------------------


def _command(run: Run, file: str) -> str:
    told = run.files.get(file, {})
    return str(told.get("command") or run.files.get("manifest.json", {}).get("command") or file)


def _figure(told: Json, name: str = "") -> Figure:
    """From JSON, where infinity is null."""
    value = math.inf if told.get("value") is None else float(told["value"])
    ends = [math.inf if key in told and told[key] is None else told.get(key) for key in ("low", "high")]
    return Figure(
        name=name or told["name"], value=value, low=ends[0], high=ends[1], unit=told.get("unit", ""),
        basis=told.get("basis", "assumed"), source=told.get("source", ""),
    )  # fmt: skip


def _renamed(figure: Figure, name: str) -> Figure:
    return Figure(
        name=name, value=figure.value, low=figure.low, high=figure.high, unit=figure.unit, basis=figure.basis,
        source=figure.source,
    )  # fmt: skip


def _measured(name: str, value: float, unit: str, source: str) -> Figure:
    return Figure(name=name, value=value, unit=unit, basis="measured", source=source)


def _per(bill: Json, side: str, source: str) -> list[Figure]:
    """The two prices a million tokens, where tokens are known."""
    return [
        Figure(name=f"a million {what} tokens, {side}", value=bill[key], unit="USD", basis="derived", source=source)
        for what, key in (("useful", "usd_per_million_tokens"), ("output", "usd_per_million_output_tokens"))
        if bill.get(key)
    ]


def _mover(told: Json) -> str:
    dollars = f"{usd(told['difference_low_usd'])} to {usd(told['difference_high_usd'])}"
    flips = "; this alone changes the answer" if told["flips"] else ""
    return f"{words(told['name'])} from {amount(told['low'])} to {amount(told['high'])}: {dollars}{flips}"


def _points(rows: list[Json], x: str, y: str) -> tuple[tuple[float, float], ...]:
    return tuple((float(row[x]), float(row[y])) for row in rows if isinstance(row.get(y), int | float))


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int | float):
        return amount(float(value))
    if isinstance(value, list | tuple):
        return ", ".join(_cell(one) for one in value) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_cell(one)}" for key, one in value.items())
    return str(value)
