"""Which ledger a store's name means: `redis://...` one in Redis or Valkey, everything else a file of SQLite."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from freehold.errors import StoreError
from freehold.ledger.protocol import Ledger
from freehold.ledger.sqlite import SqliteLedger

Fsync = Literal["always", "everysec"]
SCHEMES = ("redis://", "rediss://", "unix://")


def is_remote(store: str | Path) -> bool:
    """A server's, not a file's."""
    return str(store).startswith(SCHEMES)


def open_ledger(
    store: str | Path, *, fsync: Fsync | None = None, loading_s: float = 0.0, synced: bool = True
) -> Ledger:
    """A ledger for the calling thread. `fsync` is for Redis: whoever accepts requests names the policy it asks for.
    A Redis that still reads its data after a start is waited for, for `loading_s`. `synced` False is for a file: what
    is accepted there need not survive a power cut.
    With `?prefix=NAME` in their URLs, several Freeholds share a server. Raises `StoreError`."""
    if not is_remote(store):
        return SqliteLedger(store, synced=synced)
    try:
        from freehold.ledger.redis import RedisLedger
    except ModuleNotFoundError as error:
        if error.name != "redis":
            raise
        why, next = "The redis client isn't installed.", "pip install 'freehold[redis]'"
        raise StoreError("Can't use a ledger in Redis.", why, next) from None
    parts = urlsplit(str(store))
    query = dict(parse_qsl(parts.query))
    prefix = query.pop("prefix", "freehold")
    url = urlunsplit(parts._replace(query=urlencode(query)))
    return RedisLedger(url, prefix=prefix, fsync=fsync, loading_s=loading_s)
