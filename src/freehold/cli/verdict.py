"""`freehold verdict`: keep the API, host it yourself, or the volume at which that changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.cli import bills, money
from freehold.cli.output import JsonFlag
from freehold.errors import UsageError

if TYPE_CHECKING:
    from freehold.sizing.verdict import Verdict


def verdict(
    folder: money.Folder = None,
    requests: money.Volume = "1M",
    hardware: money.HardwareName = "",
    rent: money.Rent = False,
    catalogue: money.CatalogueFile = None,
    rate: money.Rate = "",
    tokens: money.Tokens = "",
    api: money.ApiModel = "",
    prices: money.PriceFile = None,
    model: money.ModelSize = "",
    weights: money.ClaimedBytes = "",
    assume: money.Assumptions = None,
    naive: money.NaiveFlag = False,
    seed: Annotated[int, typer.Option("--seed", help="Of the Monte Carlo draws.", min=0)] = 1,
    as_json: JsonFlag = False,
) -> None:
    """Own instances or the paid API: both bills, the break-even with its band, what moves it. "Never" is an answer."""
    asked = money.Asked(
        folder=folder, requests=requests, hardware=hardware, rent=rent, catalogue=catalogue, rate=rate, tokens=tokens,
        api=api, prices=prices, model=model, weights=weights, assume=tuple(assume or ()),
    )  # fmt: skip
    _tell(asked, seed=seed, with_naive=naive, as_json=as_json)


def _tell(asked: money.Asked, *, seed: int, with_naive: bool, as_json: bool) -> None:
    from freehold.sizing import inputs, naive

    found = money.gather(asked)
    decided, told = decided_of(asked, found, seed=seed)
    simple = naive.naive(inputs.case(found.inputs), found.answers) if with_naive else None
    told["naive"] = simple
    if not as_json:
        _print(decided, asked, found)
        for line in bills.naive_lines(simple, found.answers) if simple else ():
            print(line)
    money.finish(asked, "verdict.json", told, as_json=as_json)


def decided_of(asked: money.Asked, found: money.Gathered, *, seed: int = 1) -> tuple[Verdict, dict[str, Any]]:
    """The verdict, and what verdict.json holds. Raises `UsageError` without an API or tokens."""
    from freehold.sizing import inputs
    from freehold.sizing.verdict import decide

    case = inputs.case(found.inputs)
    if not case.api_input_usd and not case.api_output_usd:
        raise UsageError(
            "There is no API to compare with.",
            next="Name its model with --api, or say --set api_input_usd=0.4 --set api_output_usd=1.6.",
        )
    if not case.input_tokens and not case.output_tokens:
        raise UsageError("An API bills tokens, and nobody has said how many.", next="Add --tokens 256/128.")
    decided = decide(found.inputs, found.answers, seed=seed)
    told: dict[str, Any] = {
        "verdict": decided.decision,
        "sentence": decided.sentence,
        "api_model": asked.api,
        "hardware": found.hardware,
    }
    told |= {name: getattr(decided, name) for name in decided.__struct_fields__ if name not in ("decision", "sentence")}
    return decided, told | {"checks": found.checks, "seed": seed}


def _print(decided: Verdict, asked: money.Asked, found: money.Gathered) -> None:
    from rich.console import Console

    from freehold.sizing.figure import amount, usd
    from freehold.sizing.verdict import words

    console = Console(highlight=False)
    console.print(f"[bold]{decided.sentence}[/]\n")
    console.print(bills.bill_table(f"{decided.instances} instances, spares included", decided.own))
    console.print(
        f"[dim]busy {decided.utilisation_mean:.0%} on average, {decided.utilisation_peak:.0%} at the peak[/]\n"
    )
    console.print(bills.bill_table(f"The API, {asked.api or 'at the prices said'}", decided.api))
    even = decided.break_even
    low, high = (amount(end) for end in even.for_good.ends)
    console.print(f"\nFor good from {amount(even.for_good.value)} answers a month (90 %: {low} to {high}).")
    console.print(
        f"Cheaper in {even.cheaper_share:.0%} of {even.draws} draws at your volume; never in {even.never_share:.0%}."
    )
    console.print("\nWhat moves it most, one at a time (own less API, a month):")
    for mover in decided.movers:
        ends = f"{amount(mover.low)} to {amount(mover.high)}"
        flips = ", [bold]changes the answer[/]" if mover.flips else ""
        dollars = f"{usd(mover.difference_low_usd)} to {usd(mover.difference_high_usd)}"
        console.print(f"  {words(mover.name)} from {ends}: {dollars}{flips}")
    for check in found.checks:
        console.print(f"physics, {check.name}: {check.arithmetic}", markup=False)
    if not found.checks:
        console.print("physics: not checked; name your model with --model.")
    console.print(f"Not checked: {'; '.join(decided.unchecked)}.\n")
    console.print(bills.inputs_table(found.inputs))
