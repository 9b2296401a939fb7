"""A real server for the tests: a gateway process on a free port and workers, each of which can be killed."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx
import openai

LAUNCH = Path(__file__).with_name("launch.py")
PATIENCE_S = 120.0
REAL = [name for name in ("openvino", "llamacpp") if importlib.util.find_spec(f"freehold.engine.{name}")]
"""Engines that run a real model."""


class Child:
    """One process, its log and what it says on its status line."""

    def __init__(self, kind: str, order: Mapping[str, Any], log: Path, fds: tuple[int, ...] = ()) -> None:
        self.log = log
        reader, writer = os.pipe()
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(LAUNCH), kind, json.dumps({**order, "status_fd": writer})],
                pass_fds=(writer, *fds),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        os.close(writer)
        self._lines = os.fdopen(reader, "rb")

    def until_ready(self) -> dict[str, Any]:
        for line in self._lines:
            report: dict[str, Any] = json.loads(line)
            if report["state"] in ("ready", "failed"):
                return report
        raise AssertionError(f"it ended without being ready:\n{self.log.read_text()[-4000:]}")

    def stop(self) -> int:
        """Ask it to leave; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self._lines.close()
        return code

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self._lines.close()


class Server:
    """`with Server(folder, engine="sim") as server:` starts everything and stops it in order."""

    def __init__(
        self,
        folder: Path,
        engine: str = "sim",
        model: str = "sim:instant",
        *,
        served: str = "tester",
        workers: int = 1,
        spec: Mapping[str, Any] | None = None,
        flags: Mapping[str, Any] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.engine = engine
        self.model = served
        self.flags = {"server.drain_s": 20.0, **(flags or {})}
        self.workers: list[Child] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._wanted = workers
        self._places = {"home": str(folder), "store": str(folder / "ledger.sqlite"), "pipe": str(folder / "pipe.sock")}
        self._spec = dict(spec or {})
        self._source = model
        self.gateway: Child | None = None

    def __enter__(self) -> Self:
        try:
            assert self.start_gateway()["state"] == "ready"
            for _ in range(self._wanted):
                self.start_worker()
            for worker in self.workers:
                report = worker.until_ready()
                assert report["state"] == "ready", report
            if self.workers:
                self.wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        children = ([self.gateway] if self.gateway else []) + self.workers
        for child in children:
            child.stop()
        self._listener.close()

    def start_gateway(self) -> dict[str, Any]:
        order = {**self._places, "flags": self.flags, "listen_fd": self._listener.fileno()}
        self.gateway = Child("gateway", order, self.folder / "gateway.log", (self._listener.fileno(),))
        return self.gateway.until_ready()

    def start_worker(self) -> Child:
        name = f"worker-{len(self.workers) + 1}"
        order = {**self._places, "name": name, "engine": self.engine, "model": self._source, "served": self.model}
        worker = Child("worker", {**order, "spec": self._spec}, self.folder / f"{name}.log")
        self.workers.append(worker)
        return worker

    def wait_ready(self) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while httpx.get(f"{self.url}/readyz", trust_env=False).status_code != 200:
            assert time.monotonic() < deadline_s, "never became ready"
            time.sleep(0.02)

    def worker_rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = httpx.get(f"{self.url}/freehold/workers", trust_env=False).json()["workers"]
        return rows

    def gateway_log(self) -> str:
        return (self.folder / "gateway.log").read_text()


def openai_client(server: Server, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=60)
