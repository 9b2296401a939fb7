"""One connection to Redis or Valkey: scripts called by name, the server's setting checked, its errors put into words.

A call whose connection breaks is made once more on a new one; all scripts may be run twice. A server that is away is
a `StoreError` at once: a worker goes on without it and tries later, a client is told. The password in a URL is never
shown.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from freehold.errors import StoreAway, StoreError

Fsync = Literal["always", "everysec"]
VERSION = 1
"""Of the layout in `lua/common.lua`."""
TIMEOUT_S = 5.0
_AGAIN_S = 0.1


@cache
def script(name: str) -> str:
    """`lua/NAME.lua` behind what all share."""
    folder = files(__package__) / "lua"
    return (folder / "common.lua").read_text("utf-8") + "\n" + (folder / f"{name}.lua").read_text("utf-8")


class RedisLink:
    """Belongs to one thread. Raises `StoreError`."""

    def __init__(self, url: str, prefix: str, fsync: Fsync | None, timeout_s: float, loading_s: float) -> None:
        """A server that still reads its data after a start is waited for, for `loading_s`."""
        self.prefix = "{" + prefix + "}"
        self._where = _where(url)
        self._hashes: dict[str, str] = {}
        retry = Retry(NoBackoff(), 0)
        try:
            self._redis = redis.Redis.from_url(
                url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=retry, protocol=2
            )
            self._await_loaded(loading_s)
        except (ValueError, TypeError):  # the latter for an option that no connection knows
            why = "The URL isn't one that the redis client understands."
            raise StoreError(f"Can't use the ledger at {self._where}.", why, "redis://HOST:PORT/DB") from None
        if fsync is not None:
            self._check_safe(fsync)
        self._check_version()

    def run(self, name: str, *values: str | bytes | float, again: Sequence[str | bytes | float] = ()) -> Any:
        """Call a script; if the connection breaks, once more, with the values `again` if they differ."""
        try:
            return self._run(name, *values)
        except redis.TimeoutError as error:
            raise self._explain(error) from None
        except redis.ConnectionError:
            try:
                return self._run(name, *(again or values))
            except redis.RedisError as error:
                raise self._explain(error) from None
        except redis.RedisError as error:
            raise self._explain(error) from None

    def fields_of(self, ids: Sequence[str], fields: Sequence[str]) -> list[list[bytes | None]]:
        """Of each request, in one round trip."""
        return cast(list[list[bytes | None]], self.run("fields", "", *fields, "", *ids))

    def close(self) -> None:
        self._redis.close()

    def _run(self, name: str, *values: str | bytes | float) -> Any:
        if name not in self._hashes:
            self._hashes[name] = self._redis.script_load(script(name))
        try:
            return self._redis.evalsha(self._hashes[name], 1, self.prefix, *values)
        except redis.exceptions.NoScriptError:  # the server was restarted
            return self._redis.eval(script(name), 1, self.prefix, *values)

    def _plain(self, *command: str) -> Any:
        for last in (False, True):
            try:
                return self._redis.execute_command(*command)  # type: ignore[no-untyped-call]
            except redis.RedisError as error:
                if last or isinstance(error, redis.TimeoutError) or not isinstance(error, redis.ConnectionError):
                    raise self._explain(error) from None
        raise AssertionError

    def _await_loaded(self, loading_s: float) -> None:
        until_s = time.monotonic() + loading_s
        while True:
            try:
                self._redis.ping()
            except redis.BusyLoadingError as error:
                if time.monotonic() > until_s:
                    raise self._explain(error) from None
                time.sleep(_AGAIN_S)
            except redis.RedisError as error:
                raise self._explain(error) from None
            else:
                return

    def _check_safe(self, fsync: Fsync) -> None:
        """What was accepted must survive a power cut of the server, unless its owner takes the risk of a second."""
        what = f"The ledger at {self._where} isn't safe."
        accept = "or accept the loss of the last second with --set store.redis_fsync=everysec."
        try:
            now = self._redis.config_get("append*") | self._redis.config_get("maxmemory*")
        except redis.ResponseError:
            if fsync == "everysec":
                return
            why = (
                "The server doesn't tell its settings (CONFIG GET is forbidden): nothing is known of its fsync policy."
            )
            raise StoreError(what, why, f"Allow this user CONFIG GET, {accept}") from None
        if now.get("maxmemory", "0") != "0" and str(now.get("maxmemory-policy", "")).startswith("allkeys"):
            why = f"It drops keys when its memory is full (maxmemory-policy {now['maxmemory-policy']})."
            raise StoreError(what, why, "Set maxmemory-policy to noeviction.")
        if now.get("appendonly") != "yes":
            why = "It keeps no append-only file: a restart would lose what was accepted."
            raise StoreError(what, why, "Set appendonly to yes and appendfsync to always in redis.conf.")
        policy = now.get("appendfsync", "?")
        if policy not in (("always",) if fsync == "always" else ("always", "everysec")):
            why = f"Its appendfsync is {policy}: a power cut would lose what was accepted last."
            raise StoreError(what, why, f"Set appendfsync to always, {accept}")

    def _check_version(self) -> None:
        name = f"{self.prefix}:version"
        self._plain("SETNX", name, str(VERSION))
        found = int(self._plain("GET", name))
        if found > VERSION:
            why = f"Its layout is version {found}, this program knows {VERSION}."
            next = "Upgrade Freehold, or use another --set store.redis_prefix."
            raise StoreError(f"The ledger at {self._where} was made by a newer Freehold.", why, next)

    def _explain(self, error: redis.RedisError) -> StoreError:
        what = f"Can't use the ledger at {self._where}."
        said = str(error)
        if isinstance(error, redis.AuthenticationError | redis.exceptions.NoPermissionError) or "NOAUTH" in said:
            return StoreError(what, "The server refused the name or password.", "Correct them in store.url.")
        if isinstance(error, redis.BusyLoadingError):
            return StoreAway(what, "The server still reads its data.", "Try again in a moment.")
        if isinstance(error, redis.TimeoutError):
            return StoreAway(what, "The server doesn't answer in time.", "See whether it is overloaded or stopped.")
        if isinstance(error, redis.ConnectionError):
            return StoreAway(what, "The server can't be reached.", "Start it again; what was accepted is safe.")
        if isinstance(error, redis.exceptions.OutOfMemoryError):
            return StoreAway(what, "The server's memory is full.", "Raise maxmemory; what was accepted is safe.")
        if isinstance(error, redis.ReadOnlyError):
            return StoreError(what, "The server is a read-only replica.", "Name the primary in store.url.")
        if "MISCONF" in said:
            return StoreAway(what, f"The server can't write to its disk ({said}).", "Free some space on it.")
        return StoreError(what, f"{said}.", "See the server's log.")


def _where(url: str) -> str:
    """The URL without user and password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
