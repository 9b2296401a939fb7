"""The contestants of a benchmark, each a process of its own with the same `run(prompts, tokens)`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

import lean

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run of one side."""

    wall_s: float
    tokens: int
    first_s: float
    """Start of the run to the first token of any stream."""

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.wall_s

    def whole(self, streams: int, tokens: int) -> Outcome:
        """Itself, if every stream gave every token; a run that lost some must not count as a fast one."""
        if self.tokens != streams * tokens:
            raise RuntimeError(f"{self.tokens} tokens came, {streams} x {tokens} were asked for")
        return self


class Direct:
    """A child running `direct.py`: an engine without queue or HTTP."""

    def __init__(self, kind: str, told: dict[str, Any]) -> None:
        start = time.perf_counter()
        command = [sys.executable, str(HERE / "direct.py"), kind, json.dumps(told)]
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.ready = self._answer()
        self.start_s = time.perf_counter() - start
        self.peak_mb = 0.0

    def run(self, prompts: list[list[int]], tokens: int) -> Outcome:
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps({"prompts": prompts, "tokens": tokens}) + "\n")
        self._child.stdin.flush()
        told = self._answer()
        self.peak_mb = told["peak_mb"]
        return Outcome(told["wall_s"], told["tokens"], told["first_s"]).whole(len(prompts), tokens)

    @property
    def pid(self) -> int:
        return self._child.pid

    def close(self) -> None:
        self._child.kill()
        self._child.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        raise RuntimeError(f"benchmark child ended with {self._child.wait()}; run it by hand: {self._child.args!r}")


class Http:
    """Anything that speaks OpenAI's completions on a port, played by the lean client."""

    def __init__(self, port: int, model: str) -> None:
        self.port = port
        self.model = model

    def run(self, prompts: list[list[int]], tokens: int) -> Outcome:
        streams = [lean.Stream(lean.completion(self.model, prompt, tokens)) for prompt in prompts]
        start = time.perf_counter()
        player = lean.Player(self.port)
        wall_s = player.play(streams)
        player.close()
        first_s = min(s.first_s for s in streams) - start
        return Outcome(wall_s, sum(s.tokens for s in streams), first_s).whole(len(prompts), tokens)


class Served(Http):
    """`freehold serve` with its queue, workers and gateway."""

    def __init__(self, home: Path, *arguments: str) -> None:
        port = free_port()
        start = time.perf_counter()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "freehold", "serve", *arguments, "--port", str(port)],
            env=os.environ | {"FREEHOLD_HOME": str(home)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not _ready(port):
            if self._child.poll() is not None:
                raise RuntimeError(f"freehold serve {' '.join(arguments)} ended with {self._child.returncode}")
            time.sleep(0.05)
        self.start_s = time.perf_counter() - start
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models") as reply:
            name = json.load(reply)["data"][0]["id"]
        super().__init__(port, name)

    @property
    def peak_mb(self) -> float:
        """Peak resident memory of all its processes (pages they share counted for each)."""
        return sum(map(peak_rss_mb, [self._child.pid, *(child.pid for child in self.children())]))

    def children(self) -> list[psutil.Process]:
        """The gateway and the workers."""
        return psutil.Process(self._child.pid).children(recursive=True)

    def close(self) -> None:
        self._child.send_signal(signal.SIGTERM)
        try:
            self._child.wait(20)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


class LlamaServer(Http):
    """llama.cpp's stock server in a child of its own."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._child = Direct("llama-server", told)
        self.start_s = self._child.start_s
        self.peak_mb = 0.0
        super().__init__(self._child.ready["port"], "any")

    def run(self, prompts: list[list[int]], tokens: int) -> Outcome:
        outcome = super().run(prompts, tokens)
        self.peak_mb = peak_rss_mb(self._child.pid)
        return outcome

    def close(self) -> None:
        self._child.close()


def peak_rss_mb(pid: int) -> float:
    """VmHWM where the system tells it, else what is resident now."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    except (OSError, StopIteration):
        return float(psutil.Process(pid).memory_info().rss / (1 << 20))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False
