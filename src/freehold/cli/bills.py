"""The tables of `cost` and `verdict` in a terminal: a bill, the inputs with their sources, the naive way."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from freehold.sizing.cost import Bill
    from freehold.sizing.figure import Figure
    from freehold.sizing.naive import Naive


def bill_table(title: str, bill: Bill) -> Table:
    from rich.table import Table

    from freehold.sizing.figure import usd

    table = Table(title=title, title_justify="left", box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim")
    for line in bill.lines:
        table.add_row(line.name, usd(line.value), line.source)
    table.add_row("a month", usd(bill.total_usd), "", style="bold")
    table.add_row("a successful answer", usd(bill.usd_per_answer), "")
    if bill.usd_per_million_tokens:
        table.add_row("a million useful tokens", usd(bill.usd_per_million_tokens), "read and written, of successes")
    return table


def inputs_table(inputs: dict[str, Figure]) -> Table:
    from rich.table import Table

    from freehold.sizing.figure import shown
    from freehold.sizing.verdict import words

    table = Table(title="Inputs", title_justify="left", box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_column(style="dim")
    for figure in inputs.values():
        if figure.value or not figure.exact:
            table.add_row(words(figure.name), shown(figure), f"{figure.basis}: {figure.source}")
    return table


def naive_lines(told: Naive, answers: float) -> list[str]:
    from freehold.sizing.figure import amount

    full, own = (f"{months:.3g}" for months in (told.months_if_full, told.months_at_volume))
    return [
        f"\nThe naive way: price of the hardware / API bill of {amount(told.full_answers)} answers = {full} months;",
        f"at your {amount(answers)} answers it would be {own} months. What that leaves out:",
        *(f"  - {text}" for text in told.left_out),
    ]
