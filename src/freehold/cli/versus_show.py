"""What `freehold versus` found, computed from its folder: figures side by side, differences, agreement, cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from freehold.core import Json, Record

if TYPE_CHECKING:
    from rich.console import Console

    from freehold.loadtest.compare import Agreement, Difference
    from freehold.loadtest.figures import Figures

AGREEMENT = "agreement.jsonl"
SIDES = ("a", "b")
MILLION = 1e6
Money = dict[str, float | None]


class Price(Record, frozen=True):
    """What a side costs, as given."""

    input_usd: float = 0.0
    """For a million tokens."""
    output_usd: float = 0.0
    hour_usd: float = 0.0

    def usd(self, figures: Figures) -> float:
        """Of all that was sent, answered or not. Tokens of a request that broke off count as far as they came."""
        tokens_usd = figures.input_tokens_per_s * self.input_usd + figures.output_tokens_per_s * self.output_usd
        return figures.seconds * (tokens_usd / MILLION + self.hour_usd / 3600.0)


def report(folder: Path, prices: dict[str, Price | None], seed: int, console: Console) -> Json:
    from freehold.loadtest.compare import differences
    from freehold.loadtest.figures import compute, plain
    from freehold.loadtest.record import open_run

    runs = {side: open_run(folder / side) for side in SIDES}
    found = {side: compute(run.samples()) for side, run in runs.items()}
    figures = {side: each[0] for side, each in found.items()}
    differ = differences(found["a"][1], found["b"][1], seed)
    agree = _agreements(folder / AGREEMENT)
    cost = {side: _per_success(prices[side], figures[side]) for side in SIDES}
    names = {side: f"{run.manifest.model} at {run.manifest.url}" for side, run in runs.items()}
    _show(console, names, figures, cost)
    _show_differences(console, differ, agree)
    told: Json = {
        side: {"server": names[side], **plain(figures[side]), "usd_per_successful_request": cost[side]}
        for side in SIDES
    }
    told["differences"] = [{name: getattr(each, name) for name in each.__struct_fields__} for each in differ]
    told["agreement"] = _agreed(agree)
    return told


def _per_success(price: Price | None, figures: Figures) -> float | None:
    """None without a price, or without a success to divide by."""
    successes = figures.outcomes["ok"]
    return price.usd(figures) / successes if price is not None and successes else None


def _agreements(path: Path) -> list[Agreement]:
    from freehold.loadtest.compare import Agreement

    lines = path.read_bytes().splitlines() if path.exists() else []
    return [msgspec.json.decode(line, type=Agreement) for line in lines]


def _agreed(found: Sequence[Agreement]) -> Json:
    count = len(found)
    return {
        "pairs": count,
        "exact_share": sum(each.exact for each in found) / count if count else None,
        "mean_similarity": sum(each.similarity for each in found) / count if count else None,
    }


def _show(console: Console, names: dict[str, str], figures: dict[str, Figures], cost: Money) -> None:
    from rich.table import Table

    for side in SIDES:
        console.print(f"{side.upper()}  {names[side]}", markup=False, soft_wrap=True)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("")
    for side in SIDES:
        table.add_column(side.upper(), justify="right")
    rows = {
        "answered whole": [f"{figures[side].outcomes['ok']} of {figures[side].asked}" for side in SIDES],
        "refused, failed, timed out": [
            "{refused}, {failed}, {timeout}".format(**figures[side].outcomes) for side in SIDES
        ],
        "output tokens, mean": [f"{figures[side].mean_output_tokens:.1f}" for side in SIDES],
        "USD a successful request": ["no price given" if cost[side] is None else f"{cost[side]:.6f}" for side in SIDES],
    }
    for name, values in rows.items():
        table.add_row(name, *values)
    console.print(table)


def _show_differences(console: Console, differ: Sequence[Difference], agree: Sequence[Agreement]) -> None:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("ms")
    for heading in ("A", "B", "B - A", "95 % interval", ""):
        table.add_column(heading, justify="right")
    for each in differ:
        interval = "too few pairs" if each.low_ms is None else f"{each.low_ms:+.1f} to {each.high_ms:+.1f}"
        beyond = ("B slower" if each.difference_ms > 0 else "B faster") if each.clear else "within noise"
        table.add_row(each.name, f"{each.a_ms:.1f}", f"{each.b_ms:.1f}", f"{each.difference_ms:+.1f}", interval,
                      beyond if each.low_ms is not None else "")  # fmt: skip
    console.print(table)
    told = _agreed(agree)
    if told["pairs"]:
        console.print(
            f"answers of {told['pairs']} pairs: {told['exact_share']:.0%} the same to the letter, "
            f"{told['mean_similarity']:.0%} of their words in common, in order",
            soft_wrap=True,
        )
