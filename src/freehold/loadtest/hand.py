"""One sending process, seen from the command: starts it, hands it requests a few at a time, takes its reports."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import msgspec

from freehold.core import Record
from freehold.loadtest.orders import Due, Frames, More, Report, Setup, frame

FRAME_REQUESTS = 16
"""Few, so that taking them in never makes a process late."""


class Hand:
    """One sending process, seen from here."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.ready = False
        self.lost = False
        self.handed = 0
        self.last = Report()
        self._waiting: list[Due] = []
        self._finished = False
        self._frames = Frames()
        self._decode = msgspec.msgpack.Decoder(Report).decode
        self.line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "freehold.loadtest.process", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the command: it ends the run in order
            )
        self.tell(setup)

    @property
    def ended(self) -> bool:
        return self.lost or self.last.done

    def hand(self, due: Due) -> None:
        self._waiting.append(due)
        self.handed += 1
        if len(self._waiting) == FRAME_REQUESTS:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            self.tell(More(due=self._waiting))
            self._waiting = []

    def finish(self) -> None:
        if not self._finished:
            self.flush()
            self.tell(More(last=True))
            self._finished = True

    def tell(self, message: Record) -> None:
        with suppress(OSError):  # its end is noticed where its reports are read
            self.line.sendall(frame(message))

    def receive(self) -> Iterator[Report]:
        try:
            data = self.line.recv(1 << 18)
        except OSError:
            data = b""
        self.lost = not data
        for each in self._frames.feed(data):
            self.ready = True
            self.last = self._decode(each)
            yield self.last

    def kill(self) -> None:
        self.line.close()
        self.process.kill()
        self.process.wait()
