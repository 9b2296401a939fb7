"""`freehold requests`: what the local history knows of each request: filtered, shown, or written out to be replayed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.cli.output import JsonFlag, print_json
from freehold.errors import UsageError

if TYPE_CHECKING:
    from freehold.telemetry.history_read import RowFilter
    from freehold.telemetry.row import Row

OUTCOMES = ("ok", "refused", "failed", "cancelled", "expired")
SHOWN = 20


def requests(
    port: Annotated[int | None, typer.Option("--port", help="Of the server; default: server.port.")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="The history's file, instead.")] = None,
    since: Annotated[str, typer.Option("--since", help="`2h` ago, or a time such as 2026-03-01T12:00.")] = "",
    until: Annotated[str, typer.Option("--until", help="As --since.")] = "",
    outcome: Annotated[str, typer.Option("--outcome", help="ok, refused, failed, cancelled or expired.")] = "",
    model: Annotated[str, typer.Option("--model", help="The model's name in the API.")] = "",
    tenant: Annotated[str, typer.Option("--tenant", help="Id of an API key.")] = "",
    id: Annotated[str, typer.Option("--id", help="One request, with its text if that is kept.")] = "",
    slowest: Annotated[int, typer.Option("--slowest", min=0, help="So many that took longest.")] = 0,
    limit: Annotated[int, typer.Option("--limit", min=0, help=f"The newest so many; {SHOWN} unless told.")] = 0,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write all that fit there, as a table.")] = None,
    jsonl: Annotated[
        Path | None, typer.Option("--jsonl", help="Write all that fit there, for `freehold load --trace`.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show requests that have ended, from the history that a server keeps on this machine; no server need run."""
    from freehold import config
    from freehold.telemetry.history import history_path
    from freehold.telemetry.history_read import FOREVER_UNIX_S, RowFilter, read_rows

    if outcome and outcome not in OUTCOMES:
        raise UsageError(f"{outcome!r} is no outcome.", next=f"It is one of {', '.join(OUTCOMES)}.")
    settings = config.load()[0]
    path = file or history_path(settings.home, settings.server.port if port is None else port)
    now_unix_s = time.time()
    writes = csv is not None or jsonl is not None
    which = RowFilter(
        since_unix_s=moment(since, now_unix_s, "--since") if since else 0.0,
        until_unix_s=moment(until, now_unix_s, "--until") if until else FOREVER_UNIX_S,
        outcome=outcome, model=model, tenant=tenant, id=id, slowest=slowest,
        limit=limit or (0 if writes or slowest else SHOWN),
    )  # fmt: skip
    if writes:
        told = _write(path, which, csv, jsonl)
        print_json(told) if as_json else _say_written(told)
        return
    rows = list(read_rows(path, which))
    texts = _texts(path, id) if id else None
    if as_json:
        print_json({"data": [_told(row) for row in rows], "texts": texts})
    else:
        _print(rows, texts, path)


def moment(text: str, now_unix_s: float, what: str) -> float:
    """`90s`, `10min`, `2h` or `3d` ago, or an ISO date or time of this machine's zone. Raises `UsageError`."""
    import datetime

    from freehold.cli.load_plan import seconds_of

    if text[-1:] == "d" and text[:-1].replace(".", "", 1).isdigit():
        return now_unix_s - float(text[:-1]) * 86_400.0
    try:
        return datetime.datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        pass
    try:
        return now_unix_s - seconds_of(text, what)
    except UsageError:
        next = "Write 90s, 10min, 2h or 3d for so long ago, or a time such as 2026-03-01T12:00."
        raise UsageError(f"{what} {text!r} is no time.", next=next) from None


def _write(path: Path, which: RowFilter, csv: Path | None, jsonl: Path | None) -> dict[str, Any]:
    from freehold.telemetry.export import write_csv, write_jsonl
    from freehold.telemetry.history_read import read_rows

    told: dict[str, Any] = {}
    try:
        if csv is not None:
            with csv.open("w", encoding="utf-8", newline="") as file:
                told["csv"] = {"path": str(csv), "requests": write_csv(read_rows(path, which), file)}
        if jsonl is not None:
            with jsonl.open("w", encoding="utf-8") as file:
                written, left_out = write_jsonl(read_rows(path, which), file)
                told["jsonl"] = {"path": str(jsonl), "requests": written, "left_out": left_out}
    except OSError as error:
        raise UsageError(f"Can't write {error.filename}.", f"{error.strerror}.", "Name another file.") from error
    return told


def _say_written(told: dict[str, Any]) -> None:
    for kind, each in told.items():
        left_out = each.get("left_out")
        more = f" ({left_out} left out: turned down before their prompt was counted)" if left_out else ""
        print(f"{each['requests']} requests written to {each['path']} as {kind.upper()}{more}.")


def _texts(path: Path, id: str) -> Any:
    import json

    from freehold.telemetry.history_read import read_texts

    texts = read_texts(path, id)
    return json.loads(texts) if texts else None


def _told(row: Row) -> dict[str, Any]:
    told = {name: getattr(row, name) for name in row.__struct_fields__}
    return told | {"queue_ms": row.queue_ms, "tpot_ms": row.tpot_ms}


def _print(rows: list[Row], texts: Any, path: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not rows:
        console.print(f"No such request in {path}.", markup=False)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("received", "id", "model", "outcome"):
        table.add_column(heading, overflow="fold")
    for heading in ("queue ms", "TTFT ms", "TPOT ms", "total ms", "in", "out"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row))
    console.print(table)
    if texts is not None:
        console.print_json(data=texts)


def _cells(row: Row) -> Iterator[str]:
    whole_s = int(row.received_unix_s)
    yield time.strftime("%m-%d %H:%M:%S", time.localtime(whole_s)) + f".{int(row.received_unix_s % 1 * 1000):03d}"
    yield row.id
    yield row.model
    yield row.outcome + (f" ({row.code})" if row.code else "")
    for ms in (row.queue_ms, row.first_ms, row.tpot_ms, row.delivered_ms):
        yield "-" if ms is None else f"{ms:.1f}"
    yield str(row.prompt_tokens)
    yield str(row.completion_tokens)
