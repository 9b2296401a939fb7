"""`freehold scale`: 1, 2, ... N workers or URLs: what they answer together, against ideal, and where the rest went.

Horizontal and vertical in one table: n instances with u users each, and one instance with n times u users.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.cli import traffic
from freehold.cli.output import JsonFlag, print_json
from freehold.core import Record
from freehold.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from freehold.cli.scale_run import Bench
    from freehold.sizing.scaling import Level, Scaled

Text = str | None
USERS = 8


class Plan(Record, frozen=True):
    """What is to be measured: `counts` of instances, each with `users` of its own."""

    counts: tuple[int, ...]
    users: int
    seconds: float
    usd_per_hour: float
    shared: bool
    """All instances are workers of one machine, which costs the same with any number of them."""

    @property
    def unit(self) -> str:
        return "workers" if self.shared else "instances"


def scale(
    what: Annotated[
        list[str], typer.Argument(metavar="URL...|MODEL", help="Addresses of like servers; with --workers, a model.")
    ],
    workers: Annotated[
        Text,
        typer.Option("--workers", metavar="1,2,4", help="Serve MODEL here with so many workers, one after another."),
    ] = None,
    users: Annotated[
        int, typer.Option("--users", min=1, help="That always wait for an answer, for each instance.")
    ] = USERS,
    seconds: Annotated[str, typer.Option("--seconds", metavar="TIME", help="Of each level.")] = "10s",
    input_tokens: traffic.Input = None,
    output_tokens: traffic.Output = None,
    per_hour: Annotated[
        float,
        typer.Option("--per-hour", min=0.0, help="USD for an hour of one server; with --workers, of this machine."),
    ] = 0.0,
    model: Annotated[Text, typer.Option("--model", "-m", help="Default: the first.")] = None,
    api: Annotated[str, typer.Option("--api", help="chat or completions.")] = "chat",
    api_key: Annotated[Text, typer.Option("--api-key", envvar="FREEHOLD_API_KEY", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Keep samples and the answer in this folder.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed sends the same.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Measure what 1, 2, ... N workers or servers answer together, and where the rest of the ideal went."""
    from rich.console import Console

    from freehold.cli.load_plan import INPUT_TOKENS, OUTPUT_TOKENS, seconds_of
    from freehold.cli.money import keep, plain
    from freehold.cli.scale_run import Bench

    counts = _counts(what, workers)
    plan = Plan(counts, users, seconds_of(seconds, "--seconds"), per_hour, workers is not None)
    if out is not None and (out / "scale.json").exists():
        raise UsageError(f"{out} has an answer in it already.", next="Name another folder with --out, or remove it.")
    console = Console(stderr=as_json, highlight=False)
    lengths = (input_tokens or INPUT_TOKENS, output_tokens or OUTPUT_TOKENS)
    with ExitStack() as stack:
        bench = Bench(stack, console, (model, api, api_key), lengths, plan.seconds, seed, out)
        across, up = _of_workers(bench, what[0], plan) if plan.shared else _of_urls(bench, what, plan)
    told = _told(across, up, plan)
    _show(console, told, across, up, plan)
    if out is not None:
        keep(out, "scale.json", told)
        console.print(f"Written to {out / 'scale.json'}; `freehold report {out}` makes a page of it.", markup=False)
    if as_json:
        print_json(plain(told))


def _counts(what: list[str], workers: str | None) -> tuple[int, ...]:
    """Numbers of instances to measure, 1 among them."""
    if workers is None:
        if len(what) < 2:
            next_ = "Give several addresses, or `freehold scale MODEL --workers 1,2`."
            raise UsageError("One server alone doesn't show how more of them scale.", next=next_)
        return tuple(range(1, len(what) + 1))
    if len(what) != 1:
        raise UsageError("--workers is about one model.", next="Name it alone: freehold scale starter --workers 1,2")
    try:
        found = sorted({1, *(int(part) for part in workers.split(","))})
    except ValueError as error:
        raise UsageError(f"--workers {workers!r} is not understood.", next="Write 1,2,4.") from error
    if found[0] < 1 or len(found) < 2:
        raise UsageError(f"--workers {workers} has nothing to compare with 1.", next="Write 1,2,4.")
    return tuple(found)


# ---- measuring ------------------------------------------------------------------------------------


