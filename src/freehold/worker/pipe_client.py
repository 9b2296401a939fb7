"""The worker's end of the token pipe: dials the gateway, again and again for ever, and never blocks the engine.

Single-threaded on purpose: the loop calls `receive` between steps and `wait` when it has nothing to do, and a
send goes straight to the socket. No lock, and no thread that takes turns with the engine. What the socket
doesn't take at once, or what is said while nobody listens, waits here, up to a limit.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from freehold import log
from freehold.clock import Clock, SystemClock
from freehold.pipe import AnyFrame, Frame, Reader, Tokens, Welcome, encode
from freehold.worker.dial import TCP, Dial, Refused

RETRY_FIRST_S = 0.05
RETRY_MOST_S = 0.25
FAR_RETRY_MOST_S = 2.0
"""Over TCP."""
REFUSED_RETRY_S = 10.0
KEPT_BYTES = 32 << 20
"""What may wait unsent; beyond it the oldest frames go, and the reader sees the gap in the offsets."""
_CHUNK_BYTES = 1 << 18


class _Waiting(NamedTuple):
    data: bytes
    lasts: bool
    """It is still true on the next connection."""


class PipeClient:
    """One connection, or the next try at one. `greet` gives the frames that open every connection."""

    def __init__(
        self, path: Path | str, greet: Callable[[], Sequence[Frame]], clock: Clock | None = None, secret: bytes = b""
    ) -> None:
        """`path`: an address as `Dial` takes it; `secret` is for TCP."""
        self.gateway: str | None = None
        """Who is at the other end; None until it has said so."""
        self._path = str(path)
        self._secret = secret
        self._retry_most_s = FAR_RETRY_MOST_S if self._path.startswith(TCP) else RETRY_MOST_S
        self._dialling: Dial | None = None
        self._told = ""
        self._greet = greet
        self._clock: Clock = clock or SystemClock()
        self._socket: socket.socket | None = None
        self._reader = Reader()
        self._unsent: deque[_Waiting] = deque()
        self._unsent_bytes = 0
        self._sent_of_first = 0
        self._greeting_left = 0
        self._retry_s = RETRY_FIRST_S
        self._next_try_s = 0.0
        self.dropped_frames = 0

    @property
    def connected(self) -> bool:
        return self._socket is not None

    @property
    def unsent_bytes(self) -> int:
        return self._unsent_bytes

    def send(self, frame: Frame) -> None:
        """Send now if the socket takes it, else later. Without a connection only tokens are kept: the
        greeting of the next one tells the newest of everything else."""
        if self._socket is None and not isinstance(frame, Tokens):
            return
        data = encode(frame)
        self._unsent.append(_Waiting(data, isinstance(frame, Tokens)))
        self._unsent_bytes += len(data)
        while self._unsent_bytes > KEPT_BYTES and len(self._unsent) > self._greeting_left + 1:
            self._drop_oldest()
        if self._socket is not None:
            self._flush()

    def receive(self) -> list[AnyFrame]:
        """What has arrived. Also connects when it is time to try, and sends what waits."""
        if self._socket is None and not self._dial():
            return []
        self._flush()
        return self._read()

    def wait(self, timeout_s: float, also: Sequence[int] = ()) -> None:
        """Sleep until a frame or end arrives, the socket takes more, an `also` descriptor is readable, or the
        time is over. Without a connection, no longer than until the next try."""
        readers, writers, timeout_s = self.watching(timeout_s)
        select.select([*readers, *also], writers, [], timeout_s)

    def watching(self, timeout_s: float) -> tuple[list[int], list[int], float]:
        """What `wait` would wait for: descriptors to read, to write, and how long."""
        readers: list[int] = []
        writers: list[int] = []
        if self._socket is not None:
            readers.append(self._socket.fileno())
            if self._unsent:
                writers.append(self._socket.fileno())
        elif self._dialling is not None:
            (writers if self._dialling.awaits_writing else readers).append(self._dialling.socket.fileno())
            timeout_s = min(timeout_s, self._dialling.left_s)
        else:
            timeout_s = min(timeout_s, max(0.0, self._next_try_s - self._clock.monotonic_s()))
        return readers, writers, timeout_s

    def flush(self, timeout_s: float) -> bool:
        """Before leaving: wait until all is sent. False if time or the peer ran out."""
        end_s = self._clock.monotonic_s() + timeout_s
        while self._unsent and self._socket is not None and (left_s := end_s - self._clock.monotonic_s()) > 0:
            select.select([], [self._socket.fileno()], [], left_s)
            self._flush()
        return not self._unsent

    def close(self) -> None:
        if self._dialling is not None:
            self._dialling.close()
            self._dialling = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # ---- inside ----------------------------------------------------------------------------------

    def _dial(self) -> bool:
        try:
            if self._dialling is None:
                if self._clock.monotonic_s() < self._next_try_s:
                    return False
                self._dialling = Dial(self._path, self._secret, self._clock)
            self._dialling.turn()
        except OSError as error:
            self._failed(self._retry_s, str(error), "info")
            self._retry_s = min(self._retry_s * 2, self._retry_most_s)
            return False
        except Refused as error:
            self._failed(REFUSED_RETRY_S, str(error), "warning")
            return False
        if not self._dialling.done:
            return False
        self._connected(self._dialling)
        return True

    def _failed(self, retry_s: float, why: str, level: log.Level) -> None:
        """Over TCP told once: there is more that can be wrong than that nobody is there yet."""
        if self._dialling is not None:
            self._dialling.close()
            self._dialling = None
        self._next_try_s = self._clock.monotonic_s() + retry_s
        if self._path.startswith(TCP) and why != self._told:
            self._told = why
            log.event("pipe.unreached", level=level, address=self._path, why=why)

    def _connected(self, dial: Dial) -> None:
        new, self._dialling, self._told = dial.socket, None, ""
        new.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self._socket, self._reader, self._retry_s = new, dial.reader, RETRY_FIRST_S
        self.gateway = dial.gateway or None
        greeting = [encode(frame) for frame in self._greet()]
        self._unsent.extendleft(_Waiting(data, lasts=False) for data in reversed(greeting))
        self._unsent_bytes += sum(map(len, greeting))
        self._greeting_left = len(greeting)

    def _lost(self, why: str, level: log.Level = "info") -> None:
        if self._socket is None:
            return
        self._socket.close()
        self._socket = None
        self._sent_of_first = 0  # a frame sent in part is sent again whole
        self._unsent = deque(waiting for waiting in self._unsent if waiting.lasts)
        self._unsent_bytes = sum(len(waiting.data) for waiting in self._unsent)
        self._greeting_left = 0
        self._next_try_s = self._clock.monotonic_s() + self._retry_s
        log.event("pipe.lost", level=level, why=why, unsent_bytes=self._unsent_bytes)

    def _push(self, data: bytes | memoryview) -> int:
        """How many bytes the socket took; 0 also when the connection is lost."""
        assert self._socket is not None
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._lost(str(error))
            return 0

    def _flush(self) -> None:
        while self._unsent and self._socket is not None:
            first = self._unsent[0].data
            sent = self._push(memoryview(first)[self._sent_of_first :] if self._sent_of_first else first)
            if sent == 0:
                return
            self._sent_of_first += sent
            if self._sent_of_first == len(first):
                self._unsent.popleft()
                self._unsent_bytes -= len(first)
                self._sent_of_first = 0
                self._greeting_left = max(0, self._greeting_left - 1)

    def _drop_oldest(self) -> None:
        """Never the greeting, nor a frame that is half on the wire."""
        place = max(self._greeting_left, 1 if self._sent_of_first else 0)
        self._unsent_bytes -= len(self._unsent[place].data)
        del self._unsent[place]
        self.dropped_frames += 1

    def _read(self) -> list[AnyFrame]:
        frames: list[AnyFrame] = []
        while self._socket is not None:
            try:
                data = self._socket.recv(_CHUNK_BYTES)
                for frame in self._reader.feed(data):
                    if isinstance(frame, Welcome):
                        self.gateway = frame.gateway
                    else:
                        frames.append(frame)
            except BlockingIOError:
                break
            except (OSError, ValueError, msgspec.DecodeError) as error:
                self._lost(str(error))
                break
            if not data:
                # the way every stop ends: worth a word only if something was to be said
                self._lost("the gateway closed the connection", "info" if self._unsent else "debug")
            elif len(data) < _CHUNK_BYTES:
                break
        return frames
