"""A sending process's end of the line to the command: orders in, reports out, neither ever waited for."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator

import msgspec

from freehold.core import Record
from freehold.loadtest.orders import Frames, Order, frame


class Upward:
    """Raises `SystemExit` where the command is gone: then nobody wants to know."""

    def __init__(self, line: socket.socket, poller: selectors.BaseSelector) -> None:
        self._line = line
        self._poller = poller
        self._frames = Frames()
        self._output = b""
        self._decode = msgspec.msgpack.Decoder(Order).decode
        line.setblocking(False)
        poller.register(line, selectors.EVENT_READ, None)

    def ready(self, mask: int) -> Iterator[Order]:
        """The orders that have come."""
        if mask & selectors.EVENT_WRITE:
            self._write()
        if not mask & selectors.EVENT_READ:
            return
        try:
            data = self._line.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError as error:
            raise SystemExit(1) from error
        if not data:
            raise SystemExit(1)
        for each in self._frames.feed(data):
            yield self._decode(each)

    def tell(self, message: Record) -> None:
        self._output += frame(message)
        self._write()

    def finish(self) -> None:
        """Get rid of all that is still to be told."""
        self._line.setblocking(True)
        self._line.sendall(self._output)

    def _write(self) -> None:
        try:
            sent = self._line.send(self._output)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise SystemExit(1) from error
        self._output = self._output[sent:]
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._output else 0)
        self._poller.modify(self._line, wanted, None)
