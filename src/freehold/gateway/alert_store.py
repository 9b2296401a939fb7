"""What alerting must remember over the death of its gateway: what fires, what has been told, what has still to be, and
the silences. One small SQLite file beside the history.

The process decides by what it has in memory; this is its copy on the disk. A disk that fails is told
and stops no alert; what it did not take ends with the process.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from freehold.gateway.notify_forms import Notice
from freehold.telemetry.alerts import Alert

KEPT_ALERTS = 1000
BUSY_S = 2.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS outbox (receiver TEXT, id TEXT, blob BLOB, PRIMARY KEY (receiver, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alerts (id TEXT PRIMARY KEY, since_unix_s REAL, blob BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, blob BLOB) WITHOUT ROWID;
"""
T = TypeVar("T")


class Waiting(NamedTuple):
    """A notice that a receiver hasn't had."""

    receiver: str
    notice: Notice


class AlertStore:
    """For one thread. Every method may raise `sqlite3.Error`."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False, isolation_level=None)
        try:
            path.chmod(0o600)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.executescript(_SCHEMA)
        except (sqlite3.Error, OSError):
            self._db.close()
            raise

    def waiting(self) -> list[Waiting]:
        """In the order they were made."""
        rows = self._db.execute("SELECT receiver, blob FROM outbox").fetchall()
        found = [Waiting(receiver, notice) for receiver, blob in rows if (notice := decoded(blob, Notice)) is not None]
        return sorted(found, key=lambda each: each.notice.at_unix_s)

    def put(self, waiting: Sequence[Waiting]) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO outbox VALUES (?, ?, ?)",
            [(receiver, notice.id, msgspec.msgpack.encode(notice)) for receiver, notice in waiting],
        )

    def delivered(self, waiting: Waiting) -> None:
        self._db.execute("DELETE FROM outbox WHERE receiver = ? AND id = ?", (waiting.receiver, waiting.notice.id))

    def remember(self, alerts: Sequence[Alert]) -> None:
        """How these are now; the newest `KEPT_ALERTS` are kept."""
        self._db.executemany(
            "INSERT OR REPLACE INTO alerts VALUES (?, ?, ?)",
            [(each.id, each.since_unix_s, msgspec.msgpack.encode(each)) for each in alerts],
        )
        self._db.execute(
            "DELETE FROM alerts WHERE id IN (SELECT id FROM alerts ORDER BY since_unix_s DESC LIMIT -1 OFFSET ?)",
            (KEPT_ALERTS,),
        )

    def remembered(self, limit: int = 100) -> list[Alert]:
        """Newest first."""
        rows = self._db.execute("SELECT blob FROM alerts ORDER BY since_unix_s DESC LIMIT ?", (limit,)).fetchall()
        return [alert for (blob,) in rows if (alert := decoded(blob, Alert)) is not None]

    def keep(self, name: str, blob: bytes) -> None:
        """`blob` is what `msgspec.msgpack` makes of it."""
        self._db.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (name, blob))

    def kept(self, name: str, kind: type[T]) -> T | None:
        row = self._db.execute("SELECT blob FROM kept WHERE name = ?", (name,)).fetchone()
        return None if row is None else decoded(row[0], kind)

    def close(self) -> None:
        self._db.close()


def opened(path: Path) -> AlertStore:
    """A file that is none any more is put aside, and a new one begun. Raises `sqlite3.Error`, `OSError`."""
    try:
        return AlertStore(path)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        path.replace(path.with_suffix(".broken"))
        return AlertStore(path)


def decoded(blob: bytes, kind: type[T]) -> T | None:
    """None for what another version wrote, and this one can't read."""
    try:
        return msgspec.msgpack.decode(blob, type=kind)
    except msgspec.DecodeError:
        return None
