"""`freehold workers`: who works, on what, and how it goes; with --steps, what an engine did in its last steps."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from freehold.cli.output import JsonFlag, gib, print_json
from freehold.errors import UsageError

UNKNOWN = "[dim]unknown[/]"
"""A figure that the engine hides. Never 0."""


def workers(
    url: Annotated[str, typer.Option("--url", help="Address of the server.")] = "http://127.0.0.1:8000",
    steps: Annotated[
        str | None, typer.Option("--steps", metavar="NAME", help="Show the last steps of this worker's engine instead.")
    ] = None,
    last: Annotated[int | None, typer.Option("--last", help="With --steps: how many; 20 unless told.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List name, pid, state, model and load of each worker, or with --steps what one of them did last."""
    from freehold.cli.http import get_json

    if last is not None and steps is None:
        raise UsageError("--last is about steps.", next="Say of which worker: --steps NAME.")
    path = "/freehold/workers"
    if steps is not None:
        path = f"{path}/{quote(steps, safe='')}/steps?last={20 if last is None else last}"
    found = get_json(url, path)
    if as_json:
        print_json(found)
    elif steps is None:
        _print_workers(found["workers"])
        _print_models(found.get("models", []))
    else:
        _print_steps(found["steps"], steps)


def _print_workers(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    headings = ("name", "pid", "state", "model", "engine", "running", "KV used", "memory", "restarts")
    table = Table(*headings, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        state = row["state"] + (f" ({row['phase']})" if row.get("phase") else "")
        usage = row.get("kv_usage")
        table.add_row(
            row["name"],
            str(row["pid"] or "-"),
            state,
            escape(row.get("model", "")),
            row.get("engine", ""),
            str(row.get("running", 0)),
            UNKNOWN if usage is None else f"{usage:.0%}",
            gib(row["memory_bytes"]) if row.get("memory_bytes") else UNKNOWN,
            str(row.get("restarts", 0)),
        )
    console = Console(highlight=False)
    console.print(table if rows else "No workers.")
    for row in rows:
        if row.get("last_error"):
            console.print(f"{row['name']}, last error: {row['last_error']}", style="yellow", markup=False)


def _print_models(rows: list[dict[str, Any]]) -> None:
    """Those that take turns in memory."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    if not rows:
        return
    table = Table("model", "is", "waiting", "memory", "load s", box=None, header_style="bold", pad_edge=False)
    for row in rows:
        load_s = f"{row['load_s']:.1f}"
        table.add_row(escape(row["name"]), row["state"], str(row["waiting"]), gib(row["memory_bytes"]), load_s)
    console = Console(highlight=False)
    console.print()
    console.print(table)
    for row in rows:
        if row["last_error"]:
            console.print(f"{row['name']}, last error: {row['last_error']}", style="yellow", markup=False)


def _print_steps(rows: list[dict[str, Any]], worker: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not rows:
        console.print(f"{worker} has made no step yet.", markup=False)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("tokens read", "sequences", "context", "tokens out", "ms", "gap ms"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            _figure(row["prefill_tokens"]),
            str(row["running"]),
            _figure(row["context_tokens"]),
            str(row["tokens"]),
            f"{row['step_ms']:.2f}",
            "[dim]paused[/]" if row["gap_ms"] is None else f"{row['gap_ms']:.2f}",
        )
    console.print(table)
    console.print(f"{len(rows)} steps, the newest last; the gap is the time since the step before", style="dim")


def _figure(value: int | None) -> str:
    return UNKNOWN if value is None else str(value)
