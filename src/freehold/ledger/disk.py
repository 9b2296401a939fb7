"""Opens the SQLite file, makes commits durable, and says in words what is wrong with a file or a disk.

**Durability.** Connections run with `synchronous=NORMAL`: COMMIT appends to the write-ahead log without
fsync, so the write lock is held for microseconds. What must survive a power cut calls `Durable.sync` after
the commit, outside the lock: one fdatasync of the log (F_FULLFSYNC on macOS). It is enough, because

- the log is one file read from its start and checksummed frame by frame, so the sync covers our frames and
  everything they stand on, other processes' commits included;
- if a checkpoint moved our frames to the database between commit and sync, SQLite itself synced the log
  before copying and the database after, and starts the log anew only once all of it was copied and synced;
- a restarted log has a new salt and its header is synced first, so older frames can't be taken for new ones;
- the log file is removed only by the last connection that closes. Ours is open, so its inode stays.

Opening the log beside SQLite is safe: its POSIX locks are on the database and the `-shm` file, never on it.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from freehold.errors import FreeholdError, StoreAway, StoreError
from freehold.ledger import statements

CHECKPOINT_PAGES = 8000
"""A commit copies the log into the database when it has grown to this many pages (32 MB). It seldom comes to
that: the supervisor does it every second (`worker/upkeep.py`), so that no accept and no step waits for it."""


class Durable:
    """The open write-ahead log of `path`. `sync` returns when all that was committed before is on the disk."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(f"{path}-wal", os.O_RDWR | os.O_CLOEXEC)
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)  # the names of new files are durable as well
        finally:
            os.close(folder)

    def sync(self) -> None:
        if sys.platform == "darwin":
            import fcntl

            fcntl.fcntl(self._fd, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def connect(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    """A connection to the ledger at `path`, made and migrated if need be. Raises `StoreError`."""
    with translated(path):
        _create_private(path)
        connection = sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None, cached_statements=64)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _create_private(path: Path) -> None:
    """An empty file only its owner can read: it will hold prompts. SQLite gives its side files the same mode."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version = _check_ours(connection, path)
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        why = f"SQLite's write-ahead log can't be used there (it answered {mode!r}); network file systems lack it."
        raise StoreError(f"Can't use the ledger at {path}.", why, "Put it on a local disk: --set store.path=FILE.")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    connection.execute("PRAGMA secure_delete = ON")
    if version == statements.newest():
        return  # no lock: who stands still with it keeps nobody from starting
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _check_ours(connection, path)  # again: another process may have migrated meanwhile
        if version < statements.newest():
            statements.migrate(connection, version)
        connection.execute("COMMIT")
    except BaseException:
        rollback(connection)
        raise


def _check_ours(connection: sqlite3.Connection, path: Path) -> int:
    """The file's schema version; 0 for a new file. The tables are looked at first: another process may be
    making them, and commits them together with the numbers."""
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if tables and application != statements.APPLICATION_ID:
        why = "It is an SQLite file of another program."
        raise StoreError(f"{path} is not a Freehold ledger.", why, "Name another file: --set store.path=FILE.")
    if version > statements.newest():
        raise StoreError(
            f"The ledger at {path} was made by a newer Freehold.",
            f"Its schema is version {version}, this program knows {statements.newest()}.",
            "Upgrade Freehold, or name another file: --set store.path=FILE.",
        )
    return int(version)


def rollback(connection: sqlite3.Connection) -> None:
    """Undo what is open. SQLite has done so itself after some errors (a full disk)."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turns SQLite's and the system's errors into a `StoreError` that says what to do."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise explain(path, error) from error


def explain(path: Path, error: Exception) -> FreeholdError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    what = f"Can't use the ledger at {path}."
    if not path.parent.is_dir():
        next = "Make it, or name another place: --set store.path=FILE."
        return StoreError(what, f"The folder {path.parent} does not exist.", next)
    if damaged(error):
        return StoreError(what, f"It is damaged or not a ledger ({error}).", "Move it away and start again.")
    if code in _FORBIDDEN or isinstance(error, PermissionError):
        why = f"It, or its folder, can't be written by this user ({error})."
        return StoreError(what, why, "Give the user of this process the right to write both.")
    if code == sqlite3.SQLITE_FULL or getattr(error, "errno", None) in _FULL:
        return StoreAway(what, f"The disk is full ({error}).", "Free some space; what was accepted is safe.")
    if code == sqlite3.SQLITE_IOERR and (full := _full(path)) is not None:
        why = f"The disk is full, or a quota or the limit of a file's size is reached ({full})."
        return StoreAway(what, why, "Free some space, or raise the limit; what was accepted is safe.")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        why = "Another process has kept it locked too long."
        return StoreAway(what, why, "If no other program has it open, the disk is too slow: see its load.")
    return StoreError(what, f"{error}.", "See the disk's health and the system's log.")


def damaged(error: Exception) -> bool:
    """The file's content is at fault, not its circumstances."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _full(path: Path) -> OSError | None:
    """Whether it is room that lacks: SQLite says so only for a disk that has none left, and calls a quota or a limit of
    the process an I/O error. A file of nobody else's is written where the log would have been."""
    try:
        place = Path(f"{path}-wal").stat().st_size
        end = place + _SCRATCH_BYTES
        with tempfile.TemporaryFile(dir=path.parent, buffering=0) as scratch:
            while place < end:
                place += os.pwrite(scratch.fileno(), bytes(end - place), place)
    except OSError as error:
        return error if error.errno in _FULL else None
    return None


_SCRATCH_BYTES = 16384
_FORBIDDEN = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
