"""`freehold report DIR`: one page about a folder of measurements, or about what changed between two."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli.output import JsonFlag, print_json
from freehold.errors import UsageError

if TYPE_CHECKING:
    from freehold.sizing.report.document import Document
    from freehold.sizing.report.run import Run


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a run.", metavar="DIR")],
    other: Annotated[
        Path | None, typer.Argument(help="A second run: say what changed from the first to it.", metavar="DIR_B")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to write; report.html in the (second) folder.", metavar="FILE")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make one self-contained HTML page (and Markdown beside it) from the files in a folder; compare two folders."""
    from freehold.sizing.report import document, markdown, page

    run = read(folder)
    told = document.comparison(run, read(other)) if other else document.document(run)
    name = "comparison.html" if other else "report.html"
    path = out or (other or folder) / name
    when = _when()
    command = " ".join(["freehold", "report", str(folder), *([str(other)] if other else [])])
    _write(path, page.page(told, when, command))
    _write(path.with_suffix(".md"), markdown.markdown(told, when))
    if as_json:
        print_json(_plain(told, path))
    else:
        _print(told, path)


def made(folder: Path) -> Path:
    """The page of `folder`, written there; its path."""
    from freehold.sizing.report import document, markdown, page

    told, path = document.document(read(folder)), folder / "report.html"
    when = _when()
    _write(path, page.page(told, when, f"freehold report {folder}"))
    _write(path.with_suffix(".md"), markdown.markdown(told, when))
    return path


def _when() -> str:
    return f"Made by Freehold {_version()} on {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC."


def read(folder: Path) -> Run:
    """Whatever is there. Raises `UsageError` where nothing is."""
    from freehold.sizing.report import run

    files = {name: (folder / name).read_bytes() for name in run.FILES if (folder / name).is_file()}
    samples = folder / run.SAMPLES
    if not files and not samples.is_file():
        raise UsageError(
            f"There is nothing to report in {folder}.",
            f"It has none of {', '.join([*run.FILES, run.SAMPLES])}.",
            "Measure first: freehold load URL --out DIR, freehold knee URL --out DIR, or freehold verdict DIR.",
        )
    name = folder.resolve().name
    if not samples.is_file():
        return run.read_run(name, files, None)
    with samples.open("rb") as lines:
        return run.read_run(name, files, lines)


def _version() -> str:
    import freehold

    return freehold.__version__


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"Can't write {path}.", f"{error.strerror}.", "Name another file with --out.") from error


def _plain(told: Document, path: Path) -> object:
    """As JSON: figures with tags and sources; plots stay on the page."""
    from freehold.cli.money import plain
    from freehold.sizing.report.document import figures_of

    return plain(
        {
            "title": told.title,
            "verdict": told.verdict,
            "figures": figures_of(told),
            "changes": told.changes,
            "missing": told.missing,
            "html": str(path),
            "markdown": str(path.with_suffix(".md")),
        }
    )


def _print(told: Document, path: Path) -> None:
    print(told.verdict)
    for one in told.missing:
        print(f"  not there: {one}", file=sys.stderr)
    print(f"Written to {path} and {path.with_suffix('.md').name}.")
