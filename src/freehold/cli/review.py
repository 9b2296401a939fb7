"""`freehold review`: what the fleet had to carry lately, how it fared, and what would have sufficed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.cli.output import ConfigFile, JsonFlag, print_json
from freehold.errors import FreeholdError, UsageError

if TYPE_CHECKING:
    from freehold.sizing.past import Past, Shadow, Stood
    from freehold.sizing.report.document import Document
    from freehold.sizing.work import Fleet
    from freehold.slo import Objective

DAY_S = 86_400.0


def review(
    url: Annotated[
        str, typer.Option("--url", help="The server whose step log tells how fast a worker is.")
    ] = "http://127.0.0.1:8000",
    history: Annotated[
        Path | None, typer.Option("--history", help="File of the history; that of the URL's port on this machine.")
    ] = None,
    days: Annotated[float, typer.Option("--days", min=0.0001, help="How far back.")] = 7.0,
    slo: Annotated[
        list[str] | None, typer.Option("--slo", help="Objectives; else observe.slo.", metavar="OBJECTIVE")
    ] = None,
    model: Annotated[str, typer.Option("--model", help="Which model; the busiest unless told.")] = "",
    profile: Annotated[
        str, typer.Option("--profile", help="A profile instead of the running server's step log.", metavar="PROFILE")
    ] = "",
    out: Annotated[
        Path | None, typer.Option("--out", help="Write review.html and review.md there.", metavar="DIR")
    ] = None,
    config_file: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Review the last days from the history of requests: what was carried, what failed, what would have sufficed."""
    from freehold import config
    from freehold.cli.past_read import recorded
    from freehold.sizing.past import shadow
    from freehold.sizing.report.past import review as document
    from freehold.slo import parse

    tree, _ = config.load({}, file=Path(config_file) if config_file else None)
    objectives = parse(slo or tree.observe.slo) if slo or tree.observe.slo else ()
    path = history or _history_of(tree.home, url)
    past, stood, which = recorded(path, time.time() - days * DAY_S, model)
    fleet, remark = _fleet(url, which, profile, past) if objectives else (None, "")
    tried = shadow(past, objectives, fleet, stood.workers_most) if fleet else None
    told = document(past, stood, objectives, tried, tree.observe.against)
    pages = _write(told, out) if out else None
    if as_json:
        print_json(_plain(told, past, stood, objectives, tried, pages))
    else:
        _print(told, remark, pages)


def _history_of(home: Path, url: str) -> Path:
    from urllib.parse import urlsplit

    from freehold.cli.http import base_url
    from freehold.telemetry.history import history_path

    return history_path(home, urlsplit(base_url(url)).port or 80)


def _fleet(url: str, model: str, profile: str, past: Past) -> tuple[Fleet | None, str]:
    """What a worker is in the simulation: by a profile, the step log of the server, or the answers in the history.
    None, and why, where none of them tells enough."""
    from freehold.cli import fleet_law
    from freehold.cli.past_read import samples_of
    from freehold.profile import open_profile
    from freehold.sizing.work import Fleet

    if profile:
        return Fleet(profile=open_profile(profile), replicas=1), ""
    try:
        known = fleet_law.learn(url, model, None, samples_of(past), 1)
    except FreeholdError as error:
        return None, f"What would have sufficed isn't told: {error.what} {error.why}"
    return Fleet(profile=known.profile, replicas=1, gap_ms=known.gap_ms), f"Step law from {known.source}."


def _write(told: Document, folder: Path) -> dict[str, str]:
    import datetime

    import freehold
    from freehold.sizing.report import markdown, page

    when = f"Made by Freehold {freehold.__version__} on {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC."
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "review.html").write_text(page.page(told, when, "freehold review"), encoding="utf-8")
        (folder / "review.md").write_text(markdown.markdown(told, when), encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"Can't write to {folder}.", f"{error.strerror}.", "Name another folder with --out."
        ) from error
    return {"html": str(folder / "review.html"), "markdown": str(folder / "review.md")}


def _print(told: Document, remark: str, pages: dict[str, str] | None) -> None:
    from rich.console import Console
    from rich.markdown import Markdown

    from freehold.sizing.report import markdown

    console = Console(highlight=False)
    console.print(Markdown(markdown.markdown(told, remark)))
    if pages:
        console.print(f"Written to {pages['html']} and review.md.", markup=False)


def _plain(
    told: Document, past: Past, stood: Stood, objectives: tuple[Objective, ...], tried: Shadow | None,
    pages: dict[str, str] | None,
) -> dict[str, Any]:  # fmt: skip
    from freehold.sizing.past import failures, fared, waste

    wasted, written = waste(past)
    return {
        "verdict": told.verdict,
        "requests": len(past.outcomes),
        "ran": stood.workers_most,
        "sufficed": tried.sufficed if tried else None,
        "slowness": tried.slowness if tried else None,
        "objectives": fared(past, objectives),
        "tries": tried.tries if tried else [],
        "failures": [{"outcome": outcome, "code": code, "count": count} for outcome, code, count in failures(past)],
        "tokens": {"written": written, "for_nobody": wasted},
        "stood": stood,
        "changes": list(told.sections[-1].points),
        **(pages or {}),
    }
