"""The local history: one SQLite file of rows and slots, written in batches by a thread of its own.

Nothing that serves waits for it, and nothing that happens to it stops serving: what can't be written is dropped and
counted, said once, and tried again with what comes later. `history_read` reads the file, from any process.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path

import msgspec

from freehold import log
from freehold.telemetry.row import Row
from freehold.telemetry.slot import Slot, pack

VERSION = 1
BATCH_S = 1.0
KEPT_UNWRITTEN = 20_000
"""Rows that may wait; beyond it they are dropped."""
RETRY_S = 30.0
PRUNE_EVERY_S = 60.0
DROP_SHARE = 0.1
"""Of the time that is kept, when the file is too large."""
BUSY_S = 5.0
_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_encode = msgspec.msgpack.Encoder().encode
_Waiting = list[tuple[Row, bytes] | Slot]


def history_path(home: Path, port: int) -> Path:
    """Where the history of the server on `port` lies."""
    return home / "state" / f"history-{port}.sqlite"


class History:
    """`add` from any thread; the rest is the thread's. At most `days` and `most_bytes` are kept."""

    def __init__(self, path: Path, days: float, most_bytes: int, now_unix_s: Callable[[], float] = time.time) -> None:
        self.path = path
        self.trouble = ""
        """Why nothing is written at the moment; empty while all is well."""
        self.lost = 0
        """Rows and slots that were not written."""
        self._days = days
        self._most_bytes = most_bytes
        self._now_unix_s = now_unix_s
        self._waiting: _Waiting = []
        self._lock = threading.Lock()
        self._leave = threading.Event()
        self._db: sqlite3.Connection | None = None
        self._retry_s = self._prune_s = 0.0
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)
        self._thread.start()

    def add(self, rows: Sequence[Row], slot: Slot | None = None, texts: bytes = b"") -> None:
        """To be written within a second or so. `texts` are the prompts and answers of the rows."""
        with self._lock:
            if len(self._waiting) + len(rows) > KEPT_UNWRITTEN:
                self.lost += len(rows)
            else:
                self._waiting += [(row, texts) for row in rows]
            if slot is not None:
                self._waiting.append(slot)

    def close(self) -> None:
        """Write what waits, and end the thread."""
        self._leave.set()
        self._thread.join(BUSY_S + BATCH_S)

    # ---- below: in the thread --------------------------------------------------------------------

    def _run(self) -> None:
        leaving = False
        while not leaving:
            leaving = self._leave.wait(BATCH_S)
            with self._lock:
                batch, self._waiting = self._waiting, []
            if batch or not self.trouble:
                self._attempt(batch)
        if self._db is not None:
            self._db.close()

    def _attempt(self, batch: _Waiting) -> None:
        now_s = time.monotonic()
        if self.trouble and now_s < self._retry_s:
            self.lost += len(batch)
            return
        try:
            if self._db is None:
                self._db = self._open()
            if batch:
                self._write(self._db, batch)
            if now_s >= self._prune_s:
                self._prune_s = now_s + PRUNE_EVERY_S
                self._prune(self._db)
        except (sqlite3.Error, OSError) as error:
            self.lost += len(batch)
            self._failed(error, now_s)
        else:
            if self.trouble:
                log.event("history.goes_on", lost=self.lost)
                self.trouble = ""

    def _failed(self, error: sqlite3.Error | OSError, now_s: float) -> None:
        """Serving goes on. A file that is no database any more is put aside, and a new one begun."""
        if self._db is not None:
            self._db.close()
            self._db = None
        self._retry_s = now_s + RETRY_S
        if getattr(error, "sqlite_errorcode", None) in _BROKEN and self.path.exists():
            aside = self.path.with_name(f"{self.path.name}.broken-{int(self._now_unix_s())}")
            try:
                self.path.rename(aside)
                for tail in ("-wal", "-shm"):
                    self.path.with_name(self.path.name + tail).unlink(missing_ok=True)
            except OSError as moving:
                error = moving
            else:
                log.event("history.broken", level="error", why=str(error), kept_as=str(aside))
                return
        if not self.trouble:
            next = "Nothing is remembered until it can be written again; it is tried every 30 s."
            log.event("history.failed", level="error", path=str(self.path), why=str(error), next=next)
        self.trouble = str(error)

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.touch(mode=0o600)  # what SQLite puts beside it has the same rights
        db = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None)
        try:
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA journal_size_limit = 8388608")
            db.execute("BEGIN IMMEDIATE")
            ((version,),) = db.execute("PRAGMA user_version").fetchall()
            if version > VERSION:
                raise sqlite3.DatabaseError(f"the history is of version {version}, of a newer Freehold")
            if version < VERSION:
                script = (files(__package__) / "sql" / "history.sql").read_text(encoding="utf-8")
                for statement in script.split(";\n"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {VERSION}")
            db.execute("COMMIT")
        except BaseException:
            db.close()
            raise
        return db

    def _write(self, db: sqlite3.Connection, batch: _Waiting) -> None:
        rows = [each for each in batch if not isinstance(each, Slot)]
        slots = [each for each in batch if isinstance(each, Slot)]
        db.execute("BEGIN IMMEDIATE")
        try:
            db.executemany(
                "INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (row.received_unix_s, row.id, row.outcome, row.model, row.tenant, row.delivered_ms, _encode(row), t)
                    for row, t in rows
                ],
            )
            db.executemany("INSERT INTO slots VALUES (?, ?)", [(slot.begin_unix_s, pack(slot)) for slot in slots])
            db.execute("COMMIT")
        except sqlite3.Error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def _prune(self, db: sqlite3.Connection) -> None:
        """Drop what is too old, then the oldest until the file is small enough."""
        self._drop(db, self._now_unix_s() - self._days * 86_400.0)
        while self._bytes(db) > self._most_bytes:
            spans = "SELECT min(received_unix_s), max(received_unix_s) FROM requests UNION ALL "
            spans += "SELECT min(begin_unix_s), max(begin_unix_s) FROM slots"
            ends = [value for pair in db.execute(spans) for value in pair if value is not None]
            if not ends:
                return
            self._drop(db, min(ends) + max(1.0, DROP_SHARE * (max(ends) - min(ends))))

    def _drop(self, db: sqlite3.Connection, before_unix_s: float) -> None:
        gone = db.execute("DELETE FROM requests WHERE received_unix_s < ?", (before_unix_s,)).rowcount
        gone += db.execute("DELETE FROM slots WHERE begin_unix_s < ?", (before_unix_s,)).rowcount
        if gone:
            db.executescript("PRAGMA incremental_vacuum")  # `execute` would free one page
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()  # else the log stays as large as it was

    def _bytes(self, db: sqlite3.Connection) -> int:
        ((pages,),) = db.execute("PRAGMA page_count").fetchall()
        ((size,),) = db.execute("PRAGMA page_size").fetchall()
        return int(pages) * int(size)
