"""Where one of several models stands that are loaded when somebody asks for them: their supervisor says it, gateways
show it.
"""

from __future__ import annotations

from typing import Literal

from freehold.core import Failure, ModelCard, Record

ModelState = Literal["unloaded", "loading", "loaded", "unloading", "failed"]
"""unloaded: it is loaded when somebody asks for it. failed: it could not be loaded, and is tried again later."""


class ModelStatus(Record, frozen=True):
    """One of several models that take turns in memory, as their supervisor sees it."""

    name: str
    state: ModelState
    engine: str
    source: str
    """Where the weights come from, in words."""
    card: ModelCard | None = None
    """As it was when it was loaded last."""
    memory_bytes: int = 0
    """What it takes loaded: measured once it was, else estimated from its files."""
    load_s: float = 0.0
    """What loading it takes; likewise."""
    ready_in_s: float = 0.0
    """When it could serve."""
    failure: Failure | None = None
    """Why it could not be loaded the last time."""
    retry_in_s: float = 0.0
    """failed: until it is tried again."""
