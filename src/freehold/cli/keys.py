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
    admin: Annotated[
        bool, typer.Option("--admin", help="It may also change what runs: drain workers, roll out models.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Make a key and show it once."""
    from freehold import config
    from freehold.gateway import auth

    key, token = auth.add(config.home_dir(), name, admin=admin)
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
        print_json(
            {"keys": [{"id": k.id, "name": k.name, "created_unix_s": k.created_unix_s, "last4": k.last4} for k in keys]}
        )
        return
    if not keys:
        print("No keys. `freehold keys add NAME` makes one.")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("id", "name", "created", "ends in", box=None, header_style="bold", pad_edge=False)
    for key in keys:
        created = datetime.datetime.fromtimestamp(key.created_unix_s, datetime.UTC)
        table.add_row(key.id, key.name, created.strftime("%Y-%m-%d %H:%M UTC"), f"...{key.last4}")
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
