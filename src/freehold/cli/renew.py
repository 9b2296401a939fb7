"""`freehold reload` and `freehold upgrade`: other settings, or another version, for a server that goes on serving."""

from __future__ import annotations

from typing import Annotated

import typer

from freehold.cli.output import JsonFlag, OnHost, print_json

Url = Annotated[str, typer.Option("--url", help="Address of the server.")]
DEFAULT = "http://127.0.0.1:8000"


def reload(url: Url = DEFAULT, on: OnHost = "", as_json: JsonFlag = False) -> None:
    """Read the settings again (file, environment and flags of the server), and change what they change."""
    from freehold.cli.http import on_host, post_json

    told = post_json(url, on_host("/freehold/reload", on), {})
    if as_json:
        print_json(told)
        return
    print(f"Changed: {', '.join(told['changed'])}." if told["changed"] else "Nothing has changed.")
    if told["gateway"]:
        print(f"{told['gateway']} takes over; the old one finishes what it has.")


def upgrade(url: Url = DEFAULT, on: OnHost = "", as_json: JsonFlag = False) -> None:
    """After installing another version: new processes take the old ones' place, first the gateway, then each worker."""
    from freehold.cli.http import on_host, post_json

    told = post_json(url, on_host("/freehold/upgrade", on), {})
    if as_json:
        print_json(told)
        return
    if told["gateway"]:
        print(f"{told['gateway']} takes over; the old one finishes what it has.")
    print("New workers take the old ones' place, one by one; see `freehold workers`.")
