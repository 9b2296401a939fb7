"""`freehold restarts`: what restarts cost in seconds and requests, with the arithmetic."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from freehold.cli.output import JsonFlag, print_json
from freehold.errors import UsageError


def restarts(
    url: Annotated[str | None, typer.Argument(help="A running Freehold, asked for what isn't given.")] = None,
    load_s: Annotated[
        float | None, typer.Option("--load-s", help="Seconds from the start to the first answer.")
    ] = None,
    per_day: Annotated[float | None, typer.Option("--per-day", help="Restarts a day, all instances together.")] = None,
    rate: Annotated[float | None, typer.Option("--rate", help="Requests a second, on average.")] = None,
    instances: Annotated[int | None, typer.Option("--instances", help="Workers that share the requests.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what restarts cost: requests held up, seconds lost a day and a month."""
    from rich.console import Console

    from freehold.sizing import restarts as arithmetic

    seen = _seen(url) if url is not None else {}
    known: dict[str, Any] = seen | {
        name: value
        for name, value in (("load_s", load_s), ("per_day", per_day), ("rate_per_s", rate), ("instances", instances))
        if value is not None
    }
    known.setdefault("instances", 1)
    for name, flag in (("load_s", "--load-s"), ("per_day", "--per-day"), ("rate_per_s", "--rate")):
        if name not in known:
            raise UsageError(f"{flag} is not known.", next=f"Give {flag}, or the address of a running Freehold.")
        if known[name] < 0:
            raise UsageError(f"{flag} can't be negative.", next="Give 0 or more.")
    if known["instances"] < 1:
        raise UsageError("--instances must be at least 1.", next="An instance is a worker.")
    found = arithmetic.restarts(**known)
    if as_json:
        print_json(found)
        return
    console = Console(highlight=False, soft_wrap=True)
    for name in seen:
        if known[name] == seen[name]:
            console.print(f"{name} {seen[name]:g}, as {url} tells", style="dim", markup=False)
    for line in arithmetic.arithmetic(found):
        console.print(line, markup=False)


def _seen(url: str) -> dict[str, Any]:
    """What a server tells of itself: load times, restarts since its start, requests since its start."""
    from freehold.cli.http import get_json

    info = get_json(url, "/freehold/info")
    workers = get_json(url, "/freehold/workers")["workers"]
    loads = [sum(phase["seconds"] for phase in model["phases"]) for model in info["models"]]
    seen: dict[str, Any] = {"instances": max(1, len(workers))}
    if loads:
        seen["load_s"] = max(loads)
    if info["uptime_s"] > 0:
        seen["rate_per_s"] = info["accepted"] / info["uptime_s"]
    watched = [row for row in workers if row["since_unix_s"]]
    if watched:
        now = time.time()
        seen["per_day"] = sum(row["restarts"] * 86_400.0 / max(1.0, now - row["since_unix_s"]) for row in watched)
    return seen
