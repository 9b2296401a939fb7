"""What loading decides on its own goes to the log: remarks of a conversion, limits that were cut."""

from __future__ import annotations

from freehold import log
from freehold.engine.base import EngineSpec


def remark(what: str, done: int, total: int) -> None:
    """A `Report` for `prepared`: logs its remarks, leaves its progress out."""
    if not done and not total:
        log.event("model.remark", remark=what)


def context_of(spec: EngineSpec, own_tokens: int) -> int:
    """The context to give: as asked, at most the model's own."""
    if spec.context_tokens > own_tokens:
        log.event("model.context_cut", level="warning", asked=spec.context_tokens, given=own_tokens, why="the model's")
    return min(spec.context_tokens or own_tokens, own_tokens)


def cut_by_memory(what: str, asked: int, given: int) -> None:
    """Logs it where memory for keys and values doesn't hold what was asked for."""
    if given < asked:
        log.event(
            f"model.{what}_cut", level="warning", asked=asked, given=given, why="memory, see --set engine.kv_cache_mb"
        )
