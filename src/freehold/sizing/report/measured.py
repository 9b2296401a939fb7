"""The sections of a report about what was measured: knee, sweep, the run over time, where and how.

None where the folder has nothing for one.
"""

from __future__ import annotations

import numpy as np

from freehold import slo
from freehold.core import Json
from freehold.profile import Basis
from freehold.sizing.dependence import percentile
from freehold.sizing.figure import Figure, amount
from freehold.sizing.report.plot import Plot, Rule, Series
from freehold.sizing.report.run import Floats, Requests, Run
from freehold.sizing.report.sections import Section, Table, cell, command_of
from freehold.sizing.verdict import words

WINDOWS = 60
"""Most points on the timeline."""


def knee(run: Run) -> Section | None:
    """Latency against rate, with the SLO and the knee."""
    told = run.files.get("knee.json")
    if not told or not isinstance(told.get("capacity"), dict):
        return None
    capacity = told["capacity"]
    command = capacity.get("source") or command_of(run, "knee.json")
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
    if told.get("cause"):
        text.append(f"Why it breaks: {told['cause']['words']}")
    metric, limit_ms = _bound(told)
    rates = sorted((_rate(one, metric) for one in told.get("rates", [])), key=lambda row: float(row["rate_per_s"]))
    different = len({float(row["rate_per_s"]) for row in rates}) > 1
    plot = _latency_plot(rates, capacity, metric, limit_ms) if different else None
    head = ("requests/s", f"p50 {metric} ms", "p95 ms", "p99 ms", "seconds", "verdict")
    keys = ("rate_per_s", "p50_ms", "p95_ms", "p99_ms", "seconds", "verdict")
    rows = tuple(tuple(cell(row.get(key)) for key in keys) for row in rates)
    table = Table(head=head, rows=rows) if rows else None
    return Section(title="Latency against rate", text=tuple(text), plot=plot, figures=tuple(figures), table=table)


def _bound(told: Json) -> tuple[str, float | None]:
    """The metric of the objective that breaks first, with its limit; end to end where that one has none."""
    binding = slo.parse(told["binding"])[0] if told.get("binding") else None
    if binding is None or binding.metric == "error":
        return "e2e", None
    return binding.metric, binding.limit_ms


def _rate(told: Json, metric: str) -> Json:
    """One rate of knee.json, flat."""
    row = told["row"]
    spread = row["latencies"].get(metric) or {}
    flat: Json = {"rate_per_s": row["rate_per_s"], "seconds": row["seconds"], "verdict": told["verdict"]}
    return flat | {f"{name}_ms": spread[name]["value"] for name in ("p50", "p95", "p99") if name in spread}


def _latency_plot(rates: list[Json], capacity: Json, metric: str, limit_ms: float | None) -> Plot:
    series = [
        Series(name=name, points=_points(rates, "rate_per_s", f"{name}_ms"), colour=colour)
        for colour, name in enumerate(("p50", "p95", "p99"), 1)
    ]
    rules = [
        Rule(name="the knee, 90 %", axis="x", value=capacity["rate_per_s"], low=capacity["low"], high=capacity["high"])
    ]
    if limit_ms is not None:
        rules.append(Rule(name=f"SLO {amount(limit_ms)} ms", axis="y", value=limit_ms))
    values = [y for one in series for _, y in one.points if y > 0]
    return Plot(
        title="Latency against rate",
        says=f"{metric} at {len(rates)} rates; the SLO breaks at {amount(capacity['rate_per_s'])} requests/s.",
        x_label="requests a second offered", y_label="milliseconds", series=tuple(one for one in series if one.points),
        rules=tuple(rules), log_y=bool(values) and max(values) > 20 * min(values),
    )  # fmt: skip


def sweep(run: Run) -> Section | None:
    """Throughput against batch."""
    told = run.files.get("sweep.json")
    if not told:
        return None
    rows = [row | {"memory_mb": row["memory_bytes"] / 1e6} for row in told["levels"]]
    sweet, command = told["sweet"], told["command"]
    batch = sweet["streams"]
    plot = Plot(
        title="Throughput against batch",
        says=f"Tokens a second at {len(rows)} batch sizes. Past {batch} it stops paying.",
        x_label="sequences at once", y_label="tokens a second", log_x=True,
        rules=(Rule(name=f"sweet spot: batch {batch}", axis="x", value=float(batch)),),
        series=(Series(name="tokens/s", points=_points(rows, "streams", "tokens_per_s"), colour=1),),
    )  # fmt: skip
    best = max(row["tokens_per_s"] for row in rows)
    error = 100 * told["fit"]["error"]
    figures = (
        Figure(name="sweet batch", value=float(batch), basis="derived", source=command),
        Figure(name="best throughput", value=best, unit="tokens/s", basis="measured", source=command),
        Figure(name="median error of the step law", value=error, unit="%", basis="derived", source=command),
    )
    keys = ("streams", "tokens_per_s", "step_ms_p50", "step_ms_p99", "memory_mb")
    table = Table(
        head=("batch", "tokens/s", "step p50 ms", "step p99 ms", "memory MB"),
        rows=tuple(tuple(cell(row.get(key)) for key in keys) for row in rows),
    )
    text = (f"Why it falls off: {sweet['reason']}",)
    return Section(title="Throughput against batch", text=text, plot=plot, figures=figures, table=table)


def timeline(run: Run) -> Section | None:
    """What the run looked like over its time, and its percentiles."""
    requests = run.requests
    if requests is None:
        return None
    command = command_of(run, "manifest.json")
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
        _measured("answered", 100 * float(requests.ok.mean()), "%", command),
        *(
            _percentile(f"p{p} {name}", values[np.isfinite(values)], p, command)
            for name, values in (("end to end", requests.latency_ms), ("first token", requests.first_ms))
            if np.isfinite(values).any()
            for p in (50, 95, 99)
        ),
    ]
    rows = tuple((amount(t), amount(p50), amount(p95), str(lost)) for t, p50, p95, lost in times)
    counted = ", ".join(f"{count:,} {name}" for name, count in sorted(requests.outcomes.items()))
    text = (
        f"All requests: {counted}. Latency counts from the intended send time, of answered requests; in brackets where "
        "a percentile lies at 95 %, neighbours being alike.",
    )
    head = ("second", "p50 ms", "p95 ms", "not answered")
    return Section(
        title="Over the run", text=text, plot=plot, figures=tuple(figures), table=Table(head=head, rows=rows)
    )


def _percentile(name: str, values_ms: Floats, p: int, command: str) -> Figure:
    """With the interval that holds although neighbours are alike."""
    found = percentile(values_ms, p / 100)
    return Figure(
        name=name, value=found.value, low=found.low, high=found.high, unit="ms", basis="measured", source=command
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


def machine(run: Run) -> Section | None:
    """Who measured what, where, with which versions."""
    told = run.files.get("manifest.json")
    if not told:
        return None
    plain = {key: value for key, value in told.items() if isinstance(value, str | int | float)}
    rows = [(words(key), str(value)) for key, value in plain.items()]
    for key in ("machine", "versions", "load", "vitals"):
        rows += [(f"{key}: {words(name)}", cell(value)) for name, value in (told.get(key) or {}).items()]
    return Section(title="How it was measured", table=Table(head=("what", "value"), rows=tuple(rows)))


def _measured(name: str, value: float, unit: str, source: str) -> Figure:
    return Figure(name=name, value=value, unit=unit, basis="measured", source=source)


def _points(rows: list[Json], x: str, y: str) -> tuple[tuple[float, float], ...]:
    return tuple((float(row[x]), float(row[y])) for row in rows if isinstance(row.get(y), int | float))
