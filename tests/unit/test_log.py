"""One line an event: people's form, JSON, ids, hidden fields, and other libraries' lines."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator

import pytest

from freehold import log


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    log._process.clear()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_has_the_event_its_fields_and_the_ids() -> None:
    stream = io.StringIO()
    log.setup("info", "json", stream, worker="worker-1")
    with log.ids(id="r1"):
        log.event("request.done", tokens=5, seconds=0.25, nothing=None)
    log.event("worker.idle", level="debug")
    (line,) = lines(stream)
    assert line.pop("time")
    assert line == {
        "level": "info", "event": "request.done", "worker": "worker-1", "id": "r1", "tokens": 5, "seconds": 0.25,
    }  # fmt: skip


def test_people_get_one_line_whatever_is_in_it() -> None:
    stream = io.StringIO()
    log.setup("debug", "human", stream)
    log.event("pipe.lost", level="warning", why="two\nlines and spaces", seconds=1.50, n=3)
    (line,) = stream.getvalue().splitlines()
    assert line.endswith(r'warning pipe.lost  why="two\nlines and spaces" seconds=1.5 n=3')


def test_prompts_and_secrets_are_hidden() -> None:
    stream = io.StringIO()
    log.setup("info", "json", stream)
    log.event("request.bad", prompt="private", remote_key="sk-1", text="private", id="r1")
    assert "private" not in stream.getvalue()
    assert "sk-1" not in stream.getvalue()
    assert lines(stream)[0]["id"] == "r1"


def test_an_error_brings_its_traceback_on_the_same_json_line() -> None:
    stream = io.StringIO()
    log.setup("info", "json", stream)
    try:
        raise ValueError("oh")
    except ValueError as error:
        log.event("task.failed", level="error", error=error)
    assert "ValueError: oh" in str(lines(stream)[0]["traceback"])


def test_other_libraries_and_warnings_are_kept() -> None:
    stream = io.StringIO()
    log.setup("error", "json", stream)
    logging.getLogger("other.library").error("It says %s", "this")
    log.setup("info", "json", stream)
    logging.getLogger("other.library").info("chatter")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("mind this", UserWarning, stacklevel=1)
    first, second = lines(stream)
    assert (first["event"], first["message"]) == ("other.library", "It says this")
    assert second["event"] == "py.warnings"
    assert "mind this" in str(second["message"])
