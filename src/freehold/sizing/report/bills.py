"""The sections of a report about money: both bills, where they cross, every input.

None where the folder has nothing for one.
"""

from __future__ import annotations

from freehold.core import Json
from freehold.sizing.figure import Figure, amount, usd
from freehold.sizing.report.plot import Band, Plot, Rule, Series
from freehold.sizing.report.run import Run
from freehold.sizing.report.sections import Section, Table, command_of, figure_of, renamed
from freehold.sizing.verdict import words


def money(run: Run) -> Section | None:
    """Both bills and what moves the answer."""
    told = run.files.get("verdict.json") or run.files.get("cost.json")
    if not told:
        return None
    command = command_of(run, "verdict.json" if "verdict.json" in run.files else "cost.json")
    count = f"{told['instances']} instances"
    each = figure_of(told["cost_per_successful_request_usd"], name=f"a successful answer, own ({count})")
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
    points = [_mover(mover) for mover in told.get("movers", [])]
    text = [f"Physics, {check['name']}: {check['arithmetic']}" for check in told.get("checks") or []]
    if told.get("unchecked"):
        text.append(f"Not checked: {'; '.join(told['unchecked'])}.")
    if points:
        text.append("What moves the difference (own less API, a month) most, one input at a time:")
    head = ("side", "line", "a month", "how")
    table = Table(head=head, rows=tuple(rows))
    return Section(title="The money", text=tuple(text), points=tuple(points), figures=tuple(figures), table=table)


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
    first, for_good = figure_of(even["first"]), figure_of(even["for_good"])
    rules = [Rule(name=f"your {amount(told['answers_per_month'])} a month", axis="x", value=told["answers_per_month"])]
    plot = Plot(
        title="Cost over volume",
        says=f"Own cost in steps, the API's as a line. They first cross at {amount(first.value)} answers a month.",
        x_label="successful answers a month", y_label="US dollars a month",
        series=(own, api), bands=bands, rules=tuple(rules),
    )  # fmt: skip
    named = [
        renamed(first, "own instances first cheaper, from"),
        renamed(for_good, "cheaper for good, from"),
        Figure(
            name="cheaper at your volume, of all draws", value=100 * even["cheaper_share"], unit="%", basis="derived",
            source=f"{even['draws']} draws, seed {even['seed']}",
        ),
    ]  # fmt: skip
    every = range(0, len(x), max(1, len(x) // 16))
    rows = tuple((amount(x[i]), usd(steps["own_usd"][i]), usd(steps["api_usd"][i])) for i in every)
    table = Table(head=("answers a month", "own", "API"), rows=rows)
    return Section(title="Where it flips", plot=plot, figures=tuple(named), table=table)


def inputs(run: Run) -> Section | None:
    """Every input of the money with its tag and source."""
    told = run.files.get("verdict.json") or run.files.get("cost.json")
    if not told or not told.get("inputs"):
        return None
    figures = [figure_of(one, name=words(one["name"])) for one in told["inputs"].values()]
    return Section(title="Inputs", figures=tuple(one for one in figures if one.value or not one.exact))


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
