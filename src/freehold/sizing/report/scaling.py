"""The section of a report about scaling: what more instances bring, beside ideal and beside one with a larger batch."""

from __future__ import annotations

from freehold.core import Json
from freehold.sizing.figure import Figure, amount, usd
from freehold.sizing.report.plot import Plot, Series
from freehold.sizing.report.run import Run
from freehold.sizing.report.sections import Section, Table, command_of
from freehold.sizing.scaling import WORDS


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
    lost = sorted(told["lost"].items(), key=lambda each: -float(each[1]))
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
