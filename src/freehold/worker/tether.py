"""The line between the supervisor and a child: one socket, inherited as a file descriptor.

The supervisor writes a JSON line, what the child shall do (so that no secret is on a command line, where every user
of the machine can read it), and later a `Directive` when that changes. The child writes a JSON line whenever its state
changes. And each end sees the other's death as the end of the stream: a child whose supervisor is gone leaves at once.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from typing import Literal, TypeVar

import msgspec

from freehold.config import Config
from freehold.core import Failure, Json, ModelCard, Record
from freehold.engine.base import EngineSpec
from freehold.ledger.roster import Place
from freehold.log import Format, Level
from freehold.worker.judge import Ending

R = TypeVar("R", bound=Record)
ORPHANED = 1
"""Exit code of a child that lost its supervisor."""


class WorkOrder(Record, frozen=True, tag="work"):
    """What a worker needs to begin."""

    spec: EngineSpec
    name: str
    store_path: str
    pipe_path: str
    log_level: Level = "info"
    log_format: Format = "auto"
    pipe_paths: tuple[str, ...] = ()
    """Of all gateways, where there are several."""
    pipe_secret: bytes = b""
    """By which those of other supervisors know it."""
    lots: tuple[int, int] = (0, 100)
    memory_limit_bytes: int = 0
    """0: no limit."""
    pulse_fd: int | None = None
    """The page of `pulse.py`."""
    once: bool = False
    """It answers one request and leaves: `isolation.py`."""
    cpu_limit_s: float = 0.0
    """once: of processor time."""


class GatewayOrder(Record, frozen=True, tag="gateway"):
    """What a gateway needs to begin. `listen_fd` is the bound, listening socket, inherited: a gateway that
    takes a dead one's place keeps the port, and connections wait instead of being refused."""

    config: Json
    """`settings(config)`."""
    store_path: str
    pipe_path: str
    listen_fd: int
    pulse_fd: int | None = None
    place: Place | None = None
    """Among others that share the store."""


class Directive(Record, frozen=True):
    """What changes for a child that runs; None leaves it as it is."""

    lots: tuple[int, int] | None = None
    pipe_paths: tuple[str, ...] | None = None
    """Where all gateways are."""
    watched: bool | None = None
    """Report how each request ended."""


class Report(Record, frozen=True):
    """One line from a child: its state, and what belongs to it."""

    state: Literal["loading", "ready", "serving", "recycle", "used", "leaving", "left", "failed", "ended"]
    """serving: of a gateway, the first worker has dialled in. recycle: of a worker near its memory limit, which
    finishes and wants to be replaced. used: it was to answer
    one request, and has it, or found none. leaving: it drains, told by a signal. left: its last words; nothing is lost.
    ended: requests have (`endings`), and somebody compares."""
    phase: str = ""
    detail: str = ""
    seconds: float | None = None
    """With a phase: it is over, and this is how long it took."""
    done_bytes: int = 0
    total_bytes: int = 0
    """With a phase: how far it is, where that is known."""
    card: ModelCard | None = None
    failure: Failure | None = None
    memory_bytes: int = 0
    endings: tuple[Ending, ...] = ()


def settings(config: Config) -> Json:
    """`config` as JSON, for a `GatewayOrder`."""
    plain = msgspec.to_builtins(config, enc_hook=str)
    assert isinstance(plain, dict)
    return plain


def config_of(order: GatewayOrder) -> Config:
    return msgspec.convert(order.config, Config, dec_hook=lambda kind, value: kind(value))


def write_line(fd: int, record: Record) -> None:
    """One JSON line. A peer that is gone is noticed elsewhere."""
    data = msgspec.json.encode(record) + b"\n"
    try:
        while data:
            data = data[os.write(fd, data) :]
    except (BrokenPipeError, ConnectionResetError):
        return


def receive(fd: int, kind: type[R]) -> R:
    """The child's order: the first line on its end of the tether. A directive behind it stays there."""
    data = b""
    with socket.socket(fileno=os.dup(fd)) as end:
        while not data.endswith(b"\n"):
            seen = end.recv(65536, socket.MSG_PEEK)
            if not seen:
                raise SystemExit(ORPHANED)
            data += end.recv(seen.index(b"\n") + 1 if b"\n" in seen else len(seen))
    return msgspec.json.decode(data, type=kind)


def leave_with_supervisor(fd: int, obey: Callable[[Directive], None] = lambda directive: None) -> None:
    """From now on: when the other end closes, so does this process, whatever it is doing. Works everywhere,
    also while a native library computes for minutes. `obey` is called in a thread of its own."""

    def watch() -> None:
        unread = b""
        try:
            while part := os.read(fd, 4096):
                *lines, unread = (unread + part).split(b"\n")
                for line in lines:
                    obey(msgspec.json.decode(line, type=Directive))
        except OSError:
            pass
        os._exit(ORPHANED)

    threading.Thread(target=watch, name="tether", daemon=True).start()


def pair() -> tuple[socket.socket, socket.socket]:
    """(supervisor's end, child's end); pass `fileno()` of the second to the child."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return ours, theirs
