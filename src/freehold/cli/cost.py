"""`freehold cost`: the bill of own instances for a month, charged to the answers that succeeded."""

from __future__ import annotations

from typing import Annotated

import typer

from freehold.cli import bills, money
from freehold.cli.output import JsonFlag


def cost(
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
    list_: Annotated[bool, typer.Option("--list", help="List the catalogue of hardware and leave.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """What a successful request costs on own instances (and from an API), line by line, every input with its source."""
    if list_:
        _list(money.read(catalogue) if catalogue else b"", as_json)
        return
    asked = money.Asked(
        folder=folder, requests=requests, hardware=hardware, rent=rent, catalogue=catalogue, rate=rate, tokens=tokens,
        api=api, prices=prices, model=model, weights=weights, assume=tuple(assume or ()),
    )  # fmt: skip
    _tell(asked, with_naive=naive, as_json=as_json)


def _tell(asked: money.Asked, *, with_naive: bool, as_json: bool) -> None:
    from rich.console import Console

    from freehold.sizing import cost, inputs, naive, verdict

    found = money.gather(asked)
    case = inputs.case(found.inputs)
    own, count = cost.own_bill(case, found.answers), int(cost.instances(cost.shape(case), found.answers))
    api = cost.api_bill(case, found.answers) if asked.api or found.inputs["api_output_usd"].value else None
    simple = naive.naive(case, found.answers) if with_naive else None
    each = verdict.per_answer(found.inputs, found.answers)
    told = {
        "answers_per_month": found.answers,
        "instances": count,
        "cost_per_successful_request_usd": each,
        "own": own,
        "api": api,
        "checks": found.checks,
        "naive": simple,
        "inputs": found.inputs,
    }
    if not as_json:
        console = Console(highlight=False)
        label = f" of {found.hardware}" if found.hardware else ""
        console.print(bills.bill_table(f"{count} instances{label}, spares included", own))
        if api:
            console.print(bills.bill_table(f"\nThe API, {asked.api}", api))
        for check in found.checks:
            console.print(f"\nphysics, {check.name}: {check.arithmetic}", markup=False)
        for line in bills.naive_lines(simple, found.answers) if simple else ():
            console.print(line, markup=False)
        console.print(bills.inputs_table(found.inputs))
    money.finish(asked, "cost.json", told, as_json=as_json)


def _list(own: bytes, as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from freehold.cli.output import print_json
    from freehold.sizing import hardware

    rows = hardware.built_in()
    if own:
        rows = hardware.with_own(rows, hardware.parse_catalogue(own, "--catalogue"))
    if as_json:
        print_json(rows)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("name", "what", "GB", "GB/s", "TFLOP/s", "USD", "USD/hour", "W idle", "W busy", "as of"):
        table.add_column(heading)
    for name, row in rows.hardware.items():
        physics = (f"{row.memory_gb:g}", f"{row.bandwidth_gb_s:g}", f"{row.peak_tflops:g}")
        money_ = (row.price_usd or "-", row.rent_usd_per_hour or "-", row.idle_w or "-", row.busy_w or "-")
        table.add_row(name, row.label, *physics, *money_, row.date)
    Console().print(table)
