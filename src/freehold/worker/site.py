"""What must be in place before any process starts: folders, the one-supervisor locks, a sound ledger, the port.

All of it fails here, with a clear error and nothing started.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from freehold import log
from freehold.config import Config
from freehold.core import Record
from freehold.errors import ConfigError, StoreError
from freehold.ledger.open import Fsync, is_remote, open_ledger, open_roster
from freehold.ledger.roster import Place

SOCKET_PATH_BYTES = 103
"""A Unix socket's path is at most this long (macOS; Linux allows four more)."""
BACKLOG = 1024
MOST_HERE = 64
"""Supervisors of workers alone in one home."""
LOADING_S = 30.0
"""A Redis that reads its data is waited for, before anything starts. Later, whoever needs it tries again."""


_OWN = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  not bound here, only named


class Site(Record, frozen=True):
    store_path: str
    """The ledger's file, or the URL of its server."""
    pipe_path: str
    """Empty where there is no gateway."""
    host: str
    port: int
    """The real one, also when 0 was asked for."""
    listen_fd: int | None
    """None where there is no gateway."""
    place: Place | None = None
    """Among the others that share a remote store."""

    def pipe_of(self, number: int) -> str:
        """Where the pipe of the gateway with that number is; the first one's is `pipe_path`."""
        return self.pipe_path if number == 1 else self.pipe_path.removesuffix(".sock") + f"-{number}.sock"

    @property
    def host_name(self) -> str:
        """As others that share the store call it."""
        return "This machine" if self.place is None else self.place.name

    @property
    def secret(self) -> bytes:
        """By which processes of those others know each other."""
        return b"" if self.place is None else self.place.secret

    def named(self, worker: str) -> str:
        """The name of a worker, unique among all that share the store."""
        return worker if self.place is None else f"{self.place.name}.{worker}"

    @property
    def url(self) -> str:
        """Where to reach it from this machine; empty where there is no gateway."""
        if self.listen_fd is None:
            return ""
        address = _OWN.get(self.host, self.host)
        return f"http://[{address}]:{self.port}" if ":" in address else f"http://{address}:{self.port}"


@contextmanager
def prepared(config: Config, *, works: bool = True) -> Iterator[Site]:
    """The site of a supervisor with a gateway, for as long as it lives; `works`: and with workers. Servers on different
    ports share a home and no state. Raises `ConfigError` or `StoreError`."""
    with ExitStack() as stack:
        listener = stack.enter_context(_bound(config.server.host, config.server.port))
        port = listener.getsockname()[1]
        store = store_path(config)
        run = _private_folder(_private_folder(config.home / "run") / str(config.server.port))
        stack.enter_context(_locked(run / "lock", f"on port {config.server.port} in {config.home}", "FREEHOLD_HOME"))
        if not is_remote(store):
            stack.enter_context(_locked(Path(f"{store}.lock"), f"from {store}", "--set store.path=FILE"))
        _take_over(store, config.store.redis_fsync)
        place = stack.enter_context(_placed(config, store, run, works=works))
        if len(os.fsencode(run / "pipe-9999.sock")) > SOCKET_PATH_BYTES:
            run = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="freehold-")))
        stack.callback((run / "pipe.sock").unlink, missing_ok=True)
        yield Site(
            store_path=store,
            pipe_path=str(run / "pipe.sock"),
            host=config.server.host,
            port=port,
            listen_fd=listener.fileno(),
            place=place,
        )


@contextmanager
def prepared_to_work(config: Config) -> Iterator[Site]:
    """The site of a supervisor of workers whose gateways are elsewhere. Any number share a home. Raises `ConfigError`
    or `StoreError`."""
    store = store_path(config)
    if not is_remote(store):
        raise ConfigError(
            "Workers without a gateway need a store that both can reach.",
            "A file of SQLite belongs to one `freehold serve`.",
            "Name a Redis or Valkey server: --store redis://HOST:6379/0.",
        )
    with ExitStack() as stack:
        home = _private_folder(config.home / "run")
        run = next(folder for number in range(MOST_HERE) if (folder := _free_folder(stack, home, number, config)))
        _take_over(store, config.store.redis_fsync)
        place = stack.enter_context(_placed(config, store, run, works=True))
        yield Site(store_path=store, pipe_path="", host="", port=0, listen_fd=None, place=place)


