"""What a start shows: one bar of one line on a terminal, none elsewhere, and figures that are unknown said so."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from freehold.cli.bar import Bar
from freehold.cli.startup import StartUp
from freehold.cli.workers import _print_steps, _print_workers
from freehold.config import Config
from freehold.core import Failure, ModelCard
from freehold.worker.supervisor import Event

CARD = ModelCard(name="m", engine="sim", source="x", context_tokens=8, max_batch=1)


def drawn() -> tuple[Bar, io.StringIO]:
    screen = io.StringIO()
    return Bar(Console(file=screen, force_terminal=True, color_system=None, width=100)), screen


def test_a_bar_of_bytes_is_shown_before_one_that_only_moves() -> None:
    bar, screen = drawn()
    bar.show("worker-1", "worker-1: waiting")
    assert "worker-1: waiting" in screen.getvalue()
    bar.show("worker-2", "worker-2: converting", 50 << 20, 200 << 20)
    assert "worker-2: converting (and 1 more)" in screen.getvalue()
    assert "50 MiB of 200 MiB" in screen.getvalue()
    bar.show("worker-2", "")
    bar.show("worker-1", "")
    ended = len(screen.getvalue())
    bar.stop()
    assert len(screen.getvalue()) == ended


def test_the_bar_is_never_more_than_one_line() -> None:
    bar, screen = drawn()
    for number in range(3):
        bar.show(f"worker-{number}", f"worker-{number}: " + "a very long text " * 20, number, 100)
    shown = screen.getvalue()
    bar.stop()
    assert "\n" not in shown.strip()


def phase(**more: object) -> Event:
    return Event(kind="progress", process="worker-1", phase="convert", detail="converting", **more)  # type: ignore[arg-type]


def test_nothing_moves_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with StartUp(Config(), as_json=False) as start_up:
        start_up.event(Event(kind="phase", process="worker-1", phase="convert", detail="safetensors to GGUF"))
        start_up.event(phase(done_bytes=1, total_bytes=2))
        start_up.progress("model.gguf", 1 << 20, 2 << 20)
        start_up.progress("model.gguf", 2 << 20, 2 << 20)
    out, err = capsys.readouterr()
    assert (out.split(), err) == (["model.gguf,", "2", "MiB"], "")


def test_with_json_standard_output_is_json_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with StartUp(Config(), as_json=True) as start_up:
        start_up.event(Event(kind="listening", url="http://127.0.0.1:1"))
        start_up.event(phase(done_bytes=1, total_bytes=2))
        start_up.event(Event(kind="ready", process="worker-1", card=CARD, memory_bytes=1 << 20, seconds=1.0))
        start_up.event(Event(kind="serving", seconds=1.0))
        failure = Failure(code="model_error", what="The file is gone.", why="It was removed.")
        start_up.event(Event(kind="ended", process="worker-1", reason="ended", seconds=0.5, failure=failure))
        start_up.event(Event(kind="ready", process="worker-1", card=CARD, memory_bytes=1 << 20, seconds=1.0))
    out, err = capsys.readouterr()
    assert [json.loads(line)["state"] for line in out.splitlines()] == ["serving"]
    assert "worker-1 ended: The file is gone. It was removed. It starts again in 0.5 s." in err
    assert "worker-1 is ready again" in err


def test_what_the_engine_hides_is_unknown_and_not_0(capsys: pytest.CaptureFixture[str]) -> None:
    step = {"prefill_tokens": None, "running": 2, "context_tokens": None, "tokens": 2, "step_ms": 1.5, "gap_ms": None}
    _print_steps([step], "worker-1")
    words = capsys.readouterr().out.splitlines()[1].split()
    assert words == ["unknown", "2", "unknown", "2", "1.50", "paused"]
    row = {"name": "worker-1", "pid": 7, "state": "ready", "kv_usage": None, "memory_bytes": 0}
    _print_workers([row, row | {"name": "worker-2", "kv_usage": 0.0, "last_error": "It [died]."}])
    one, two, error = capsys.readouterr().out.splitlines()[1:]
    assert "unknown" in one
    assert "0%" in two
    assert error == "worker-2, last error: It [died]."
