"""What must be in place before any process starts: folders, the one-supervisor locks, a sound ledger, the port.

All of it fails here, with a clear error and nothing started.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from freehold import log
from freehold.config import Config
from freehold.core import Record
from freehold.errors import ConfigError
from freehold.ledger.open import Fsync, is_remote, open_ledger

SOCKET_PATH_BYTES = 103
"""A Unix socket's path is at most this long (macOS; Linux allows four more)."""
BACKLOG = 1024
LOADING_S = 30.0
"""A Redis that reads its data is waited for, before anything starts. Later, whoever needs it tries again."""


_OWN = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  not bound here, only named


class Site(Record, frozen=True):
    store_path: str
    """The ledger's file, or the URL of its server."""
    pipe_path: str
    host: str
    port: int
    """The real one, also when 0 was asked for."""
    listen_fd: int

    def pipe_of(self, number: int) -> str:
        """Where the pipe of the gateway with that number is; the first one's is `pipe_path`."""
        return self.pipe_path if number == 1 else self.pipe_path.removesuffix(".sock") + f"-{number}.sock"

    @property
    def url(self) -> str:
        """Where to reach it from this machine."""
        address = _OWN.get(self.host, self.host)
        return f"http://[{address}]:{self.port}" if ":" in address else f"http://{address}:{self.port}"


@contextmanager
def prepared(config: Config) -> Iterator[Site]:
    """The site, for as long as the supervisor lives. Servers on different ports share a home and no state.
    Raises `ConfigError` or `StoreError`."""
    with ExitStack() as stack:
        listener = stack.enter_context(_bound(config.server.host, config.server.port))
        port = listener.getsockname()[1]
        store = store_path(config)
        run = _private_folder(_private_folder(config.home / "run") / str(config.server.port))
        stack.enter_context(_locked(run / "lock", f"on port {config.server.port} in {config.home}", "FREEHOLD_HOME"))
        if not is_remote(store):
            stack.enter_context(_locked(Path(f"{store}.lock"), f"from {store}", "--set store.path=FILE"))
        if len(os.fsencode(run / "pipe-9999.sock")) > SOCKET_PATH_BYTES:
            run = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="freehold-")))
        _take_over(store, config.store.redis_fsync)
        stack.callback((run / "pipe.sock").unlink, missing_ok=True)
        yield Site(
            store_path=store,
            pipe_path=str(run / "pipe.sock"),
            host=config.server.host,
            port=port,
            listen_fd=listener.fileno(),
        )


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
