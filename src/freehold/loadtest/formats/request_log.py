"""Freehold's own request log: one `sample.LoggedRequest` a line, so that yesterday's traffic can be played again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from freehold.loadtest.formats.row import Row, bad_line, json_rows
from freehold.sample import LoggedRequest

COLUMNS = ("arrival_unix_s", "input_tokens", "output_tokens")
LATEST_UNIX_S = 1e11
"""The year 5138: beyond it, somebody wrote milliseconds."""


def read(path: Path) -> Iterator[Row]:
    for number, line in json_rows(path, LoggedRequest):
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
