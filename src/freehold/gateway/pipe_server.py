"""The gateway's end of the token pipe: a Unix socket that workers and the supervisor dial.

One `PipeLine` a connection. It only splits frames and says whose they are; `Fleet` and `Desk` decide.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import msgspec

from freehold import log
from freehold.gateway.desk import Desk
from freehold.gateway.losses import worker_gone
from freehold.pipe import Fleet, Frame, Hello, Reader, Status, Steps, Tokens, Told, encode, owner


class PipeLine(asyncio.Protocol):
    """One connection: a worker's after its `Hello`, else the supervisor's."""

    def __init__(self, desk: Desk) -> None:
        self.worker = ""
        self.owner = ""
        self._desk = desk
        self._reader = Reader()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop has transports of its own, which inherit nothing from asyncio.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                if isinstance(frame, Tokens):
                    self._desk.tokens(self, frame)
                else:
                    self._other(frame)
        except (ValueError, msgspec.DecodeError) as error:
            log.event("pipe.broken", level="error", worker=self.worker, why=str(error))
            if self._transport is not None:
                self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        supervisor = self._desk.supervisor
        if supervisor.line is self:
            supervisor.line = None
        if self.worker and self._desk.fleet.lines.get(self.worker) is self:
            self._desk.fleet.gone(self)
            self._desk.spawn(worker_gone(self._desk, self))

    def send(self, frame: Frame) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode(frame))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _other(self, frame: Frame) -> None:
        fleet = self._desk.fleet
        if isinstance(frame, Hello):
            before = fleet.lines.get(frame.worker)
            if isinstance(before, PipeLine) and before is not self:
                before.connection_lost(None)
            self.worker, self.owner = frame.worker, owner(frame.worker, frame.pid)
            fleet.hello(self, frame.pid, frame.card)
            self._desk.observe.look()
            self._desk.connected(self)
        elif isinstance(frame, Status) and self.worker:
            fleet.status(self.worker, frame.status, frame.card)
            self._desk.observe.told(self.worker, frame)
        elif isinstance(frame, Steps):
            fleet.told_steps(frame)
        elif isinstance(frame, Fleet):
            self._desk.supervisor.line = self
            self._desk.supervisor.rollout = frame.rollout
            fleet.supervised(frame.workers, frame.models)
            self._desk.observe.look()
        elif isinstance(frame, Told):
            self._desk.supervisor.told(frame)
        else:
            log.event("pipe.unexpected", level="warning", worker=self.worker, frame=type(frame).__name__)


class PipeServer:
    """Listens on `path` until closed."""

    def __init__(self, path: Path, desk: Desk) -> None:
        self._path = path
        self._desk = desk
        self._server: asyncio.AbstractServer | None = None
        desk.fleet.ask_for = desk.supervisor.want

    async def start(self) -> None:
        """Listen. A socket file that an earlier gateway left behind is replaced."""
        self._path.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: PipeLine(self._desk), str(self._path))
        self._path.chmod(0o600)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
