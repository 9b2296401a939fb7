"""How a worker ends a request that can't be answered: in words a client understands."""

from __future__ import annotations

from freehold import log
from freehold.core import Chunk, Failure
from freehold.errors import DeadlinePassed, EngineFailed, FreeholdError

OVERDUE = DeadlinePassed("The request's deadline passed before it could start.", "It waited in the queue.").failure()

TOO_LATE = DeadlinePassed(
    "The request's deadline passed while it was answered.", "What was answered until then has been sent.",
    "Give it more time, or ask for fewer tokens.",
).failure()  # fmt: skip

OVERSPENT = EngineFailed(
    "The request has used up its processor time.", "It is limited by engine.cpu_limit_s.",
    "Ask for fewer tokens, or let the operator allow more.",
).failure()  # fmt: skip


def failure_of(error: Exception, id: str) -> Failure:
    """A refusal is the client's to read; anything else is a bug, and must not cost the worker its life."""
    if isinstance(error, FreeholdError):
        return error.failure()
    log.event("request.add_failed", level="error", error=error, id=id)
    return EngineFailed("The engine can't take this request.", f"{type(error).__name__}: {error}").failure()


def failed_chunk(id: str, failure: Failure) -> Chunk:
    """The last chunk of a request that ends with an error."""
    return Chunk(id, 0, 0, 0, "", finish="error", failure=failure)
