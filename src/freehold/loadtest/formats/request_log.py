"""Freehold's own request log: one `sample.LoggedRequest` a line, as JSON or CSV, so that yesterday's traffic can be
played again. `freehold requests` writes both.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from freehold.loadtest.formats.row import Row, bad_line, csv_rows, json_rows, whole
from freehold.sample import LoggedRequest

COLUMNS = ("arrival_unix_s", "input_tokens", "output_tokens")
LATEST_UNIX_S = 1e11
"""The year 5138: beyond it, somebody wrote milliseconds."""


def read(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        is_json = file.read(1) == b"{"
    for number, line in json_rows(path, LoggedRequest) if is_json else _csv_rows(path):
        if line.arrival_unix_s > LATEST_UNIX_S:
            raise bad_line(path, number, f"arrival_unix_s is {line.arrival_unix_s:.0f}: are these milliseconds?")
        due = line.deadline_unix_s
        yield Row(
            at_s=line.arrival_unix_s,
            input_tokens=line.input_tokens,
            output_tokens=line.output_tokens,
            group=line.tenant,
            priority=line.priority,
            deadline_s=None if due is None else due - line.arrival_unix_s,
        )


def _csv_rows(path: Path) -> Iterator[tuple[int, LoggedRequest]]:
    """Lines without counts are requests that nobody had room for; they can't be played."""
    for number, values in csv_rows(path, COLUMNS):
        if not values["input_tokens"]:
            continue
        try:
            due = values.get("deadline_unix_s")
            yield (
                number,
                LoggedRequest(
                    arrival_unix_s=float(values["arrival_unix_s"]),
                    input_tokens=whole(path, number, "input_tokens", values["input_tokens"]),
                    output_tokens=whole(path, number, "output_tokens", values["output_tokens"]),
                    tenant=values.get("tenant") or "",
                    priority=int(values.get("priority") or 0),
                    deadline_unix_s=float(due) if due else None,
                ),
            )
        except ValueError as error:
            raise bad_line(path, number, f"{error}.") from error
