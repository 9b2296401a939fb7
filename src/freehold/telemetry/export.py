"""Rows as other programs read them: as the trace that `freehold load --trace` replays, and as a table.

A request that was turned down before its prompt was counted can't be replayed and is left out of a trace; the table has
it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import TextIO

import msgspec

from freehold.sample import LoggedRequest
from freehold.telemetry.row import Row

COLUMNS = ("arrival_unix_s", "input_tokens", "output_tokens", "tenant", "priority", "deadline_unix_s")


def logged(row: Row) -> LoggedRequest | None:
    """None where nobody counted the prompt. An answer that was cut off counts as long as it was."""
    if not row.prompt_tokens:
        return None
    due = row.deadline_ms
    return LoggedRequest(
        arrival_unix_s=row.received_unix_s, input_tokens=row.prompt_tokens, output_tokens=row.completion_tokens,
        tenant=row.tenant, priority=row.priority,
        deadline_unix_s=None if due is None else row.received_unix_s + due / 1000.0,
    )  # fmt: skip


def write_jsonl(rows: Iterable[Row], file: TextIO) -> tuple[int, int]:
    """A `LoggedRequest` a line, with the other fields of its row. How many were written, and left out."""
    written = left_out = 0
    for row in rows:
        line = logged(row)
        if line is None:
            left_out += 1
            continue
        told = {name: getattr(row, name) for name in row.__struct_fields__} | msgspec.to_builtins(line)
        file.write(msgspec.json.encode(told).decode() + "\n")
        written += 1
    return written, left_out


def write_csv(rows: Iterable[Row], file: TextIO) -> int:
    """All rows, one a line; its first columns are those of a trace, empty where nothing was counted."""
    others = [name for name in Row.__struct_fields__ if name not in COLUMNS]
    table = csv.writer(file, lineterminator="\n")
    table.writerow([*COLUMNS, *others, "queue_ms", "tpot_ms"])
    written = 0
    for row in rows:
        line = logged(row)
        first = [row.received_unix_s, "", "", row.tenant, row.priority, ""]
        if line is not None:
            first = [getattr(line, name) for name in COLUMNS]
        table.writerow([*first, *(getattr(row, name) for name in others), row.queue_ms, row.tpot_ms])
        written += 1
    return written
