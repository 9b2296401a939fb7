"""`freehold batch`: a file of requests in, a file of answers out. Interrupted, the batch goes on at the server."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.cli.output import JsonFlag, print_json
from freehold.errors import FreeholdError, UsageError

if TYPE_CHECKING:
    import httpx

Url = Annotated[str, typer.Option("--url", help="Address of the server.")]
URL = "http://127.0.0.1:8000"
LOOK_S = 0.5
ENDED = ("completed", "failed", "expired", "cancelled")


def batch(
    file: Annotated[str, typer.Argument(help="JSON lines with custom_id, method, url and body; or the id of a batch.")],
    url: Url = URL,
    out: Annotated[Path | None, typer.Option("--out", help="Where the answers go; default: beside FILE.")] = None,
    window: Annotated[str, typer.Option("--window", help="Time for all of it, such as 90m, 24h or 7d.")] = "24h",
    as_json: JsonFlag = False,
) -> None:
    """Have every request in a file answered, behind everybody who waits for one. Failed lines go into a file of their
    own. Ctrl-C leaves it to the server: give the batch's id instead of the file to come back."""
    from freehold.cli.http import client, reaching

    again = file.startswith("batch_") and not Path(file).exists()
    answers = out or Path(f"{file.removesuffix('.jsonl')}.answers.jsonl")
    errors = answers.with_name(answers.name.removesuffix(".jsonl") + ".errors.jsonl")
    with client(url) as http, reaching(url):
        begun = _ask(http, "GET", f"/v1/batches/{file}") if again else _submit(http, Path(file), window)
        try:
            ended = _follow(http, begun)
        except KeyboardInterrupt:
            print(f"The batch goes on. Come back with: freehold batch {begun['id']} --url {url} --out {answers}")
            raise
        written = {
            str(path): _fetch(http, ended[name], path)
            for name, path in (("output_file_id", answers), ("error_file_id", errors))
            if ended[name]
        }
    if as_json:
        print_json({"batch": ended, "files": written})
    else:
        _tell(ended, written)
    if ended["status"] != "completed" or ended["request_counts"]["failed"]:
        raise typer.Exit(1)


def _submit(http: httpx.Client, file: Path, window: str) -> dict[str, Any]:
    try:
        with file.open("rb") as lines:
            endpoint = json.loads(lines.readline())["url"]
            lines.seek(0)
            sent = {"file": (file.name, lines)}
            uploaded = _ask(http, "POST", "/v1/files", data={"purpose": "batch"}, files=sent)
    except OSError as error:
        raise UsageError(f"Can't read {file}.", str(error)) from error
    except (ValueError, KeyError, TypeError) as error:
        why = "Its first line is no JSON object with a url."
        raise UsageError(f"{file} is not the input of a batch.", why, "docs/howto.md shows one.") from error
    wanted = {"input_file_id": uploaded["id"], "endpoint": endpoint, "completion_window": window}
    return _ask(http, "POST", "/v1/batches", json=wanted)


def _follow(http: httpx.Client, batch: dict[str, Any]) -> dict[str, Any]:
    """Look until it has ended; it shows how far it is."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(batch["status"], total=None)
        while batch["status"] not in ENDED:
            time.sleep(LOOK_S)
            batch = _ask(http, "GET", f"/v1/batches/{batch['id']}")
            counts = batch["request_counts"]
            done = counts["completed"] + counts["failed"]
            progress.update(task, description=batch["status"], completed=done, total=counts["total"] or None)
    return batch


def _fetch(http: httpx.Client, id: str, path: Path) -> int:
    """Write a file of the server to `path`, whole or not at all; its lines."""
    from freehold.cli.http import raise_for_error

    beside = path.with_name(f".{path.name}.part")
    lines = 0
    try:
        with http.stream("GET", f"/v1/files/{id}/content") as reply, beside.open("wb") as to:
            if not reply.is_success:
                reply.read()
                raise_for_error(reply)
            for piece in reply.iter_bytes():
                to.write(piece)
                lines += piece.count(b"\n")
        beside.replace(path)
    except OSError as error:
        raise UsageError(f"Can't write {path}.", str(error)) from error
    finally:
        beside.unlink(missing_ok=True)
    return lines


def _tell(batch: dict[str, Any], written: dict[str, int]) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    counts = batch["request_counts"]
    console.print(f"{batch['id']}: {batch['status']}, {counts['completed']} answered, {counts['failed']} failed.")
    for path, lines in written.items():
        console.print(f"{path}: {lines} lines", markup=False, soft_wrap=True)
    for error in (batch["errors"] or {"data": []})["data"]:
        where = f"line {error['line']}: " if error["line"] else ""
        console.print(f"{where}{error['message']} ({error['code']})", style="yellow", markup=False)


def _ask(http: httpx.Client, method: str, path: str, **more: Any) -> dict[str, Any]:
    from freehold.cli.http import raise_for_error

    reply = http.request(method, path, **more)
    raise_for_error(reply)
    found = reply.json()
    if not isinstance(found, dict):
        raise FreeholdError("The server did not answer as a batch's server does.", next="Is it a Freehold server?")
    return found
