"""`freehold size`: from your traffic and one measured instance to the number of them, and the money.

One command for all of it: finds the knee of what answers at the URL, learns its step law meanwhile, plays the owner's
trace through fleets until one keeps the SLO, and asks what that costs beside a paid API (`size_steps.py`).
"""

from __future__ import annotations

import shlex
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.cli import money
from freehold.cli.output import JsonFlag, print_json
from freehold.cli.traffic import (
    FLEET,
    Growth,
    Input,
    Longest,
    Output,
    Rate,
    Slo,
    Trace,
    TraceFormat,
    Traffic,
)  # fmt: skip
from freehold.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from freehold.cli.size_steps import Bill
    from freehold.sizing.rightsize import Answer
    from freehold.slo import Objective

Text = str | None
MEASURE, MONEY = "Measuring", "Money"
LONGEST = "4min"
"""Of measuring, unless told: the rest of five minutes is for the simulations."""


def size(
    url: Annotated[str, typer.Argument(help="Address of a running server with one or more instances.")],
    slo: Slo,
    trace: Trace = None,
    trace_format: TraceFormat = "auto",
    rate: Rate = None,
    input_tokens: Input = None,
    output_tokens: Output = None,
    longest: Longest = None,
    growth: Growth = 1.0,
    spare: Annotated[
        int, typer.Option("--spare", min=0, help="Instances on top, for when one fails (N+1).", rich_help_panel=FLEET)
    ] = 1,
    running: Annotated[
        int | None, typer.Option("--running", min=1, help="You run so many: may it be fewer?", rich_help_panel=FLEET)
    ] = None,
    against: Annotated[
        str, typer.Option("--against", help="Model of the paid API, by its name there.", rich_help_panel=MONEY)
    ] = "",
    prices: money.PriceFile = None,
    hardware: money.HardwareName = "",
    rent: money.Rent = False,
    assume: money.Assumptions = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A first answer within 45 s, with a wide interval.", rich_help_panel=MEASURE)
    ] = False,
    seconds: Annotated[
        Text, typer.Option("--seconds", metavar="TIME", help="Measure at most: 4min.", rich_help_panel=MEASURE)
    ] = None,
    model: Annotated[Text, typer.Option("--model", "-m", help="Default: the first.", rich_help_panel=MEASURE)] = None,
    api: Annotated[str, typer.Option("--api", help="chat or completions.", rich_help_panel=MEASURE)] = "chat",
    api_key: Annotated[Text, typer.Option("--api-key", envvar="FREEHOLD_API_KEY", show_default=False)] = None,
    processes: Annotated[int, typer.Option("--processes", min=1, max=64, rich_help_panel=MEASURE)] = 1,
    out: Annotated[Path | None, typer.Option("--out", help="Keep samples, answers and the report there.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    as_json: JsonFlag = False,
) -> None:
    """How many instances your traffic needs at your SLO, what they cost, whether the paid API is cheaper."""
    from rich.console import Console

    from freehold.cli.size_steps import Bill

    asked = Traffic(trace, trace_format, rate, input_tokens, output_tokens, longest, growth, seed)
    bill = Bill(hardware, rent, against, prices, tuple(assume or ()))
    server = (url, model, api, api_key)
    told = _size(server, slo, asked, bill, (spare, running), (quick, seconds, processes), out, Console(stderr=as_json))
    if as_json:
        print_json(money.plain(told))


def _size(
    server: tuple[str, str | None, str, str | None], slo: list[str], asked: Traffic, bill: Bill,
    fleet: tuple[int, int | None], how: tuple[bool, str | None, int], out: Path | None, console: Console,
) -> dict[str, Any]:  # fmt: skip
    from freehold.cli import size_steps as steps
    from freehold.cli import traffic
    from freehold.cli.knee import patience_s, plan_of
    from freehold.cli.load import target_of
    from freehold.slo import parse

    url, model, api, api_key = server
    objectives = parse(slo)
    begun_s = time.perf_counter()
    quick, seconds, processes = how
    plan = plan_of(seconds or (None if quick else LONGEST), quick)
    if out is not None and (out / "size.json").exists():
        raise UsageError(f"{out} has an answer in it already.", next="Name another folder with --out, or remove it.")
    rows = traffic.read(asked)
    if rows is None:
        traffic.work_of(asked, None, seconds=1.0)  # no traffic at all is told before minutes of measuring, too
    target = target_of(url, model, api, api_key, True, patience_s(objectives))
    bill = steps.on_hardware(bill, url, target.model, api_key, console)
    money.gather(bill.asked(None, "1"))  # what is wrong with it is told before minutes of measuring
    fit = traffic.fitted(rows, asked, traffic.context_of(url, target.model, api_key))
    if fit and fit.words:
        console.print(fit.words, markup=False, soft_wrap=True)
    work = traffic.work_of(asked, fit.trace if fit else None, seconds=3600.0)
    with tempfile.TemporaryDirectory() if out is None else nullcontext(str(out)) as folder:
        place = Path(folder)
        knee, samples = steps.measure(target, objectives, asked, fit, plan, processes, place, console)
        capacity, known, instances = steps.instance(url, target.model, api_key, knee, samples, place)
        stretch = round(knee.knee_per_s * plan.longest_s) if fit else 0
        answer = steps.rightsized(work, known, objectives, capacity, fleet[0], stretch)
        told = steps.told_of(url, knee, capacity, known, instances, answer, fleet[1], work, objectives)
        told |= {"cut_share": fit.cut_share if fit else 0.0, "cut": fit.words if fit else ""}
        _show(console, told, answer, objectives)
        told |= steps.bill_of(place, capacity, answer, bill, console)
        told |= {"seconds": time.perf_counter() - begun_s, "command": shlex.join(["freehold", *sys.argv[1:]])}
        money.keep(place, "size.json", told)
        steps.report(place, console, kept=out is not None)
    return told


# ---- showing --------------------------------------------------------------------------------------


def _show(console: Console, told: dict[str, Any], answer: Answer, objectives: tuple[Objective, ...]) -> None:
    console.print(f"\n[bold]{told['sentence']}[/]", soft_wrap=True)
    for each in answer.kept:
        console.print(f"  {each.objective}: {each.missed:.2%} would miss of {each.allowed:.2%} allowed", markup=False)
    console.print(
        f"  traffic {answer.mean_per_s:.2f} requests/s, {answer.peak_per_s:.2f} in the busiest minute; an instance "
        f"would be used to {answer.utilisation_mean:.0%}, {answer.utilisation_peak:.0%} at the peak; Erlang C says "
        f"{answer.erlang_instances}",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    console.print(
        f"  the simulator's own error: {told['simulation_error']:+.1%} in requests/s at the SLO before it was fitted, "
        f"{'within' if told['simulation_within_interval'] else 'outside'} the interval of what was measured "
        f"(law from {told['law_source']}, off by {told['law_error']:.1%} in the median)",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    if any(each.metric == "itl" for each in objectives):
        console.print("  itl: simulated as each answer's mean; single gaps are only measured", style="dim")
