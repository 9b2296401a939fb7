"""`freehold rollout`: another model under the same name, compared first, and back by itself if it does worse."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from freehold.cli.output import JsonFlag, OnHost, print_json
from freehold.errors import Conflict, UsageError

LOOK_S = 0.5
OVER = ("done", "rolled_back")


def rollout(
    model: Annotated[str | None, typer.Argument(help="The new model, as for `freehold serve`.")] = None,
    name: Annotated[str, typer.Option("--name", help="Whose place it takes; not needed where one is served.")] = "",
    canary: Annotated[
        str, typer.Option("--canary", help="Its share of the requests while it is compared; 100%: not compared.")
    ] = "10%",
    window: Annotated[str, typer.Option("--window", help="How long they are compared: 90s, 10m.")] = "60s",
    end: Annotated[bool, typer.Option("--end", help="Roll back the one that is on its way.")] = False,
    on: OnHost = "",
    url: Annotated[str, typer.Option("--url", help="Address of the server.")] = "http://127.0.0.1:8000",
    wait: Annotated[bool, typer.Option(help="Wait for the outcome; Ctrl-C stops waiting, not the rollout.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Load a new model beside the old one, give it a share of the requests, compare, then take over or roll back."""
    from freehold.cli.http import delete_json, get_json, on_host, post_json

    path = on_host("/freehold/rollout", on)
    if end == (model is not None):
        raise UsageError("Name the new model, or say --end.", next="`freehold rollout MODEL` begins one.")
    if end:
        delete_json(url, path)
    else:
        body = {
            "model": model, "name": name, "canary_percent": percent(canary), "window_s": seconds(window),
        }  # fmt: skip
        post_json(url, path, body)
    told = _follow(url, path, as_json) if wait else get_json(url, path)
    if as_json:
        print_json(told)
    if told["state"] == "rolled_back" and not end:
        raise Conflict(f"{told['model']} was rolled back.", told["reason"])


def _follow(url: str, path: str, as_json: bool) -> dict[str, Any]:
    """Show how it goes until it is over."""
    from rich.console import Console

    from freehold.cli.http import get_json

    console = Console(stderr=as_json, highlight=False)
    before = ""
    with console.status("") as status:
        while (told := get_json(url, path))["state"] not in OVER:
            line = told["state"].replace("_", " ")
            if line != before:
                console.print(f"{told['seconds']:6.1f} s  {line}", markup=False)
                before = line
            status.update(_figures(told) if told["state"] == "comparing" else told["detail"] or told["reason"])
            time.sleep(LOOK_S)
    console.print(f"{told['seconds']:6.1f} s  {told['state'].replace('_', ' ')}. {told['reason']}", markup=False)
    return told


def _figures(told: dict[str, Any]) -> str:
    def side(which: str) -> str:
        p99_ms = told[f"{which}_p99_ms"]
        slowest = "" if p99_ms is None else f", p99 {p99_ms:.0f} ms"
        return f"{which} {told[f'{which}_answers']} answers, {told[f'{which}_failed']} failed{slowest}"

    return f"{side('old')}; {side('new')}. {told['reason']}"


def percent(text: str) -> int:
    """`10%` or `10`. Raises `UsageError`."""
    digits = text.strip().removesuffix("%")
    if not digits.isdecimal() or not 1 <= int(digits) <= 100:
        raise UsageError(f"--canary {text} is no share.", next="Give a whole number from 1% to 100%.")
    return int(digits)


def seconds(text: str) -> float:
    """`90`, `90s`, `10m` or `1h`. Raises `UsageError`."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1.0)
    try:
        found = float(number) * unit
    except ValueError:
        found = 0.0
    if not 1.0 <= found <= 86_400.0:
        raise UsageError(f"--window {text} is no time.", next="Give one from 1s to 24h, such as 90s or 10m.")
    return found
