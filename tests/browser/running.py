"""A real server for the browser: `freehold serve` with the `sim` engine, on a free port, in a home of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

READY_S = 60.0
PROGRAM = [sys.executable, "-m", "freehold"]


@dataclass
class Server:
    """One running `freehold serve` and its children."""

    url: str
    model: str
    process: subprocess.Popen[bytes]
    log: Path
    api_key: str = ""

    def kill(self) -> None:
        """Ends the whole process group at once, as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Asks it to end, and insists after a while."""
        if self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.kill()


@contextlib.contextmanager
def running(home: Path, *, model: str = "starter", slow: float = 25, api_keys: str = "auto") -> Iterator[Server]:
    """A server that is ready; stopped at the end.

    `slow` 25 gives about 220 tokens/s to one answer, 250 gives 22.
    """
    port = _free_port()
    environ = {
        **os.environ,
        "FREEHOLD_HOME": str(home),
        "FREEHOLD_SERVER_PORT": str(port),
        "FREEHOLD_SERVER_API_KEYS": api_keys,
        "FREEHOLD_MODEL_NAME": model,
        "FREEHOLD_ENGINE_SIM_SPEED": "10",  # loads at once
        "FREEHOLD_ENGINE_SIM_FAULTS": f"slow={slow}",
    }
    key = _add_key(environ) if api_keys == "on" else ""
    log = home / "serve.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*PROGRAM, "serve", "sim"], env=environ, stdout=out, stderr=out, cwd=home, start_new_session=True
        )
    server = Server(f"http://127.0.0.1:{port}/", model, process, log, key)
    try:
        _await_ready(server)
        yield server
    finally:
        server.stop()


class StartServer:
    """Starts servers of one test, and ends them after it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()

    def __enter__(self) -> StartServer:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def __call__(self, *, slow: float = 25, api_keys: str = "auto") -> Server:
        home = self._folder / f"home-{time.monotonic_ns()}"
        home.mkdir()
        return self._stack.enter_context(running(home, slow=slow, api_keys=api_keys))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _add_key(environ: dict[str, str]) -> str:
    made = subprocess.run([*PROGRAM, "keys", "add", "test", "--json"], env=environ, check=True, capture_output=True)
    return str(json.loads(made.stdout.splitlines()[-1])["key"])


def _await_ready(server: Server) -> None:
    end_s = time.monotonic() + READY_S
    while time.monotonic() < end_s:
        if server.process.poll() is not None:
            break
        with (
            contextlib.suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(server.url + "readyz", timeout=5),
        ):
            return
        time.sleep(0.05)
    raise AssertionError(f"freehold serve did not get ready:\n{server.log.read_text(errors='replace')[-4000:]}")
