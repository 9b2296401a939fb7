"""A non-blocking connection to the server, plain or TLS: sends one request, takes bytes as they come, is used again.

Bytes are stamped when they are taken from the socket and parsed later, once every socket that is ready has been
emptied: what one answer costs to read must not make the next one look late.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from selectors import EVENT_READ, EVENT_WRITE
from typing import TYPE_CHECKING

import httptools

from freehold.loadtest.client import Exchange, Reader
from freehold.loadtest.orders import Setup

if TYPE_CHECKING:
    import ssl

RECEIVE_BYTES = 1 << 16
CONNECTING = (0, errno.EINPROGRESS)


def tls_context() -> ssl.SSLContext:
    import ssl

    return ssl.create_default_context()


class Connection:
    """`wants` says what to wait for. Any method may raise `OSError`: then the connection is of no use any more."""

    __slots__ = (
        "_came",
        "_context",
        "_host",
        "_output",
        "_secure",
        "eof",
        "fresh",
        "last_s",
        "reader",
        "socket",
        "wants",
    )

    def __init__(self, setup: Setup, context: ssl.SSLContext | None) -> None:
        self.reader = Reader()
        self.fresh = True
        """No answer has come on it yet."""
        self.eof = False
        self.last_s = 0.0
        """When the last bytes came."""
        self.wants = EVENT_WRITE
        self._came: list[tuple[bytes, float]] = []
        self._output = b""
        self._context = context
        self._secure: ssl.SSLSocket | None = None
        self._host = setup.address.host
        self.socket = socket.socket(setup.family, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        error = self.socket.connect_ex(setup.place)
        if error not in CONNECTING:
            raise OSError(error, os.strerror(error))

    def send(self, exchange: Exchange) -> None:
        """Begin `exchange`; as much as the socket takes goes out at once."""
        self.reader.exchange = exchange
        self.reader.complete = False
        self._output = exchange.request
        self._flush()

    def ready(self, mask: int) -> bool:
        """The socket can be read or written. True if something came that `parse` can take."""
        if mask & EVENT_WRITE or self._output:
            self._check_connected()
            self._flush()
        if mask & EVENT_READ and (self._context is None or self._secure is not None):
            self._receive()
        return bool(self._came) or self.eof

    def parse(self) -> Exchange | None:
        """Read what came; the exchange, if it is complete. Raises `httptools.HttpParserError`."""
        came, self._came = self._came, []
        for data, now_s in came:
            self.reader.feed(data, now_s)
        exchange = self.reader.exchange
        if exchange is not None and not self.reader.complete and self.eof and exchange.ended:
            self.reader.complete = True  # a body without a length ends with the connection
        if exchange is None or not self.reader.complete:
            return None
        self.reader.exchange = None
        self.fresh = False
        return exchange

    @property
    def usable(self) -> bool:
        """Another request may go over it."""
        return not self.eof and not self._output and self.reader.keeps_alive

    def close(self) -> None:
        self.reader.exchange = None
        self.socket.close()

    def _check_connected(self) -> None:
        if error := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, os.strerror(error))

    def _flush(self) -> None:
        try:
            if self._context is not None and not self._shake_hands():
                return
            sent = self.socket.send(self._output)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            if error.errno == errno.ENOTCONN or _wants(error):  # not yet
                sent = 0
            else:
                raise
        self._output = self._output[sent:]
        self.wants = EVENT_READ | EVENT_WRITE if self._output else EVENT_READ

    def _shake_hands(self) -> bool:
        """TLS: begin or go on; True once requests may be sent."""
        if self._secure is None:
            assert self._context is not None
            try:
                self.socket.getpeername()
            except OSError:
                self.wants = EVENT_WRITE
                return False
            self._secure = self._context.wrap_socket(
                self.socket, server_hostname=self._host, do_handshake_on_connect=False
            )
            self.socket = self._secure
        if self._secure.version() is not None:
            return True
        try:
            self._secure.do_handshake()
        except OSError as error:
            if not (wanted := _wants(error)):
                raise
            self.wants = wanted
            return False
        return True

    def _receive(self) -> None:
        try:
            while data := self.socket.recv(RECEIVE_BYTES):
                self.last_s = time.monotonic()
                self._came.append((data, self.last_s))
                if self._secure is None or not self._secure.pending():
                    return
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            if _wants(error):
                return
            raise
        self.eof = True


def _wants(error: OSError) -> int:
    """What TLS waits for; 0 where `error` is a real one."""
    return {"SSLWantReadError": EVENT_READ, "SSLWantWriteError": EVENT_WRITE}.get(type(error).__name__, 0)


ParserError = httptools.HttpParserError
