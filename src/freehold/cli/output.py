"""What all commands share: the console, tables, and the one JSON line that ends a `--json` run."""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec
import typer

from freehold.errors import UsageError

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of standard output.")]
SetFlag = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any setting, as section.key=value; `freehold config` lists them.", metavar="KEY=VALUE"),
]
StoreFlag = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="redis://HOST:6379/0: gateways and workers on any hosts share it. [default: a file]",
    ),
]
PipeHost = Annotated[
    str | None,
    typer.Option(help="With --store: where workers of other hosts dial in. [default: 127.0.0.1, this machine's alone]"),
]
PipePort = Annotated[int | None, typer.Option(help="The port for them. [default: any free one]")]
OnHost = Annotated[
    str, typer.Option("--on", metavar="HOST", help="Of several that share a store; else the server's own.")
]
ConfigFile = Annotated[str | None, typer.Option("--config", help="Configuration file (TOML).", metavar="FILE")]


def overrides(given: list[str] | None) -> dict[str, str]:
    """`--set section.key=value` flags, by key. Raises `UsageError`, or `ConfigError` for an unknown key."""
    from freehold import config

    pairs = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text} has no value.", next="Write --set section.key=value.")
        pairs[name.strip()] = value
    config.reject_unknown_flags(pairs)
    return pairs


def print_json(value: Any) -> None:
    """`value` (plain data or nouns of `core`) as one line on standard output."""
    print(json.dumps(msgspec.to_builtins(value)), flush=True)


def gib(size_bytes: float) -> str:
    """Bytes for people: `1.5 GiB`, `340 MiB`."""
    return f"{size_bytes / (1 << 30):.1f} GiB" if size_bytes >= 1 << 30 else f"{size_bytes / (1 << 20):.0f} MiB"
