"""`freehold top`: what the dashboard shows first, live in a terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.cli.output import JsonFlag, gib, print_json
from freehold.errors import Unreachable, UsageError

if TYPE_CHECKING:
    from rich.console import Console

WINDOWS = ("10s", "1m", "5m", "1h", "1d")


def top(
    url: Annotated[str, typer.Option("--url", help="Address of the server.")] = "http://127.0.0.1:8000",
    window: Annotated[str, typer.Option("--window", help="How far back: 10s, 1m, 5m, 1h or 1d.")] = "1m",
    every_s: Annotated[float, typer.Option("--every", min=0.2, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and leave.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Objectives, percentiles, queue, cost, workers and alerts of a running server, live. Ctrl-C leaves."""
    if window not in WINDOWS:
        raise UsageError(f"There is no window {window!r}.", next=f"One of {', '.join(WINDOWS)}.")
    found = _look(url, window)
    if as_json:
        print_json(found)
        return
    from rich.console import Console

    from freehold.cli.top_show import screen

    console = Console(highlight=False)
    if once or not console.is_terminal:
        console.print(screen(found, url, gib))
    else:
        _live(console, found, url, window, every_s)


def _look(url: str, window: str) -> dict[str, Any]:
    from freehold.cli.http import get_json

    found = get_json(url, f"/freehold/stats?window={window}")
    found["alerts"] = get_json(url, "/freehold/alerts").get("data", [])
    return found


def _live(console: Console, found: dict[str, Any], url: str, window: str, every_s: float) -> None:
    """A server that is away for a while is waited for: what was known of it stays on the screen."""
    from rich.live import Live

    from freehold.cli.top_show import screen

    with Live(screen(found, url, gib), console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.refresh()
            time.sleep(every_s)
            away = ""
            try:
                found = _look(url, window)
            except Unreachable as error:
                away = error.what
            live.update(screen(found, url, gib, away))
