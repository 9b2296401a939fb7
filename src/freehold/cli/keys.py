"""`freehold keys`: add, list and revoke API keys. Only a hash is kept; a key is shown once."""

from __future__ import annotations

import datetime
from typing import Annotated

import typer

from freehold.cli.output import JsonFlag, print_json

app = typer.Typer(help="Add, list and revoke API keys.", no_args_is_help=True)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Whom or what the key is for.")],
    deadline_ms: Annotated[int, typer.Option(help="Deadline of requests that name none; 0: none.")] = 0,
    priority: Annotated[
        int, typer.Option(help="-100 (soonest) to 100; its requests may name this one or a later one.")
    ] = 0,
    max_queued: Annotated[int, typer.Option(help="Requests of this key that may wait at a time; 0: no limit.")] = 0,
    admin: Annotated[
        bool, typer.Option("--admin", help="It may also change what runs: drain workers, roll out models.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Make a key and show it once."""
    from freehold import config
    from freehold.gateway import auth

    key, token = auth.add(
        config.home_dir(), name, deadline_ms=deadline_ms, priority=priority, max_queued=max_queued, admin=admin
    )
    if as_json:
        print_json({"id": key.id, "name": key.name, "key": token})
        return
    print(
        f"{token}\n\nKey {key.id} for {key.name}. It is shown only now; Freehold keeps a hash of it.\n"
        "Clients send it as `Authorization: Bearer KEY`; Freehold's own commands take it from FREEHOLD_API_KEY."
    )


@app.command("list")
def list_(as_json: JsonFlag = False) -> None:
    """List the keys (never the keys themselves)."""
    from freehold import config
    from freehold.gateway import auth

    keys = auth.list_keys(config.home_dir())
    if as_json:
        shown = ("id", "name", "created_unix_s", "last4", "deadline_ms", "priority", "max_queued")
        print_json({"keys": [{field: getattr(key, field) for field in shown} for key in keys]})
        return
    if not keys:
        print("No keys. `freehold keys add NAME` makes one.")
        return
    from rich.console import Console
    from rich.table import Table

    columns = ("id", "name", "created", "ends in", "deadline", "priority", "may queue")
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for key in keys:
        created = datetime.datetime.fromtimestamp(key.created_unix_s, datetime.UTC)
        deadline = f"{key.deadline_ms} ms" if key.deadline_ms else "none"
        limits = (deadline, str(key.priority), str(key.max_queued or "any number"))
        table.add_row(key.id, key.name, created.strftime("%Y-%m-%d %H:%M UTC"), f"...{key.last4}", *limits)
    Console().print(table)


@app.command()
def revoke(id: Annotated[str, typer.Argument(help="Id or name of the key.")], as_json: JsonFlag = False) -> None:
    """Make a key worthless at once."""
    from freehold import config
    from freehold.gateway import auth

    key = auth.revoke(config.home_dir(), id)
    if as_json:
        print_json({"revoked": key.id, "name": key.name})
        return
    print(f"Revoked {key.id} ({key.name}). Servers that run refuse it from now on.")