def _of_urls(bench: Bench, urls: list[str], plan: Plan) -> tuple[list[Level], list[Level]]:
    """The first 1, 2, ... of the servers; and the first alone with as many users."""
    servers = [bench.reached(url) for url in urls]
    across = [bench.level(servers[:count], plan.users) for count in plan.counts]
    up = [bench.level(servers[:1], plan.users * count) for count in plan.counts[1:]]
    return across, up


def _of_workers(bench: Bench, model: str, plan: Plan) -> tuple[list[Level], list[Level]]:
    """One server after another, with so many workers; and the first of them with as many users."""
    from freehold.cli.scale_run import serving

    across: list[Level] = []
    up: list[Level] = []
    for count in plan.counts:
        with serving(model, count, bench.console) as url:
            server = bench.reached(url)
            across.append(bench.level([server], plan.users * count, instances=count))
            if count == 1:
                up = [bench.level([server], plan.users * more, instances=1) for more in plan.counts[1:]]
    return across, up


# ---- telling --------------------------------------------------------------------------------------


def _told(across: list[Level], up: list[Level], plan: Plan) -> dict[str, Any]:
    import shlex
    import sys

    from freehold.sizing.scaling import scaled, sentence

    found = [scaled(across[0], each, up) for each in across]
    rows = [_row("horizontal", each, of, plan) for each, of in zip(across, found, strict=True)]
    rows += [_row("vertical", each, None, plan) for each in up]
    return {
        "sentence": sentence(across, found, up, plan.unit),
        "unit": plan.unit,
        "users_each": plan.users,
        "efficiency": found[-1].efficiency,
        "lost": found[-1].lost,
        "levels": rows,
        "command": shlex.join(["freehold", *sys.argv[1:]]),
    }


def _row(kind: str, of: Level, found: Scaled | None, plan: Plan) -> dict[str, Any]:
    import msgspec

    from freehold.sizing.scaling import usd_per_million_tokens

    paid = plan.usd_per_hour * (1 if plan.shared else of.instances)
    row: dict[str, Any] = {"kind": kind, **msgspec.to_builtins(of)}
    row["scaled"] = None if found is None else msgspec.to_builtins(found)
    row["usd_per_hour"] = paid
    row["usd_per_million_tokens"] = usd_per_million_tokens(of, paid) if paid else None
    return row


def _show(console: Console, told: dict[str, Any], across: list[Level], up: list[Level], plan: Plan) -> None:
    from rich.table import Table

    from freehold.sizing.figure import usd
    from freehold.sizing.report.fleet import LEAST
    from freehold.sizing.scaling import WORDS

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in (plan.unit, "users", "answers/s", "tokens/s", "p50", "p99 ms", "of ideal"):
        table.add_column(heading, justify="right", no_wrap=True)
    if plan.usd_per_hour:
        table.add_column("USD/M", justify="right", no_wrap=True)
    for row, each in zip(told["levels"], [*across, *up], strict=True):
        ideal = f"{row['scaled']['efficiency']:.0%}" if row["scaled"] else f"{each.per_s / across[0].per_s:.2f}x"
        cells = [
            str(each.instances), str(each.users), f"{each.per_s:.2f} ± {each.high - each.per_s:.2f}",
            f"{each.tokens_per_s:.0f}", f"{each.p50_ms:.0f}", f"{each.p99_ms:.0f}", ideal,
        ]  # fmt: skip
        if plan.usd_per_hour:
            cells.append(usd(row["usd_per_million_tokens"]))
        table.add_row(*cells)
        if each is across[-1]:
            table.add_section()
    console.print()
    console.print(table)
    console.print("answers/s with their 90 % interval; USD for a million output tokens", style="dim")
    for row in told["levels"][1 : len(across)]:
        parts = sorted(row["scaled"]["lost"].items(), key=lambda each: -each[1])
        if parts:
            words = ", ".join(f"{WORDS[name]} {share:.0%}" for name, share in parts if share >= LEAST)
            console.print(f"{row['instances']} {plan.unit} lost, of the ideal: {words}", markup=False, soft_wrap=True)
    busy = max(each.client_cpu for each in (*across, *up))
    if busy > 0.8:
        console.print(f"A sending process was busy {busy:.0%} of the time: the client may have been the limit.")
    console.print(f"\n[bold]{told['sentence']}[/]", soft_wrap=True)
