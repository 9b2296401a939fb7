"""One line an event, for people or as JSON, with the ids it belongs to on every line.

Freehold logs events with fields, not sentences: `log.event("worker.ready", worker="worker-1", seconds=1.2)`.
Underneath is the standard `logging`, so the lines and warnings of other libraries come out in the same shape.
Secrets and prompts don't belong here; fields with such names are hidden should one slip in.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Literal, TextIO

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "human", "json"]

HIDDEN = frozenset({
    "api_key", "arguments", "authorization", "content", "inputs", "key", "messages", "password", "prompt",
    "remote_key", "secret", "text", "token",
})  # fmt: skip

_logger = logging.getLogger("freehold")
_process: dict[str, object] = {}
_at_terminal = False
_NO_FIELDS: Mapping[str, object] = MappingProxyType({})
_context: ContextVar[Mapping[str, object]] = ContextVar("log_fields", default=_NO_FIELDS)


def setup(level: Level = "info", format: Format = "auto", stream: TextIO | None = None, **ids: object) -> None:
    """Send everything to `stream` (standard error). `ids` are on every line of this process."""
    stream = stream or sys.stderr
    human = format == "human" or (format == "auto" and stream.isatty())
    global _at_terminal
    _at_terminal = human and stream.isatty()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(HumanFormatter(over=_at_terminal) if human else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.getLevelName(level.upper()), logging.WARNING))
    _logger.setLevel(level.upper())
    logging.captureWarnings(True)
    _process.clear()
    _process.update(ids)


def at_terminal() -> bool:
    """Whether a person at a terminal reads the lines: what the command itself says there is not logged as well."""
    return _at_terminal


def event(name: str, *, level: Level = "info", error: BaseException | None = None, **fields: object) -> None:
    """Log one event. `error` adds its traceback. A field of None is left out."""
    number = logging.getLevelName(level.upper())
    if _logger.isEnabledFor(number):
        exc_info = (type(error), error, error.__traceback__) if error is not None else None
        _logger.log(number, name, exc_info=exc_info, extra={"fields": {**_context.get(), **fields}})


@contextmanager
def ids(**fields: object) -> Iterator[None]:
    """Put `fields` on every line logged inside, across awaits."""
    token = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(token)


class JsonFormatter(logging.Formatter):
    """`{"time": "2026-01-31T12:00:00.123Z", "level": "info", "event": "worker.ready", ...}`"""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {"time": _utc(record.created), "level": record.levelname.lower()}
        line |= {"event": _name(record), **_fields(record)}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class HumanFormatter(logging.Formatter):
    """`12:00:00.123 info    worker.ready  worker=worker-1 seconds=1.2`, with a traceback indented below it."""

    def __init__(self, *, over: bool = False) -> None:
        """`over`: the line takes the place of a progress bar, which is drawn again below it."""
        super().__init__()
        self._over = over

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        words = " ".join(f"{name}={_plain(value)}" for name, value in _fields(record).items())
        line = f"{clock}.{record.msecs:03.0f} {record.levelname.lower():7} {_name(record)}  {words}".rstrip()
        if record.exc_info:
            line += "\n" + "\n".join("    " + part for part in self.formatException(record.exc_info).splitlines())
        return f"\r\x1b[2K{line}" if self._over else line


def _name(record: logging.LogRecord) -> str:
    """Freehold's events have a name; a line from another library has its logger's."""
    return record.getMessage() if record.name == _logger.name else record.name


def _fields(record: logging.LogRecord) -> dict[str, object]:
    if record.name != _logger.name:
        return {**_process, "message": record.getMessage().strip()}
    given: Mapping[str, object] = getattr(record, "fields", {})
    merged = {**_process, **given}
    return {name: "(hidden)" if name in HIDDEN else value for name, value in merged.items() if value is not None}


def _plain(value: object) -> str:
    """A value on one line; quoted if it has spaces."""
    text = f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return json.dumps(text, ensure_ascii=False) if not text or any(c in text for c in ' \n\r\t"=') else text


def _utc(unix_s: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(unix_s))
    return f"{whole}.{int(unix_s % 1 * 1000):03d}Z"
