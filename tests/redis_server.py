"""A real Redis (or Valkey) server for tests: found or installed, on a free port, killed and started at will."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from debian import found_or_installed

NAMES = ("redis-server", "valkey-server")
SAFE = ("--appendonly", "yes", "--appendfsync", "always")


def binary() -> str:
    """Path of a server; on Debian as root it is installed when missing. Never skips in silence."""
    told = os.environ.get("FREEHOLD_TEST_REDIS")
    if found := told or found_or_installed(NAMES, ("redis-server",)):
        return found
    pytest.fail(
        "These tests need Redis or Valkey. Install one (Debian: `apt-get install redis-server`), "
        "or name its server in FREEHOLD_TEST_REDIS."
    )


class RedisServer:
    """One server with its data in `folder`; the same port and data after `kill` and `start`."""

    def __init__(self, folder: Path, options: tuple[str, ...] = SAFE) -> None:
        self.folder = folder
        self.options = options
        self.port = _free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        with (self.folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen([*command, *self.options], stdout=log, stderr=log)
        until_s = time.monotonic() + 20
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "redis.log").read_text()
            assert time.monotonic() < until_s, "the server doesn't answer"
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self) -> None:
        assert self._process is not None
        self._process.wait()

    def close(self) -> None:
        if self.alive():
            self.kill()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


@contextmanager
def running(folder: Path, *options: str) -> Iterator[RedisServer]:
    """A server for the time of the block: safe unless `options` say otherwise."""
    server = RedisServer(folder, options or SAFE)
    try:
        server.start()
        yield server
    finally:
        server.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
