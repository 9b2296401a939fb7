"""The step-level engine protocol: load, add, step, abort. Synchronous, single-threaded, no I/O of its own.

The worker's loop owns the clock and the batch; an engine only turns added answers into chunks, a step at
a time. One engine object belongs to one worker process and is called from one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol

import msgspec

from freehold.core import Chunk, ModelCard, Phase, Record, Request
from freehold.model.source import Report, Source

Timer = Callable[[Phase, str], AbstractContextManager[Report | None]]
"""`with timed("compile", "detail"):` reports and times one phase of loading. What it gives takes the phase's progress,
where it knows bytes done and total; None where nobody listens."""


EngineName = Literal["openvino", "llamacpp", "remote", "sim"]


class EngineSpec(Record, frozen=True):
    """Everything an engine needs to know to load, decided before the worker starts."""

    engine: EngineName
    source: Source
    name: str
    """The model's name in the API."""
    cache_dir: str
    """Converted and compiled models lie below it."""
    threads: int = 0
    workers: int = 1
    """How many share this machine."""
    context_tokens: int = 0
    """0: the model's own."""
    max_batch: int = 0
    """0: the engine's own, 32 where it is this machine's."""
    max_batch_from: str = ""
    """Where `max_batch` came from, in words."""
    kv_cache_bytes: int = 0
    """0: enough for max_batch, within a quarter of this machine's memory divided by the workers."""
    quantization: str = "q8_0"
    chat_template: str = ""
    """Path of a Jinja file that replaces the model's own."""
    profile: str = ""
    remote_key: str = ""
    remote_timeout_s: float = 120.0
    remote_retries: int = 3
    sim_speed: float = 1.0
    sim_faults: str = ""

    def __repr__(self) -> str:
        """Without the key: a spec may end up in a log or a traceback."""
        return f"EngineSpec({self.engine}, {self.name!r}, {self.source!r})"


class Step(msgspec.Struct, gc=False):
    """What one step did. A figure the library hides is None, never a guess."""

    chunks: list[Chunk]
    prefill_tokens: int | None = None
    """Prompt tokens read in this step."""
    running: int = 0
    """Sequences that took part."""
    context_tokens: int | None = None
    """Sum of the context lengths of those sequences."""


class EngineStats(msgspec.Struct, frozen=True, kw_only=True):
    """A cheap snapshot, taken between steps."""

    running: int
    waiting: int
    kv_usage: float | None = None
    """Share of the KV cache in use, 0 to 1."""
    kv_bytes: int | None = None


class Engine(Protocol):
    """What a worker needs of an engine."""

    card: ModelCard
    """Valid after `load`."""

    def load(self, timed: Timer) -> ModelCard:
        """Load the model, timing each phase with `timed`. Raises `ModelError`."""
        ...

    def add(self, request: Request, choice: int = 0, given: Sequence[Chunk] = ()) -> None:
        """Queue answer number `choice` of `request` for the next step.

        A seeded request uses `seed + choice`. Raises `InvalidRequest` (or its children) naming the
        parameter when the request can't be honoured; then nothing was added.

        `given`: the chunks of this answer that were shown before its worker was lost, in order, none of them
        the last. The answer goes on after them: offsets, usage, limits, penalties and stop strings count the
        whole of it. Raises `CannotResume` where that can't be done.
        """
        ...

    def step(self) -> Step:
        """Run one step. Returns at once when nothing was added; never blocks over `IDLE_S` without work
        to show. Errors of one answer come back as its chunk's `failure`; only a broken engine raises."""
        ...

    def abort(self, id: str) -> None:
        """End every answer of request `id` before the next step; each gets a `cancelled` last chunk
        from that step. Unknown ids are ignored (it may just have finished)."""
        ...

    def embed(self, texts: Sequence[str]) -> tuple[tuple[tuple[float, ...], ...], int]:
        """Vectors for texts, and the tokens read. Raises `InvalidRequest` where the model can't."""
        ...

    def stats(self) -> EngineStats: ...

    def close(self) -> None:
        """Free everything. Idempotent."""
        ...


IDLE_S = 0.005
"""Longest an engine with hidden steps (llamacpp, remote) waits inside `step` for something to report."""
