"""What the worker tests share: a gateway's end of the pipe without a gateway, and workers started for real."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from freehold.core import Chunk, Request, Sampling
from freehold.engine.base import EngineSpec
from freehold.model.source import Source
from freehold.pipe import AnyFrame, Frame, Hello, Reader, Status, Tokens, encode
from freehold.worker.child import Child
from freehold.worker.restarts import Limits
from freehold.worker.tether import WorkOrder

F = TypeVar("F", bound=Frame)
PROGRAM = (sys.executable, "-m", "freehold")
PATIENCE_S = 60.0


class Pipe:
    """A listening pipe socket and the one connection made to it, read in plain blocking calls."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._server.settimeout(PATIENCE_S)
        self._peer: socket.socket | None = None
        self._reader = Reader()
        self.frames: list[AnyFrame] = []
        self.ended = False

    def accept(self) -> Hello:
        if self._peer is not None:
            self._peer.close()
        self._peer, _ = self._server.accept()
        self._reader, self.ended = Reader(), False
        self._peer.settimeout(PATIENCE_S)
        self.wait(lambda: bool(self.of(Hello)))
        return self.of(Hello)[0]

    def wait(self, until: Callable[[], bool]) -> None:
        """Read until `until` holds. Fails at the end of the stream."""
        while not until():
            assert self.read(), f"the pipe ended; frames: {self.frames[-5:]}"

    def read(self) -> bool:
        """One bite of frames; False at the end."""
        assert self._peer is not None
        try:
            data = self._peer.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        self.frames += self._reader.feed(data)
        self.ended = self.ended or not data
        return not self.ended

    def until_end(self) -> None:
        while self.read():
            pass

    def send(self, frame: Frame) -> None:
        assert self._peer is not None
        self._peer.sendall(encode(frame))

    def of(self, kind: type[F]) -> list[F]:
        return [frame for frame in self.frames if isinstance(frame, kind)]

    def state(self) -> str:
        return self.of(Status)[-1].status.state if self.of(Status) else ""

    def chunks(self, id: str) -> list[Chunk]:
        return [chunk for frame in self.of(Tokens) for chunk in frame.chunks if chunk.id == id]

    def ended_ids(self) -> set[str]:
        return {chunk.id for frame in self.of(Tokens) for chunk in frame.chunks if chunk.finish is not None}

    def close(self) -> None:
        if self._peer is not None:
            self._peer.close()
        self._server.close()


def profile(folder: Path, step_ms: float, max_batch: int = 8, context_tokens: int = 1024) -> str:
    """A profile whose steps take `step_ms` and whose model loads at once."""
    path = folder / f"steps-{step_ms}-{max_batch}.json"
    facts = {
        "name": "test", "model": "none", "engine": "sim", "machine": "any", "date": "2026-01-01", "source": "Assumed.",
        "step": {"base_ms": step_ms}, "sweet_batch": max_batch, "max_batch": max_batch,
        "context_tokens": context_tokens,
    }  # fmt: skip
    path.write_text(json.dumps(facts), encoding="utf-8")
    return str(path)


def sim(profile_path: str, faults: str = "") -> EngineSpec:
    source = Source(kind="sim", path=profile_path, label="simulated", name="m")
    return EngineSpec(
        engine="sim", source=source, name="m", cache_dir="", profile=profile_path, sim_faults=faults, threads=1
    )


def ask(id: str, tokens: int = 20, **more: object) -> Request:
    sampling = Sampling(max_tokens=tokens, ignore_eos=True, seed=1)
    return Request(id=id, model="m", kind="text", prompt="Say something.", sampling=sampling, **more)  # type: ignore[arg-type]


def hire(spec: EngineSpec, folder: Path, name: str = "worker-1") -> Child:
    """A real worker process on `folder`'s ledger and pipe."""
    order = WorkOrder(
        spec=spec, name=name, store_path=str(folder / "ledger.sqlite"), pipe_path=str(folder / "pipe.sock")
    )
    child = Child(name, "work", order, Limits())
    child.start(PROGRAM, time.monotonic())
    return child


def left(child: Child) -> int:
    """Its exit code, once it has ended."""
    assert child.process is not None
    return child.process.wait(PATIENCE_S)


def dismiss(child: Child) -> None:
    """Whatever happened: the process is gone and its tether closed."""
    if child.process is not None:
        child.process.kill()
        child.process.wait(PATIENCE_S)
        child.bury()
