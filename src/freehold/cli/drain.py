"""`freehold drain`: let a worker finish and leave, while the server goes on."""

from __future__ import annotations

import time
from typing import Annotated, Any
from urllib.parse import quote

import typer

from freehold.cli.output import JsonFlag, print_json

LOOK_S = 0.25


def drain(
    worker: Annotated[str, typer.Argument(help="Name of the worker, as `freehold workers` shows it.")],
    url: Annotated[str, typer.Option("--url", help="Address of the server.")] = "http://127.0.0.1:8000",
    replace: Annotated[
        bool, typer.Option("--replace", help="Start another first; this one leaves once that one is ready.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait until the worker has left.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Let a worker finish what it has begun, take nothing new, and leave. What waits goes on waiting."""
    from rich.console import Console

    from freehold.cli.http import post_json

    told = post_json(url, f"/freehold/workers/{quote(worker, safe='')}/drain", {"replace": replace})
    console = Console(stderr=as_json, highlight=False)
    relief = told.get("replaced_by")
    console.print(f"{worker} leaves" + (f" once {relief} is ready to take its place." if relief else "."), markup=False)
    if wait:
        with console.status("") as status:
            while (row := _row(url, worker)) is not None:
                status.update(f"{worker} is {row['state']}, {row['running']} answers to finish")
                time.sleep(LOOK_S)
        console.print(f"{worker} has left.", markup=False)
    if as_json:
        print_json({**told, "left": wait})


def _row(url: str, worker: str) -> dict[str, Any] | None:
    """The worker, unless it has left."""
    from freehold.cli.http import get_json

    rows = get_json(url, "/freehold/workers")["workers"]
    return next((row for row in rows if row["name"] == worker and row["state"] not in ("stopped", "dead")), None)
