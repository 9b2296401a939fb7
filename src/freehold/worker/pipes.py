"""Pipes to every gateway there is: one as a rule, two while a new gateway takes an old one's place, any number where
several hosts share a store.

The same calls as `PipeClient`. What a worker tells is told to all, but for chunks, which go to the gateways that asked;
each keeps what it has readers for. `use` may be called from another thread: the change is made at the next `receive`.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Mapping, Sequence, Set

from freehold.clock import Clock, SystemClock
from freehold.pipe import AnyFrame, Frame, Tokens
from freehold.worker.pipe_client import PipeClient


class Pipes:
    """`greet` gives the frames that open every connection."""

    def __init__(
        self, paths: Sequence[str], greet: Callable[[], Sequence[Frame]], clock: Clock | None = None,
        secret: bytes = b"",
    ) -> None:  # fmt: skip
        self._greet = greet
        self._secret = secret
        self._clock: Clock = clock or SystemClock()
        self._wanted = tuple(paths)
        self._clients: dict[str, PipeClient] = {}
        self._apply()

    def use(self, paths: Sequence[str]) -> None:
        """These are all gateways from now on."""
        self._wanted = tuple(paths)

    def send(self, frame: Frame) -> None:
        for client in self._clients.values():
            client.send(frame)

    def tell(self, frame: Tokens, asked: Mapping[str, Set[str]]) -> None:
        """`asked`: request -> the gateways that want its chunks. One that names none of those there are (its gateway is
        gone, or hasn't said yet who it is) is told to all."""
        clients = self._clients.values()
        if len(clients) < 2:
            self.send(frame)
            return
        here = {client.gateway for client in clients}
        known = {id: gateways for id, gateways in asked.items() if not here.isdisjoint(gateways)}
        for client in clients:
            left_out = {id for id, gateways in known.items() if client.gateway not in gateways}
            chunks = [chunk for chunk in frame.chunks if chunk.id not in left_out]
            begun = {id: begun for id, begun in frame.begun.items() if id not in left_out}
            unrecorded = [id for id in frame.unrecorded if id not in left_out]
            if chunks or begun:
                client.send(Tokens(chunks, begun, unrecorded) if left_out else frame)

    def receive(self) -> list[AnyFrame]:
        self._apply()
        frames: list[AnyFrame] = []
        for client in self._clients.values():
            frames += client.receive()
        return frames

    def wait(self, timeout_s: float, also: Sequence[int] = ()) -> None:
        readers, writers = list(also), []
        for client in self._clients.values():
            reads, writes, most_s = client.watching(timeout_s)
            readers += reads
            writers += writes
            timeout_s = min(timeout_s, most_s)
        select.select(readers, writers, [], timeout_s)

    def flush(self, timeout_s: float) -> bool:
        """As `PipeClient.flush`, within the same time for all."""
        end_s = self._clock.monotonic_s() + timeout_s
        sent = [client.flush(max(0.0, end_s - self._clock.monotonic_s())) for client in self._clients.values()]
        return all(sent)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def _apply(self) -> None:
        wanted = self._wanted
        for path in [path for path in self._clients if path not in wanted]:
            self._clients.pop(path).close()
        for path in wanted:
            if path not in self._clients:
                self._clients[path] = PipeClient(path, self._greet, self._clock, self._secret)
