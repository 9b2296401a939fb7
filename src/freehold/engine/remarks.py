"""What loading decides on its own goes to the log: remarks of a conversion, limits that were cut."""

from __future__ import annotations

from freehold import log
from freehold.engine.base import EngineSpec
from freehold.model.source import Report


def remarking(progress: Report | None) -> Report:
    """A `Report` for `prepared`: logs its remarks, and hands its progress on."""

    def report(what: str, done: int, total: int) -> None:
        if not done and not total:
            log.event("model.remark", remark=what)
        elif progress is not None:
            progress(what, done, total)

    return report


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
