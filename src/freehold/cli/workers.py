"""`freehold workers`: who works, on what, and how it goes."""

from __future__ import annotations

from typing import Annotated

import typer

from freehold.cli.output import JsonFlag, gib, print_json


def workers(
    url: Annotated[str, typer.Option("--url", help="Address of the server.")] = "http://127.0.0.1:8000",
    as_json: JsonFlag = False,
) -> None:
    """List name, pid, state, model and running requests of each worker."""
    from freehold.cli.http import get_json

    found = get_json(url, "/freehold/workers")
    if as_json:
        print_json(found)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "name", "pid", "state", "model", "engine", "running", "memory", "restarts", box=None, header_style="bold"
    )
    for row in found["workers"]:
        state = " ".join(filter(None, (row["state"], row.get("phase", ""), row.get("last_error", ""))))
        table.add_row(
            row["name"],
            str(row["pid"]),
            state,
            row.get("model", ""),
            row.get("engine", ""),
            str(row.get("running", 0)),
            gib(row.get("memory_bytes", 0)),
            str(row.get("restarts", 0)),
        )
    Console().print(table)
