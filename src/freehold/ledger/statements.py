"""Reads `sql/`: the named queries, and the numbered migrations with the act of applying them.

A statement is what ends in `;`. A query's name is in the line `-- name: ...` above it.
"""

from __future__ import annotations

import re
import sqlite3
from functools import cache
from importlib.resources import files

from freehold import order
from freehold.ledger import rows

APPLICATION_ID = 0x46524C44
"""`FRLD` in the file's header: how a ledger is told from someone else's SQLite file."""


@cache
def queries() -> dict[str, str]:
    """The statements of `queries.sql` by name."""
    parts = re.split(r"^-- name: (\w+)$", _text("queries.sql"), flags=re.MULTILINE)
    return {name: _without_comments(body) for name, body in zip(parts[1::2], parts[2::2], strict=True)}


@cache
def migrations() -> tuple[tuple[int, str], ...]:
    """(version, script) of each `0001_name.sql`, in order and without a hole."""
    found = sorted(entry.name for entry in (files(__package__) / "sql").iterdir() if re.match(r"\d{4}_", entry.name))
    assert [int(name[:4]) for name in found] == list(range(1, len(found) + 1)), f"a hole in {found}"
    return tuple((int(name[:4]), _text(name)) for name in found)


def newest() -> int:
    """The schema version this program works with."""
    return migrations()[-1][0]


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring the schema from `version` to the newest. The caller holds the write transaction."""
    connection.create_function("lot_of", 1, rows.lot, deterministic=True)
    connection.create_function("old_model", 1, lambda head: rows.requests.decode(head).model)
    connection.create_function("old_tenant", 1, lambda head: rows.requests.decode(head).tenant)
    connection.create_function("old_cost_tokens", 1, lambda body: order.cost_tokens(rows.requests.decode(body)))
    for number, script in migrations():
        if number > version:
            for statement in _split(script):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _text(name: str) -> str:
    return (files(__package__) / "sql" / name).read_text(encoding="utf-8")


def _without_comments(text: str) -> str:
    return re.sub(r"--.*", "", text).strip().rstrip(";")


def _split(script: str) -> list[str]:
    """`executescript` would commit before it starts, so the statements are run one by one."""
    return [statement for part in _without_comments(script).split(";") if (statement := part.strip())]