def _free_folder(stack: ExitStack, home: Path, number: int, config: Config) -> Path | None:
    """The folder of that number, unless another has it."""
    folder = _private_folder(home / f"work-{number + 1}")
    try:
        stack.enter_context(_locked(folder / "lock", f"as number {number + 1} in {config.home}", "FREEHOLD_HOME"))
    except ConfigError:
        if number + 1 == MOST_HERE:
            raise
        return None
    return folder


@contextmanager
def _placed(config: Config, store: str, run: Path, *, works: bool) -> Iterator[Place | None]:
    """A name among those that share a remote store; the same again after a restart, however it ended."""
    if not is_remote(store):
        yield None
        return
    file = run / "place"
    if not file.exists():
        file.write_text(secrets.token_hex(8), "ascii")
    wanted = config.server.name or socket.gethostname().partition(".")[0]
    name = re.sub(r"[^A-Za-z0-9_-]", "-", wanted) or "host"
    roster = open_roster(store)
    try:
        place = roster.visit(Place(id=file.read_text("ascii").strip(), name=name, secret=b""), works=works).place
    finally:
        roster.close()
    try:
        yield place
    finally:
        _leave(store, place)


def _leave(store: str, place: Place) -> None:
    try:
        roster = open_roster(store)
        roster.leave(place)
        roster.close()
    except StoreError:
        log.event("place.kept", why="The store is out of reach; it forgets by itself.")


def store_path(config: Config) -> str:
    """The ledger's file, or its server's URL. Only the default's folder is made; one that was named must be there."""
    if config.store.url:
        if not is_remote(config.store.url):
            raise ConfigError("store.url names no Redis server.", next="It looks like redis://HOST:6379/0.")
        return config.store.url
    if config.store.path:
        return str(Path(config.store.path).expanduser().absolute())
    return str(_private_folder(config.home / "state") / f"ledger-{config.server.port}.sqlite")


def _private_folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o700)
    except OSError as error:
        next = "Give this user the right to write there, or set FREEHOLD_HOME."
        raise ConfigError(f"Can't use the folder {path}.", f"{error}.", next) from error
    return path


@contextmanager
def _locked(path: Path, where: str, setting: str) -> Iterator[None]:
    """Held until this process ends, however it ends; children don't inherit it."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"Can't use {path}.", f"{error}.", f"Check it, or name another: {setting}.") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
        os.close(fd)
        raise ConfigError(
            f"Another Freehold (process {holder or 'unknown'}) already serves {where}.",
            "Two supervisors must not share it.",
            f"Stop the other one, or name another place: {setting}.",
        ) from None
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(fd)


def _take_over(store: str, fsync: Fsync) -> None:
    """Make or check the ledger. Nobody works on a file yet: what is marked as running lost its worker with the whole
    server, no death that a request could be blamed for. A remote ledger may be others' too; leases tell who lives."""
    ledger = open_ledger(store, fsync=fsync, loading_s=LOADING_S)
    if is_remote(store):
        ledger.close()
        return
    try:
        for problem in ledger.check_integrity():
            log.event("ledger.unsound", level="error", problem=problem)
        gone = [ledger.give_back(owner) for owner in {holder for holder, _, _ in ledger.holders()}]
    finally:
        ledger.close()
    if gone:
        log.event("ledger.recovered", requeued=sum(len(each.requeued) for each in gone))


def open_port(site: Site) -> None:
    """From now on connections wait for the gateway. Until then they are refused: a model that is downloaded for an hour
    shall not keep clients hanging."""
    if site.listen_fd is None:
        return
    with socket.socket(fileno=os.dup(site.listen_fd)) as listener, _port_errors(site.host, site.port):
        listener.listen(BACKLOG)


def _bound(host: str, port: int) -> socket.socket:
    """Bound here and handed down, so that a gateway that takes another's place refuses nobody."""
    with ExitStack() as stack, _port_errors(host, port):
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        stack.callback(listener.close)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address[0], port, *address[2:]))  # the address given back has its port cut to 16 bits
        stack.pop_all()
    return listener


@contextmanager
def _port_errors(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except OverflowError:
        raise ConfigError(f"There is no port {port}.", next="Ports go from 1 to 65535; 0 picks a free one.") from None
    except OSError as error:
        why = "Another program listens there." if error.errno == errno.EADDRINUSE else f"{error}."
        raise ConfigError(f"Can't listen on {host}:{port}.", why, "Choose another with --port or --host.") from error
