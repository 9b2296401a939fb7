"""`freehold jobs`: what lies in a server's ledger, one request whole, and an end to it. Poison is found here."""

from __future__ import annotations

import datetime
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from freehold.cli.output import JsonFlag, print_json
from freehold.errors import UsageError

app = typer.Typer(help="List the requests in the ledger, look at one, cancel one.")
Url = Annotated[str, typer.Option("--url", help="Address of the server.")]
JobId = Annotated[str, typer.Argument(help="Id of the request, as `freehold jobs` shows it.")]
URL = "http://127.0.0.1:8000"
PATH = "/freehold/jobs"
STATES = ("queued", "running", "done", "poisoned")


@app.callback(invoke_without_command=True)
def jobs(
    context: typer.Context,
    url: Url = URL,
    state: Annotated[str | None, typer.Option("--state", help="Only these: queued, running, done or poisoned.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many, the newest first.")] = 100,
    after: Annotated[str | None, typer.Option("--after", help="The last id of the page before.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List the requests in the ledger, the newest first, without what was said in them."""
    if context.invoked_subcommand is not None:
        return
    from freehold.cli.http import get_json

    if state is not None and state not in STATES:
        raise UsageError(f"{state!r} is no state of a request.", next=f"It is one of {', '.join(STATES)}.")
    asked = {"state": state, "limit": limit, "after": after}
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    found = get_json(url, f"{PATH}?{query}")
    if as_json:
        print_json(found)
    else:
        _print_list(found["jobs"], found["has_more"])


@app.command()
def show(id: JobId, url: Url = URL, as_json: JsonFlag = False) -> None:
    """Show one request: how it went, what was asked and answered as far as that is kept."""
    from freehold.cli.http import get_json

    found = get_json(url, f"{PATH}/{quote(id, safe='')}")
    if as_json:
        print_json(found)
        return
    from rich.console import Console

    console = Console(highlight=False)
    for name, value in found.items():
        if name == "accepted_unix_s":
            name, value = "accepted", _when(value)
        if name not in ("error", "request", "answers") and value not in (None, ""):
            console.print(f"{name.replace('_', ' ')}: {value}", markup=False)
    if (error := found["error"]) is not None:
        console.print(f"error: {error['code']}: {_sentence(error)}", style="yellow", markup=False)
    console.print_json(data={"request": {k: v for k, v in found["request"].items() if v}, "answers": found["answers"]})


@app.command()
def cancel(id: JobId, url: Url = URL, as_json: JsonFlag = False) -> None:
    """End a request, queued or running. What was answered until then stays where it is kept."""
    from freehold.cli.http import post_json

    told = post_json(url, f"{PATH}/{quote(id, safe='')}/cancel", {})
    if as_json:
        print_json(told)
    elif told["status_before"] == "done":
        print(f"{id} had ended already.")
    else:
        print(f"{id} was {told['status_before']} and is cancelled.")


def _print_list(rows: list[dict[str, Any]], more: bool) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    if not rows:
        console.print("No requests.")
        return
    headings = ("id", "status", "model", "key", "accepted", "attempts", "deaths", "tokens")
    table = Table(*headings, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(
            row["id"],
            row["status"],
            escape(row["model"]),
            row["tenant"],
            _when(row["accepted_unix_s"]),
            str(row["attempts"]),
            str(row["deaths"]),
            str(row["completion_tokens"]),
        )
    console.print(table)
    for row in rows:
        if row["error"]:
            console.print(f"{row['id']}: {_sentence(row['error'])}", style="yellow", markup=False)
    if more:
        console.print(f"There are more: --after {rows[-1]['id']}", style="dim", markup=False)


def _sentence(error: dict[str, Any]) -> str:
    return " ".join(part for part in (error["what"], error["why"], error["next"]) if part)


def _when(unix_s: float) -> str:
    return datetime.datetime.fromtimestamp(unix_s, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
