"""Reads the local history from any process, while it is being written or long after: slots in order, rows by filter."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from freehold.core import Record
from freehold.errors import StoreError, UsageError
from freehold.telemetry.row import Row
from freehold.telemetry.slot import Slot, unpack
from freehold.telemetry.windows import joined

T = TypeVar("T")
FOREVER_UNIX_S = 1e12
_rows = msgspec.msgpack.Decoder(Row)


class RowFilter(Record, frozen=True):
    """Which requests; what is empty or 0 asks for nothing."""

    since_unix_s: float = 0.0
    until_unix_s: float = FOREVER_UNIX_S
    outcome: str = ""
    model: str = ""
    tenant: str = ""
    id: str = ""
    slowest: int = 0
    """So many, those that took longest first; else in the order in which they came."""
    limit: int = 0
    """The newest so many."""


def read_slots(path: Path, since_unix_s: float = 0.0, until_unix_s: float = FOREVER_UNIX_S) -> Iterator[Slot]:
    """Slots that began in [since, until), oldest first; two gateways' slots of the same time are one. Raises
    `UsageError` where there is no history, `StoreError` where it can't be read."""
    query = "SELECT slot FROM slots WHERE begin_unix_s >= ? AND begin_unix_s < ? ORDER BY begin_unix_s, rowid"
    last: Slot | None = None
    for (data,) in _select(path, query, (since_unix_s, until_unix_s)):
        slot = _whole(path, unpack, data)
        if last is not None and last.begin_unix_s == slot.begin_unix_s:
            last = joined(last, slot)
            continue
        if last is not None:
            yield last
        last = slot
    if last is not None:
        yield last


def read_rows(path: Path, which: RowFilter) -> Iterator[Row]:
    """Raises as `read_slots` does."""
    where, values = _where(which)
    if which.slowest:
        order = f"ORDER BY took_ms DESC LIMIT {int(which.slowest)}"
    elif which.limit:
        order = f"ORDER BY received_unix_s DESC, rowid DESC LIMIT {int(which.limit)}"
    else:
        order = "ORDER BY received_unix_s, rowid"
    found = _select(path, f"SELECT row FROM requests WHERE {where} {order}", values)  # noqa: S608  our own words
    if which.limit and not which.slowest:
        yield from reversed([_whole(path, _rows.decode, data) for (data,) in found])
    else:
        for (data,) in found:
            yield _whole(path, _rows.decode, data)


def read_texts(path: Path, id: str) -> bytes:
    """Prompts and answers of a request as JSON; empty where they are not kept."""
    found = _select(path, "SELECT texts FROM requests WHERE id = ? ORDER BY rowid DESC LIMIT 1", (id,))
    return next((bytes(texts) for (texts,) in found), b"")


def ids_since(path: Path, unix_s: float) -> set[str]:
    """Ids of the requests received since then that have a row."""
    return {id for (id,) in _select(path, "SELECT id FROM requests WHERE received_unix_s >= ?", (unix_s,))}


def last_begin_unix_s(path: Path) -> float | None:
    """When the newest slot began."""
    return next((begin for (begin,) in _select(path, "SELECT max(begin_unix_s) FROM slots", ())), None)


def _whole(path: Path, decode: Callable[[bytes], T], data: bytes) -> T:
    try:
        return decode(data)
    except (zlib.error, msgspec.DecodeError) as error:
        raise StoreError(f"An entry of the history {path} is broken.", f"{error}.", "Move the file away.") from error


def _where(which: RowFilter) -> tuple[str, tuple[object, ...]]:
    parts = ["received_unix_s >= ?", "received_unix_s < ?"]
    values: list[object] = [which.since_unix_s, which.until_unix_s]
    for name in ("outcome", "model", "tenant", "id"):
        if wanted := getattr(which, name):
            parts.append(f"{name} = ?")
            values.append(wanted)
    return " AND ".join(parts), tuple(values)


def _select(path: Path, query: str, values: tuple[object, ...]) -> Iterator[tuple[Any, ...]]:
    if not path.exists():
        why = "It is written while a server runs, unless observe.history is off."
        raise UsageError(f"There is no history at {path}.", why, "Name the server's --port, or the file.")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)) as db:
            if db.execute("PRAGMA user_version").fetchone() != (0,):  # else it is just being made
                yield from db.execute(query, values)
    except sqlite3.Error as error:
        raise StoreError(f"Can't read the history {path}.", f"{error}.", "Check the file and the disk.") from error
