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


def run(port: int, streams: list[Stream], host: str = "127.0.0.1", limit_s: float = 300.0) -> float:
    """Play all streams, each from its `at_s`; returns the wall seconds. Raises on a reply that isn't 200."""
    poller = selectors.DefaultSelector()
    waiting = sorted(streams, key=lambda s: s.at_s, reverse=True)
    start = time.perf_counter()
    open_streams = 0
    while waiting or open_streams:
        now = time.perf_counter() - start
        if now > limit_s:
            raise TimeoutError(f"{open_streams} streams still open after {limit_s} s")
        while waiting and waiting[-1].at_s <= now:
            _send(poller, host, port, waiting.pop())
            open_streams += 1
        pause = max(0.0, min(1.0, waiting[-1].at_s - now)) if waiting else 1.0
        for key, _ in poller.select(pause):
            open_streams -= _receive(poller, cast(socket.socket, key.fileobj), key.data)
    poller.close()
    return time.perf_counter() - start


def _send(poller: selectors.BaseSelector, host: str, port: int, stream: Stream) -> None:
    head = f"POST {stream.path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
    head += f"Connection: close\r\nContent-Length: {len(stream.body)}\r\n\r\n"
    stream.sent_s = time.perf_counter()
    connection = socket.create_connection((host, port), timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(head.encode() + stream.body)
    connection.setblocking(False)
    poller.register(connection, selectors.EVENT_READ, stream)


def _receive(poller: selectors.BaseSelector, connection: socket.socket, stream: Stream) -> int:
    """Take what has come; 1 when the stream has ended."""
    data = connection.recv(1 << 16)
    now = time.perf_counter()
    if data:
        if not stream.first_s:
            stream.seen += data
            if b"data:" in stream.seen:
                stream.first_s = now
                stream.status = int(stream.seen.split(b" ", 2)[1])
        stream.tail = (stream.tail + data)[-2048:]
        return 0
    poller.unregister(connection)
    connection.close()
    stream.end_s = now
    if stream.status != 200:
        raise RuntimeError(f"the server answered: {bytes(stream.seen or stream.tail)[:500]!r}")
    return 1
