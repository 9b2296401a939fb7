"""Which ledger a store's name means: `redis://...` one in Redis or Valkey, everything else a file of SQLite."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from freehold.errors import StoreError
from freehold.ledger.protocol import Ledger
from freehold.ledger.sqlite import SqliteLedger

Fsync = Literal["always", "everysec"]
SCHEMES = ("redis://", "rediss://", "unix://")


def is_remote(store: str | Path) -> bool:
    """A server's, not a file's."""
    return str(store).startswith(SCHEMES)


def open_ledger(store: str | Path, *, prefix: str = "freehold", fsync: Fsync | None = None) -> Ledger:
    """A ledger for the calling thread. `prefix` and `fsync` are for Redis: several Freeholds can share a server, and
    whoever accepts requests names the fsync policy it asks for. Raises `StoreError`."""
    if not is_remote(store):
        return SqliteLedger(store)
    try:
        from freehold.ledger.redis import RedisLedger
    except ModuleNotFoundError as error:
        if error.name != "redis":
            raise
        why, next = "The redis client isn't installed.", "pip install 'freehold[redis]'"
        raise StoreError("Can't use a ledger in Redis.", why, next) from None
    return RedisLedger(str(store), prefix=prefix, fsync=fsync)
