"""The sections of a report about how many: the fleet that holds, its traffic, and how more instances scale.

None where the folder has nothing for one.
"""

from __future__ import annotations

from freehold.core import Json
from freehold.profile import Basis
from freehold.sizing.figure import Figure, amount, usd
from freehold.sizing.report.plot import Plot, Rule, Series
from freehold.sizing.report.run import Run
from freehold.sizing.report.sections import Section, Table, command_of
from freehold.sizing.scaling import WORDS

LEAST = 0.005
"""Parts of a loss below this share of the ideal aren't listed."""


def size(run: Run) -> Section | None:
    """How many instances, what was played to find it, and how far off the simulator was."""
    told = run.files.get("size.json")
    if not told:
        return None
    text = [str(told["sentence"]), *([str(told["cut"])] if told.get("cut") else [])]
    tried = told.get("tried", [])
    rows = tuple((str(each["instances"]), *_worst(each)) for each in tried)
    plot = None
    if len(tried) > 1:
        missed = tuple((float(each["instances"]), 100 * _worst_share(each)) for each in tried)
        allowed = 100 * max(kept["allowed"] for kept in tried[-1]["kept"])
        plot = Plot(
            title="Misses against instances", x_label="instances", y_label="% of requests that miss",
            says=f"Share of requests that miss with each fleet that was played; {amount(allowed)} % may.",
            series=(Series(name="missed, simulated", points=missed, colour=1),),
            rules=(
                Rule(name=f"SLO: {amount(allowed)} % may miss", axis="y", value=allowed),
                Rule(name=f"{told['instances']} hold", axis="x", value=float(told["instances"])),
            ),
        )  # fmt: skip
    head = ("instances", "objective", "missed", "allowed")
    table = Table(head=head, rows=rows) if rows else None
    figures = tuple(_size_figures(told, command_of(run, "size.json")))
    return Section(title="How many instances", text=tuple(text), plot=plot, figures=figures, table=table)


def _worst_share(tried: Json) -> float:
    return float(max(tried["kept"], key=lambda kept: kept["missed"] / kept["allowed"])["missed"])


def _worst(tried: Json) -> tuple[str, str, str]:
    worst = max(tried["kept"], key=lambda kept: kept["missed"] / kept["allowed"])
    return str(worst["objective"]), f"{worst['missed']:.2%}", f"{worst['allowed']:.2%}"


def _size_figures(told: Json, command: str) -> list[Figure]:
    played = f"smallest fleet that keeps the SLO in virtual time, on {amount(told['requests_played'])} requests"
    capacity = told["capacity_per_instance"]

    def of(name: str, value: float, source: str, unit: str = "", basis: Basis = "derived") -> Figure:
        return Figure(name=name, value=float(value), unit=unit, basis=basis, source=source)

    measured = f"{amount(told['simulated_capacity_per_s'])} simulated against {amount(capacity['rate_per_s'])} measured"
    found = [
        of("instances", told["instances"], played),
        of("with spares", told["instances_with_spare"], command),
        of("instances by Erlang C, as a check", told["erlang_c_instances"], "each place in a batch a server"),
        of("traffic, mean", told["mean_requests_per_s"], command, "requests/s", "measured"),
        of("traffic, busiest minute", told["peak_requests_per_s"], command, "requests/s", "measured"),
        of("an instance in use, mean", 100 * told["utilisation_mean"], "traffic over instances x capacity", "%"),
        of(
            "an instance in use, busiest minute",
            100 * told["utilisation_peak"],
            "traffic over instances x capacity",
            "%",
        ),
        of("the simulator's error before it was fitted", 100 * told["simulation_error"], f"{measured} requests/s", "%"),
        of("median error of the step law", 100 * told["law_error"], str(told["law_source"]), "%"),
    ]
    if told.get("cut_share"):
        found.append(of("requests cut to the context", 100 * told["cut_share"], command, "%", "measured"))
    return found


def traffic(run: Run) -> Section | None:
    """The trace over its time, against what the fleet carries."""
    told = run.files.get("size.json")
    if not told or len(told.get("per_minute") or []) < 2:
        return None
    points = tuple((float(minute), float(rate)) for minute, rate in told["per_minute"])
    carried = told["instances"] * told["capacity_per_instance"]["rate_per_s"]
    count = f"{told['instances']} instance" + ("s" if told["instances"] > 1 else "")
    plot = Plot(
        title="The traffic", x_label="minutes", y_label="requests a second",
        says=f"Requests a second over the trace; {count} carry {amount(carried)} at the SLO.",
        series=(Series(name="requests a second", points=points, colour=3),),
        rules=(Rule(name=f"what {count} carry at the SLO", axis="y", value=carried),),
    )  # fmt: skip
    rows = tuple((amount(minute), amount(rate)) for minute, rate in points)
    return Section(title="The traffic", plot=plot, table=Table(head=("minute", "requests/s"), rows=rows))


def scale(run: Run) -> Section | None:
    """Tokens a second over users, for more instances, for one alone, and ideally."""
    told = run.files.get("scale.json")
    if not told or not told.get("levels"):
        return None
    across = [row for row in told["levels"] if row["kind"] == "horizontal"]
    up = [across[0], *(row for row in told["levels"] if row["kind"] == "vertical")]
    alone, unit, command = across[0], told["unit"], command_of(run, "scale.json")
    series = (
        Series(name=f"1 to {across[-1]['instances']} {unit}", points=_points(across), colour=1),
        Series(name="1 with all the users", points=_points(up), colour=2),
        Series(
            name="ideal", points=tuple((r["users"], r["instances"] * alone["tokens_per_s"]) for r in across), colour=3
        ),
    )
    plot = Plot(
        title="Scaling", says=str(told["sentence"]), x_label="users that always wait for an answer",
        y_label="tokens a second", series=series,
    )  # fmt: skip
    text = [str(told["sentence"])]
    lost = sorted((each for each in told["lost"].items() if each[1] >= LEAST), key=lambda each: -float(each[1]))
    if lost:
        text.append("What is missing from the ideal, as shares of it:")
    last = across[-1]["scaled"]
    figure = Figure(
        name=f"efficiency of {across[-1]['instances']} {unit}", value=100 * last["efficiency"], low=100 * last["low"],
        high=100 * last["high"], unit="%", basis="measured", source=command,
    )  # fmt: skip
    head = (unit, "users", "answers/s, 90 %", "tokens/s", "p50 ms", "p99 ms", "of ideal", "USD a million tokens")
    points = tuple(f"{WORDS[name]}: {share:.1%}" for name, share in lost)
    return Section(
        title="Scaling", text=tuple(text), points=points, plot=plot,
        figures=(figure,), table=Table(head=head, rows=tuple(_row(row) for row in told["levels"])),
    )  # fmt: skip


def _points(rows: list[Json]) -> tuple[tuple[float, float], ...]:
    return tuple((float(row["users"]), float(row["tokens_per_s"])) for row in rows)


def _row(row: Json) -> tuple[str, ...]:
    band = f"{amount(row['per_s'])} ({amount(row['low'])} to {amount(row['high'])})"
    ideal = f"{row['scaled']['efficiency']:.0%}" if row["scaled"] else "-"
    cost = usd(row["usd_per_million_tokens"]) if row["usd_per_million_tokens"] else "-"
    figures = (amount(row[key]) for key in ("tokens_per_s", "p50_ms", "p99_ms"))
    return (str(row["instances"]), str(row["users"]), band, *figures, ideal, cost)
