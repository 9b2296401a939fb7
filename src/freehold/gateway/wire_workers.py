"""What is told of workers, and of models that take turns in memory."""

from __future__ import annotations

from freehold.core import WorkerState
from freehold.gateway.wire_answers import Answer
from freehold.model_status import ModelState


class WorkerReply(Answer):
    name: str
    pid: int
    state: WorkerState
    model: str
    engine: str
    running: int
    restarts: int
    since_unix_s: float
    phase: str
    memory_bytes: int
    last_error: str
    steps: int
    tokens: int
    kv_usage: float | None
    """Share of the KV cache in use; null where the engine hides it."""
    variant: str
    """What lies behind the model's name."""
    lots: tuple[int, int]
    """It takes requests whose lot (0 to 99) is in [first, second)."""
    step_limit_ms: float | None
    """How long its present step may take before it counts as hung; null while it loads."""
    memory_limit_bytes: int
    """Near this it is drained and replaced; 0 is no limit."""


class TurnTaker(Answer):
    """One of several models that are loaded when somebody asks for them."""

    name: str
    state: ModelState
    waiting: int
    """Requests that were accepted here and that no worker has begun."""
    memory_bytes: int
    """What it takes loaded: estimated until it was."""
    load_s: float
    """What loading it takes; likewise."""
    last_error: str
    """Why it could not be loaded the last time."""


class WorkerList(Answer):
    workers: list[WorkerReply]
    models: list[TurnTaker]
    """Empty where every model stays once it is loaded."""


class StepReply(Answer):
    """One step; null where the engine hides the figure, and for the gap after a pause without work."""

    prefill_tokens: int | None
    running: int
    context_tokens: int | None
    tokens: int
    step_ms: float
    gap_ms: float | None


class StepList(Answer):
    """The newest steps of one worker, oldest first."""

    worker: str
    steps: list[StepReply]
