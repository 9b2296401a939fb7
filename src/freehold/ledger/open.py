"""Which ledger a store's name means: `redis://...` one in Redis or Valkey, everything else a file of SQLite."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from freehold.errors import StoreError
from freehold.ledger.protocol import Ledger
from freehold.ledger.sqlite import SqliteLedger

if TYPE_CHECKING:
    from freehold.ledger.roster import Roster

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
    _check_client()
    from freehold.ledger.redis import RedisLedger

    url, prefix = _parts(str(store))
    return RedisLedger(url, prefix=prefix, fsync=fsync, loading_s=loading_s)


def open_roster(store: str) -> Roster:
    """Who else uses a remote store. Raises `StoreError`."""
    _check_client()
    from freehold.ledger.redis_link import TIMEOUT_S, RedisLink
    from freehold.ledger.roster import Roster

    url, prefix = _parts(store)
    return Roster(RedisLink(url, prefix, None, TIMEOUT_S, 0.0))


def _check_client() -> None:
    if find_spec("redis") is None:
        why, next = "The redis client isn't installed.", "pip install 'freehold[redis]'"
        raise StoreError("Can't use a ledger in Redis.", why, next)


def _parts(store: str) -> tuple[str, str]:
    """The server's URL, and the prefix of all keys."""
    parts = urlsplit(store)
    query = dict(parse_qsl(parts.query))
    prefix = query.pop("prefix", "freehold")
    return urlunsplit(parts._replace(query=urlencode(query))), prefix
