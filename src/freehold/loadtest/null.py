"""A server that does nothing but answer: what the client can do at most is measured against it.

It speaks as much HTTP as the client needs and streams ready-made events, one to every open stream a round, each a write
of its own. One thread. Benchmarks run it as a process, with a pace, as the server that all clients share.
"""

from __future__ import annotations

import re
import selectors
import socket
import threading
import time
from types import TracebackType
from typing import Self

import msgspec

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
ASKED = re.compile(rb'"max_(?:completion_)?tokens": *(\d+)')
_json = msgspec.json.Encoder().encode
DONE = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
MODELS = _json({"object": "list", "data": [{"id": "null", "object": "model"}]})


class NullServer:
    """`with NullServer() as server:` answers at `server.url` until it is left."""

    def __init__(self, tokens: int = 32, pace_s: float = 0.0, port: int = 0) -> None:
        self._tokens = tokens
        self._pace_s = pace_s
        self._listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        self._listener.setblocking(False)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._poller = selectors.DefaultSelector()
        self._poller.register(self._listener, selectors.EVENT_READ)
        self._came: dict[socket.socket, bytes] = {}
        self._open: dict[socket.socket, list[bytes]] = {}
        self._chat, self._text = _events(chat=True), _events(chat=False)
        self._ended = False
        self._thread = threading.Thread(target=self.serve, name="null-server", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        self._thread.join()
        for connection in [*self._came, self._listener]:
            connection.close()
        self._poller.close()

    def serve(self) -> None:
        next_s = time.monotonic() + self._pace_s
        while not self._ended:
            wait_s = max(0.0, next_s - time.monotonic()) if self._open else 0.1
            for key, _ in self._poller.select(wait_s):
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    self._read(key.fileobj)
            if self._open and time.monotonic() >= next_s:
                self._write()
                next_s = max(next_s + self._pace_s, time.monotonic())

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._came[connection] = b""
        self._poller.register(connection, selectors.EVENT_READ)

    def _read(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(1 << 18)
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        came = self._came[connection] + data
        head, blank, body = came.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        whole = blank and len(body) >= (int(length[1]) if length else 0)
        self._came[connection] = b"" if whole else came
        if not whole:
            return
        if head.startswith(b"GET"):
            reply = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(MODELS)
            self._send(connection, reply + MODELS)
            return
        first, token, last = self._chat if b"chat/" in head[:64] else self._text
        asked = ASKED.search(body)
        count = int(asked[1]) if asked else self._tokens
        end = last + _chunk({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": count}}) + DONE
        self._open[connection] = [end, *[token] * (count - 1), first]

    def _write(self) -> None:
        """The next event of every open stream."""
        for connection, left in list(self._open.items()):
            self._send(connection, left.pop())
            if not left:
                self._open.pop(connection, None)

    def _send(self, connection: socket.socket, data: bytes) -> None:
        try:
            connection.sendall(data)
        except OSError:
            self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        self._open.pop(connection, None)
        if self._came.pop(connection, None) is not None:
            self._poller.unregister(connection)
            connection.close()


def _chunk(told: object) -> bytes:
    data = b"data: " + _json(told) + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


def _events(chat: bool) -> tuple[bytes, bytes, bytes]:
    """The head with the first token, a token, and the event that ends the text."""
    same = {"id": "chatcmpl-" + 24 * "0", "created": 1_700_000_000, "model": "null"}
    kind = "chat.completion.chunk" if chat else "text_completion"

    def event(text: str | None, finish: str | None) -> bytes:
        said = {"delta": {"content": text} if text else {}} if chat else {"text": text or ""}
        return _chunk({**same, "object": kind, "choices": [{"index": 0, **said, "finish_reason": finish}]})

    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + event(" token", None), event(" token", None), event(None, "stop")
