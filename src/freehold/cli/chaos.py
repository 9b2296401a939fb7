"""`freehold chaos`: bad clients against any OpenAI-compatible server, and what was lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli.output import JsonFlag, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from freehold.loadtest.provoke import Trial

LOST = 1


def chaos(
    url: Annotated[str, typer.Argument(help="Address of the server.", metavar="URL")] = "http://127.0.0.1:8000",
    model: Annotated[str | None, typer.Option("--model", "-m", help="Model to ask; default: the first.")] = None,
    tries: Annotated[int, typer.Option("--tries", min=1, max=200, help="Clients of each kind.")] = 10,
    api_key: Annotated[
        str | None, typer.Option("--api-key", envvar="FREEHOLD_API_KEY", help="API key.", show_default=False)
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Cut connections, vanish, send half requests and nonsense, come in a burst: does the server lose anything?

    It needs HTTP alone. Killing processes of a Freehold is what benchmarks/chaos.py does.
    """
    from rich.console import Console

    from freehold.cli.http import get_json
    from freehold.errors import Unavailable

    names = [str(each["id"]) for each in get_json(url, "/v1/models", api_key).get("data", [])]
    if not names:
        raise Unavailable("No model is ready yet.", next="Try again once it is.")
    console = Console(stderr=as_json, highlight=False)
    trials = asyncio.run(_provoke(console, url, api_key, model or names[0], tries))
    lost = sum(len(trial.lost) for trial in trials)
    console.print("[green]Nothing was lost.[/]" if not lost else f"[red]{lost} lost.[/]")
    if as_json:
        print_json({"url": url, "model": model or names[0], "lost": lost, "trials": trials})
    if lost:
        raise typer.Exit(LOST)


async def _provoke(console: Console, url: str, api_key: str | None, model: str, tries: int) -> list[Trial]:
    import httpx

    from freehold.cli.http import client, reaching
    from freehold.loadtest.provoke import Provoker

    with client(url, api_key) as settled:  # address, key and proxy as every command has them
        base, headers, trust = str(settled.base_url), dict(settled.headers), settled.trust_env
    trials = []
    limits = httpx.Limits(max_connections=None)
    with reaching(url):
        async with httpx.AsyncClient(
            base_url=base, headers=headers, timeout=60.0, limits=limits, trust_env=trust
        ) as http:
            for run in Provoker(http, model, tries).trials:
                with console.status(f"[dim]{run.__name__.replace('_', ' ')}[/]"):
                    trial = await run()
                trials.append(trial)
                mark = "[red]lost[/]" if trial.lost else "[green]fine[/]"
                console.print(f"{mark}  {trial.name}: {trial.tries} tries in {trial.seconds:.1f} s   {trial.notes}")
                for text in trial.lost[:5]:
                    console.print(f"      {text}", markup=False)
    return trials
