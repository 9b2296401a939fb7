"""One try to reach a gateway, which never blocks: over a Unix socket at once, over TCP with a handshake
(`handshake.py`).

An address is a socket's path, or `tcp://HOST:PORT`.
"""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import msgspec

from freehold import handshake
from freehold.clock import Clock
from freehold.pipe import MAX_FRAME_BYTES, VERSION, AnyFrame, Challenge, Reader, Welcome, encode

TCP = "tcp://"


class Refused(Exception):
    """Who answers isn't ours, or won't have us. Trying again soon won't help."""


class Dial:
    """`turn` until it is `done`; then `socket` and `reader` are the connection's."""

    def __init__(self, address: str, secret: bytes, clock: Clock) -> None:
        """Raises `OSError` if it fails at once."""
        self.reader = Reader()
        self.gateway = ""
        """Who it is, once it has said so."""
        self.done = False
        self._secret = secret
        self._clock = clock
        self._end_s = clock.monotonic_s() + handshake.PATIENCE_S
        self._challenge: Challenge | None = None
        self._nonce = b""
        if address.startswith(TCP):
            self.reader.most_bytes = handshake.MOST_BYTES
            self.socket = _begin(address)
            self._connected = False
        else:
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._connected = self.done = True
            self.socket.setblocking(False)
            try:
                self.socket.connect(address)  # OSError: nobody there yet, or its queue is full
            except OSError:
                self.socket.close()
                raise

    @property
    def awaits_writing(self) -> bool:
        """It is ready for its next turn when the socket can be written, else when it can be read."""
        return not self._connected

    @property
    def left_s(self) -> float:
        return max(0.0, self._end_s - self._clock.monotonic_s())

    def turn(self) -> None:
        """As far as it goes without waiting. Raises `OSError` or `Refused`."""
        if self.done:
            return
        if not self.left_s:
            raise TimeoutError("it doesn't answer in time")
        if not self._connected and not self._has_connected():
            return
        try:
            data = self.socket.recv(handshake.MOST_BYTES)
            if not data and self._challenge is None:
                raise ConnectionResetError("it closed the connection")
            if not data:
                raise Refused("it closed the connection: it uses another store, or is another version")
            for frame in self.reader.feed(data):
                self._hear(frame)
        except BlockingIOError:
            return
        except (ValueError, msgspec.DecodeError) as error:
            raise Refused(f"it speaks another language ({error})") from None

    def close(self) -> None:
        self.socket.close()

    def _has_connected(self) -> bool:
        error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, "can't connect")
        try:
            self.socket.getpeername()
        except OSError:
            return False
        self._connected = True
        handshake.stay_awake(self.socket)
        return True

    def _hear(self, frame: AnyFrame) -> None:
        if isinstance(frame, Challenge) and self._challenge is None:
            if frame.version != VERSION:
                raise Refused(f"its pipe has version {frame.version}, this one {VERSION}: upgrade the older one")
            self._challenge, self._nonce = frame, handshake.fresh()
            self.socket.send(encode(handshake.prove(self._secret, frame, self._nonce)))
        elif (
            isinstance(frame, Welcome)
            and self._challenge is not None
            and handshake.is_it(self._secret, self._challenge, self._nonce, frame)
        ):
            self.gateway, self.done = frame.gateway, True
            self.reader.most_bytes = MAX_FRAME_BYTES
        else:
            raise Refused("it can't prove that it uses this store")


def _begin(address: str) -> socket.socket:
    """A socket that is connecting. The host is a number: looking up a name could take long."""
    parts = urlsplit(address)
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise OSError(f"{address} is no address") from error
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    family, kind, protocol, _, where = found[0]
    line = socket.socket(family, kind, protocol)
    line.setblocking(False)
    try:
        line.connect(where)
    except BlockingIOError:
        pass
    except OSError:
        line.close()
        raise
    return line
