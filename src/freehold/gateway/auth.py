"""API keys: made once, shown once, kept as hashes in `FREEHOLD_HOME/keys.json`.

A key is 256 random bits, so its plain SHA-256 can't be reversed or guessed; a slow hash would only slow the gateway.
A running gateway notices changes of the file by its time stamp.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import ipaddress
import os
import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import msgspec

from freehold import log
from freehold.core import Record
from freehold.errors import ConfigError, Forbidden, Unauthorized, UsageError
from freehold.settings import ServerConfig

_PREFIX = "fh-"


class Key(Record, frozen=True):
    """One key, as it lies in the file."""

    id: str
    name: str
    sha256: str
    last4: str
    created_unix_s: float
    deadline_ms: int = 0
    """Of requests that name none; 0: no deadline."""
    priority: int = 0
    """Of requests that name none, and the soonest they may name."""
    max_queued: int = 0
    """Its requests that may wait at a time; 0: as many as anybody's."""
    admin: bool = False
    """May change what runs: drain workers, roll out models."""


LOCAL = Key(id="local", name="local", sha256="", last4="", created_unix_s=0.0)
"""Everybody, where no keys are asked for. May name any priority."""
PRIORITIES = range(-100, 101)


class KeyFile(Record, frozen=True):
    keys: tuple[Key, ...] = ()


def add(
    home: Path, name: str, *, deadline_ms: int = 0, priority: int = 0, max_queued: int = 0, admin: bool = False
) -> tuple[Key, str]:
    """Make a key for `name`. Returns it and the token, which can't be had again."""
    name = name.strip()
    if priority not in PRIORITIES:
        raise UsageError(f"A priority of {priority} is out of range.", next="It goes from -100 (soonest) to 100.")
    if deadline_ms < 0 or max_queued < 0:
        raise UsageError("A limit can't be negative.", next="Give a whole number, or 0 for none.")
    token = _PREFIX + secrets.token_urlsafe(32)
    key = Key(
        id="key_" + secrets.token_hex(6), name=name, sha256=_hash(token), last4=token[-4:], created_unix_s=time.time(),
        deadline_ms=deadline_ms, priority=priority, max_queued=max_queued, admin=admin,
    )  # fmt: skip
    with _locked(home):
        keys = _read(_path(home))
        if not name or len(name) > 100:
            raise UsageError("A key needs a name of 1 to 100 characters.", next="Say whom or what it is for.")
        if any(each.name == name for each in keys):
            raise UsageError(f"There is a key for {name!r} already.", next="Revoke it first, or choose another name.")
        _write(_path(home), (*keys, key))
    return key, token


def list_keys(home: Path) -> list[Key]:
    """All keys, oldest first."""
    return list(_read(_path(home)))


def revoke(home: Path, id: str) -> Key:
    """Remove a key by id or name. Running gateways refuse it from now on."""
    with _locked(home):
        keys = _read(_path(home))
        found = next((key for key in keys if id in (key.id, key.name)), None)
        if found is None:
            raise UsageError(f"There is no key {id!r}.", next="`freehold keys list` shows them.")
        _write(_path(home), tuple(key for key in keys if key is not found))
    return found


class Guard:
    """Says who is asking. With keys off, everybody is `local`."""

    def __init__(self, home: Path, server: ServerConfig) -> None:
        self.required = server.api_keys == "on" or (server.api_keys == "auto" and not is_loopback(server.host))
        self._path = _path(home)
        self._stamp: tuple[int, int] | None = None
        self._by_hash: dict[str, Key] = {}
        self._by_id: dict[str, Key] = {}
        if self.required:
            self._know(_read(self._path))
        if self.required and not self._by_hash:
            why = (
                f"The host {server.host!r} is not loopback" if server.api_keys == "auto" else "server.api_keys is 'on'"
            )
            raise ConfigError(
                "No API key exists, so nobody could use this server.",
                f"{why}, and then every request needs a key.",
                "Make one with `freehold keys add NAME`, or listen on 127.0.0.1.",
            )

    def key(self, authorization: bytes | None) -> Key:
        """The key in an `Authorization` header. Raises `Unauthorized`."""
        if not self.required:
            return LOCAL
        scheme, _, token = (authorization or b"").partition(b" ")
        if scheme.lower() != b"bearer" or not token.strip():
            raise Unauthorized(
                "An API key is needed.",
                "The request has no 'Authorization: Bearer ...' header.",
                "`freehold keys add` makes a key.",
            )
        self._reload()
        given = hashlib.sha256(token.strip()).hexdigest()
        key = self._by_hash.get(given)
        if key is None or not hmac.compare_digest(key.sha256, given):
            raise Unauthorized(
                "The API key is not valid.", "It is mistyped or was revoked.", "`freehold keys list` shows the keys."
            )
        return key

    def key_of(self, tenant: str) -> Key:
        """The key with that id; `LOCAL` where there is none (any more)."""
        return self._by_id.get(tenant, LOCAL)

    def _know(self, keys: Iterable[Key]) -> None:
        self._by_hash = {key.sha256: key for key in keys}
        self._by_id = {key.id: key for key in self._by_hash.values()}

    def check_admin(self, tenant: str) -> None:
        """Raises `Forbidden` unless the key with this id may change what runs."""
        if not any(key.id == tenant and key.admin for key in self._by_hash.values()):
            raise Forbidden(
                "This API key may not change what runs here.",
                "It has no admin right.",
                "`freehold keys add NAME --admin` makes one that has.",
            )

    def _reload(self) -> None:
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
        except FileNotFoundError:
            stamp = (0, 0)
        if stamp == self._stamp:
            return
        try:
            self._know(_read(self._path))
        except ConfigError as error:  # the keys that were good stay so, until the file is corrected
            log.event("keys.unreadable", level="error", why=str(error))
        self._stamp = stamp


@lru_cache(maxsize=64)
def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _path(home: Path) -> Path:
    return home / "keys.json"


def _read(path: Path) -> tuple[Key, ...]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=KeyFile).keys
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(
            f"Can't read the API keys in {path}.", str(error), "Correct the file, or remove it."
        ) from error


def _write(path: Path, keys: tuple[Key, ...]) -> None:
    """Replace the file in one step, readable by its owner only."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".keys-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(KeyFile(keys=keys)), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    home.mkdir(parents=True, exist_ok=True)
    with open(home / "keys.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
