"""A load client that costs almost nothing: one thread, raw sockets, no JSON while tokens arrive.

It shares two cores with the server it measures, so every microsecond it spends would be charged to the server.
It counts events by scanning bytes and reads the exact token count from the usage in the last event.
"""

from __future__ import annotations

import json
import re
import selectors
import socket
import time
from dataclasses import dataclass, field
from typing import cast

LAST_CHUNK = b"\r\n0\r\n\r\n"
_USAGE = re.compile(rb'"completion_tokens":\s*(\d+)')


@dataclass(slots=True)
class Stream:
    """One request on its own connection. Times are `time.perf_counter` seconds."""

    body: bytes
    path: str = "/v1/completions"
    at_s: float = 0.0
    """When it is to be sent, after the start of the run."""
    sent_s: float = 0.0
    first_s: float = 0.0
    end_s: float = 0.0
    status: int = 0
    tail: bytes = b""
    seen: bytearray = field(default_factory=bytearray)

    @property
    def tokens(self) -> int:
        """Completion tokens as the server's usage says; 0 if it said nothing."""
        found = _USAGE.findall(self.tail)
        return int(found[-1]) if found else 0


def completion(model: str, prompt: list[int] | str, max_tokens: int, **more: object) -> bytes:
    """Body of a greedy streaming completion that runs to `max_tokens`."""
    asked: dict[str, object] = {
        "model": model,
        "prompt": prompt,
        "max_tokens": max_tokens,
        "temperature": 0,
        "ignore_eos": True,
    }
    asked |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(asked | more).encode()


class Player:
    """Plays streams against one server. Connections are kept and used again, as OpenAI's own client does."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._address = (host, port)
        self._idle: list[socket.socket] = []
        self._poller = selectors.SelectSelector()  # epoll rounds its time up to whole milliseconds: sends would be late

    def play(self, streams: list[Stream], limit_s: float = 300.0) -> float:
        """All streams, each from its `at_s`; returns the wall seconds. Raises on a reply that isn't 200."""
        waiting = sorted(streams, key=lambda s: s.at_s, reverse=True)
        start = time.perf_counter()
        running = 0
        while waiting or running:
            now = time.perf_counter() - start
            if now > limit_s:
                raise TimeoutError(f"{running} streams still open after {limit_s} s")
            while waiting and waiting[-1].at_s <= now:
                self._send(waiting.pop())
                running += 1
            pause = max(0.0, min(1.0, waiting[-1].at_s - now)) if waiting else 1.0
            for key, _ in self._poller.select(pause):
                running -= self._receive(cast(socket.socket, key.fileobj), key.data)
        return time.perf_counter() - start

    def close(self) -> None:
        for connection in self._idle:
            connection.close()
        self._poller.close()

    def _send(self, stream: Stream) -> None:
        host, port = self._address
        head = f"POST {stream.path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(stream.body)}\r\n\r\n"
        stream.sent_s = time.perf_counter()
        connection = self._idle.pop() if self._idle else self._connect()
        connection.sendall(head.encode() + stream.body)
        self._poller.register(connection, selectors.EVENT_READ, stream)

    def _connect(self) -> socket.socket:
        connection = socket.create_connection(self._address, timeout=30)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _receive(self, connection: socket.socket, stream: Stream) -> int:
        """Take what has come; 1 when the stream has ended."""
        data = connection.recv(1 << 16)
        now = time.perf_counter()
        if not stream.first_s:
            stream.seen += data
            if b"data:" in stream.seen:
                stream.first_s = now
                stream.status = int(stream.seen.split(b" ", 2)[1])
        stream.tail = (stream.tail + data)[-2048:]
        if data and not stream.tail.endswith(LAST_CHUNK):
            return 0
        self._poller.unregister(connection)
        stream.end_s = now
        if stream.status != 200:
            connection.close()
            raise RuntimeError(f"the server answered: {bytes(stream.seen or stream.tail)[:500]!r}")
        if data:
            self._idle.append(connection)
        else:
            connection.close()
        return 1
