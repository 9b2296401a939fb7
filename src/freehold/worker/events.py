"""What the supervisor tells about its children, for a person at the terminal or a program."""

from __future__ import annotations

from typing import Literal

from freehold.core import Failure, ModelCard, Record

Kind = Literal[
    "listening", "started", "phase", "progress", "ready", "serving", "ended", "left", "change", "gave_up",
    "draining", "stopped",
]  # fmt: skip


class Event(Record, frozen=True):
    """Something a person at the terminal may want to see."""

    kind: Kind
    process: str = ""
    pid: int = 0
    url: str = ""
    phase: str = ""
    detail: str = ""
    """change: what is changed, as a sentence."""
    seconds: float | None = None
    """phase: how long it took (None: it begins). ready, serving: since the start. ended: until the restart."""
    done_bytes: int = 0
    total_bytes: int = 0
    """progress: how far the phase is."""
    card: ModelCard | None = None
    memory_bytes: int = 0
    failure: Failure | None = None
    reason: str = ""
    """ended, left: how, in words."""
