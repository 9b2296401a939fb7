"""The SQLite file as a ledger uses it: named statements, short write transactions, a sync, and its upkeep."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from freehold.ledger import disk, statements

EMPTYING_MS = 50
"""Emptying the log keeps writers out, and gives up rather than wait longer than this for readers."""


class Tables:
    """One connection; belongs to the thread that made it. Raises `StoreError`."""

    def __init__(self, path: Path, busy_timeout_s: float) -> None:
        self.path = path
        self._busy_timeout_s = busy_timeout_s
        self._log_pages = 0
        """How long the write-ahead log was when it was last copied."""
        self._sql = statements.queries()
        self.db = disk.connect(path, busy_timeout_s)
        with disk.translated(path):
            self._disk = disk.Durable(path)

    def run(self, name: str, **values: object) -> list[tuple[Any, ...]]:
        """For use inside `write`, which translates errors."""
        return self.db.execute(self._sql[name], values).fetchall()

    def read(self, name: str, **values: object) -> list[tuple[Any, ...]]:
        with disk.translated(self.path):
            return self.run(name, **values)

    @contextmanager
    def write(self) -> Iterator[None]:
        """One transaction, which sees and changes what no other process changes meanwhile."""
        with self._transaction("BEGIN IMMEDIATE"):
            yield

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Several reads of one moment; stops nobody."""
        with self._transaction("BEGIN"):
            yield

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        with disk.translated(self.path):
            self.db.execute(begin)
            try:
                yield
                self.db.execute("COMMIT")
            except BaseException:
                disk.rollback(self.db)
                raise

    def sync(self) -> None:
        """What was committed before survives a power cut when this returns."""
        with disk.translated(self.path):
            self._disk.sync()

    def check_integrity(self) -> list[str]:
        with disk.translated(self.path):
            try:
                damage = [line for (line,) in self.db.execute("PRAGMA integrity_check") if line != "ok"]
                return damage or [line for (line,) in self.run("wrong_rows")]
            except sqlite3.DatabaseError as error:
                if disk.damaged(error):
                    return [str(error)]  # too broken even to be checked
                raise

    def checkpoint(self) -> None:
        """Copy the write-ahead log into the database as far as it goes without stopping anyone. Once nobody has
        written since the last time, empty the log: what was deleted is then in neither file."""
        with disk.translated(self.path):
            ((_, pages, copied),) = self.db.execute("PRAGMA wal_checkpoint(PASSIVE)")
            if pages > 0 and pages == copied == self._log_pages:
                self.db.execute(f"PRAGMA busy_timeout = {EMPTYING_MS}")
                self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                self.db.execute(f"PRAGMA busy_timeout = {int(self._busy_timeout_s * 1000)}")
                pages = 0
            self._log_pages = pages

    def close(self) -> None:
        self._disk.close()
        self.db.close()
