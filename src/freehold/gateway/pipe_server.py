"""The gateway's end of the token pipe: a Unix socket that workers and the supervisor dial, and with a shared store a
TCP one for those of other supervisors, who first prove that they may use the store.

One `PipeLine` a connection. It only splits frames and says whose they are; `Fleet` and `Desk` decide.
"""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import cast

import msgspec

from freehold import handshake, log
from freehold.errors import ConfigError
from freehold.gateway.afar import ended_elsewhere, out_of_sight
from freehold.gateway.desk import Desk
from freehold.gateway.losses import worker_gone
from freehold.pipe import (
    MAX_FRAME_BYTES,
    VERSION,
    Challenge,
    Fleet,
    Frame,
    Hello,
    Proof,
    Reader,
    Status,
    Steps,
    Tokens,
    Told,
    Welcome,
    encode,
    owner,
)

PORTS = 10
"""While one gateway takes another's place each has its own."""
MOST_STRANGERS = 64
"""Connections that have proved nothing yet."""


class PipeLine(asyncio.Protocol):
    """One connection: a worker's after its `Hello`, else a supervisor's."""

    def __init__(self, desk: Desk) -> None:
        self.worker = ""
        self.owner = ""
        self.far = False
        self._desk = desk
        self._reader = Reader()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop has transports of its own, which inherit nothing from asyncio.
        self._transport = cast(asyncio.Transport, transport)
        if self._desk.name:
            self.send(Welcome(self._desk.name))

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                if isinstance(frame, Tokens):
                    self._desk.tokens(self, frame)
                else:
                    self._other(frame)
        except (ValueError, msgspec.DecodeError) as error:
            log.event("pipe.broken", level="error", worker=self.worker, why=str(error))
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        desk = self._desk
        if (host := desk.supervisor.lost(self)) is not None:
            desk.fleet.unsupervised(host)
        if self.worker and desk.fleet.lines.get(self.worker) is self:
            desk.fleet.gone(self)
            desk.spawn(out_of_sight(desk, self) if self.far else worker_gone(desk, self))

    def send(self, frame: Frame) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode(frame))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _other(self, frame: Frame) -> None:
        fleet = self._desk.fleet
        if isinstance(frame, Hello):
            before = fleet.lines.get(frame.worker)
            if isinstance(before, PipeLine) and before is not self:
                before.connection_lost(None)
            self.worker, self.owner = frame.worker, owner(frame.worker, frame.pid, frame.life)
            fleet.hello(self, frame.pid, frame.card)
            self._desk.observe.look()
            self._desk.connected(self)
        elif isinstance(frame, Status) and self.worker:
            fleet.status(self.worker, frame.status, frame.card)
            self._desk.observe.told(self.worker, frame)
        elif isinstance(frame, Steps):
            fleet.told_steps(frame)
        elif isinstance(frame, Fleet):
            self._desk.supervisor.heard(self, frame)
            if not self.far:
                fleet.offers.told(frame.models)
            fleet.supervised(frame.workers, frame.host, own=not self.far)
            if self.far:
                self._desk.spawn(ended_elsewhere(self._desk, frame.ended))
            self._desk.observe.look()
        elif isinstance(frame, Told):
            self._desk.supervisor.told(frame)
        else:
            log.event("pipe.unexpected", level="warning", worker=self.worker, frame=type(frame).__name__)


class FarLine(PipeLine):
    """One over TCP: nothing it says counts before it has proved that it may use the store."""

    def __init__(self, desk: Desk, secret: bytes, strangers: set[FarLine]) -> None:
        super().__init__(desk)
        self.far = True
        self._secret = secret
        self._strangers = strangers
        self._challenge = Challenge(VERSION, handshake.fresh())
        self._known = False
        self._reader.most_bytes = handshake.MOST_BYTES

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._strangers) >= MOST_STRANGERS:
            self.abort()
            return
        with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as line:
            handshake.stay_awake(line)
        self._strangers.add(self)
        asyncio.get_running_loop().call_later(handshake.PATIENCE_S, self._expect_known)
        self.send(self._challenge)

    def connection_lost(self, exc: Exception | None) -> None:
        self._strangers.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._known:
            super().data_received(data)
        elif not self._may_enter(data):
            log.event("pipe.refused", level="warning", why="It can't prove that it uses this store.")
            self.abort()

    def _may_enter(self, data: bytes) -> bool:
        """False once it is clear that it mayn't."""
        try:
            frames = self._reader.feed(data)
        except (ValueError, msgspec.DecodeError):
            return False
        if not frames:
            return True
        if len(frames) > 1 or not isinstance(proof := frames[0], Proof):
            return False
        if not handshake.may_enter(self._secret, self._challenge, proof):
            return False
        self._known, self._reader.most_bytes = True, MAX_FRAME_BYTES
        self._strangers.discard(self)
        self.send(handshake.welcome(self._secret, self._desk.name, self._challenge, proof))
        return True

    def _expect_known(self) -> None:
        if not self._known:
            self.abort()


class PipeServer:
    """Listens on `path` until closed."""

    def __init__(self, path: Path, desk: Desk) -> None:
        self._path = path
        self._desk = desk
        self._servers: list[asyncio.AbstractServer] = []
        self._strangers: set[FarLine] = set()

    async def start(self) -> None:
        """Listen. A socket file that an earlier gateway left behind is replaced."""
        self._path.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        self._servers.append(await loop.create_unix_server(lambda: PipeLine(self._desk), str(self._path)))
        self._path.chmod(0o600)

    async def listen_far(self, host: str, port: int, secret: bytes) -> tuple[str, int]:
        """Listen to other supervisors' processes too. The address. Raises `ConfigError`."""
        loop = asyncio.get_running_loop()
        why = ""
        for number in range(port, port + PORTS) if port else (0,):
            try:
                server = await loop.create_server(
                    lambda: FarLine(self._desk, secret, self._strangers), host, number, family=socket.AF_UNSPEC
                )
            except (OSError, OverflowError) as error:
                why = f"{error}."
                continue
            self._servers.append(server)
            where = server.sockets[0].getsockname()
            return str(where[0]), int(where[1])
        next = "Choose others with --pipe-host and --pipe-port."
        raise ConfigError(f"Can't listen for workers on {host}:{port}.", why, next)

    def close(self) -> None:
        for server in self._servers:
            server.close()
        self._path.unlink(missing_ok=True)
