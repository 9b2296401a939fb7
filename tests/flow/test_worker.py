"""Worker processes, really started and really killed, between a ledger file and a bare pipe socket."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from freehold.core import Request
from freehold.engine.base import EngineSpec
from freehold.ledger.protocol import Progress
from freehold.ledger.sqlite import SqliteLedger
from freehold.pipe import Cancel, Drain, Hello, Status, Tokens, Wake, owner
from freehold.worker.child import Child
from worker_line import Pipe, ask, dismiss, hire, left, profile, sim

Start = Callable[..., Child]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough a path for a Unix socket."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture
def ledger(folder: Path) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger(folder / "ledger.sqlite")
    yield ledger
    assert ledger.check_integrity() == []
    ledger.close()


@pytest.fixture
def pipe(folder: Path) -> Iterator[Pipe]:
    pipe = Pipe(folder / "pipe.sock")
    yield pipe
    pipe.close()


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    hired: list[Child] = []

    def start(spec: EngineSpec, name: str = "worker-1") -> Child:
        hired.append(hire(spec, folder, name))
        return hired[-1]

    yield start
    for child in hired:
        dismiss(child)


def contiguous(pipe: Pipe, id: str, choice: int = 0) -> int:
    """Checks that no token of an answer is missing or repeated; how many there are."""
    offset = 0
    for chunk in pipe.chunks(id):
        if chunk.choice == choice:
            assert chunk.offset == offset
            offset += chunk.tokens
    return offset


def test_answers_stream_whole_and_end_once(folder: Path, ledger: SqliteLedger, pipe: Pipe, start: Start) -> None:
    ledger.accept([ask("a", keep=True), ask("b", 5), ask("two", 7, n=2)])
    child = start(sim(profile(folder, 1.0)))
    hello = pipe.accept()
    assert (hello.worker, hello.pid) == ("worker-1", child.pid)
    pipe.wait(lambda: {"a", "b", "two"} <= pipe.ended_ids() and pipe.state() == "ready")
    assert [contiguous(pipe, "a"), contiguous(pipe, "b")] == [20, 5]
    assert [contiguous(pipe, "two", choice) for choice in (0, 1)] == [7, 7]
    assert {id for frame in pipe.of(Tokens) for id in frame.begun} == {"a", "b", "two"}
    ends = [chunk for id in ("a", "b", "two") for chunk in pipe.chunks(id) if chunk.finish]
    assert [chunk.finish for chunk in ends] == ["length"] * 4
    entry = ledger.fetch("a")
    assert entry is not None
    assert entry.result is not None
    assert entry.result.answers[0].text == "".join(chunk.text for chunk in pipe.chunks("a"))
    assert entry.result.usage.completion_tokens == 20
    assert entry.result.worker == "worker-1"
    assert entry.result.first_token_ms is not None
    assert 0 <= entry.result.queued_ms <= entry.result.first_token_ms <= entry.result.total_ms
    card = next(frame.card for frame in pipe.of(Status) if frame.card)
    assert card.memory_bytes > 0


def test_woken_by_the_gateway_it_takes_new_work(folder: Path, ledger: SqliteLedger, pipe: Pipe, start: Start) -> None:
    start(sim(profile(folder, 1.0)))
    pipe.accept()
    pipe.wait(lambda: pipe.state() == "ready")
    ledger.accept([ask("a")])
    pipe.send(Wake())
    pipe.wait(lambda: "a" in pipe.ended_ids())


def test_a_request_the_engine_refuses_ends_alone(folder: Path, ledger: SqliteLedger, pipe: Pipe, start: Start) -> None:
    ledger.accept([Request(id="long", model="m", kind="text", prompt="word " * 500, keep=True), ask("fine")])
    start(sim(profile(folder, 1.0, context_tokens=100)))
    pipe.accept()
    pipe.wait(lambda: {"long", "fine"} <= pipe.ended_ids())
    (chunk,) = pipe.chunks("long")
    assert chunk.finish == "error"
    assert chunk.failure is not None
    assert chunk.failure.code == "context_length_exceeded"
    entry = ledger.fetch("long")
    assert entry is not None
    assert entry.result is not None
    assert entry.result.failure == chunk.failure


def test_a_deadline_passed_in_the_queue_is_told_and_not_executed(
    folder: Path, ledger: SqliteLedger, pipe: Pipe, start: Start
) -> None:
    ledger.accept([ask("late", deadline_unix_s=1.0), ask("fine")])
    start(sim(profile(folder, 1.0)))
    pipe.accept()
    pipe.wait(lambda: {"late", "fine"} <= pipe.ended_ids())
    (chunk,) = pipe.chunks("late")
    assert chunk.failure is not None
    assert chunk.failure.code == "deadline_passed"


def test_embeddings(folder: Path, ledger: SqliteLedger, pipe: Pipe, start: Start) -> None:
    request = Request(id="e", model="m", kind="embed", inputs=("one", "two"), keep=True)
    ledger.accept([request])
    start(sim(profile(folder, 1.0)))
    pipe.accept()
    pipe.wait(lambda: "e" in pipe.ended_ids())
    (chunk,) = pipe.chunks("e")
    assert chunk.embeddings is not None
    assert len(chunk.embeddings) == 2
    entry = ledger.fetch("e")
    assert entry is not None
    assert entry.result is not None
    assert entry.result.embeddings == chunk.embeddings


def test_cancelled_over_the_pipe(folder: Path, ledger: SqliteLedger, pipe: Pipe, start: Start) -> None:
    ledger.accept([ask("a", 1000)])
    start(sim(profile(folder, 5.0)))
    pipe.accept()
    pipe.wait(lambda: len(pipe.chunks("a")) > 3)
    pipe.send(Cancel("a"))
    pipe.wait(lambda: "a" in pipe.ended_ids())
    assert pipe.chunks("a")[-1].finish == "cancelled"
    assert contiguous(pipe, "a") < 1000


def test_cancelled_through_the_ledger_alone(folder: Path, ledger: SqliteLedger, pipe: Pipe, start: Start) -> None:
    ledger.accept([ask("a", 1000)])
    start(sim(profile(folder, 5.0)))
    pipe.accept()
    pipe.wait(lambda: len(pipe.chunks("a")) > 3)
    assert ledger.cancel("a") == "running"
    pipe.wait(lambda: "a" in pipe.ended_ids() and pipe.state() == "ready")
    entry = ledger.fetch("a")
    assert entry is not None
    assert entry.result is not None
    assert entry.result.cancelled


def test_killed_mid_answer_its_requests_go_back_and_are_answered(
    folder: Path, ledger: SqliteLedger, pipe: Pipe, start: Start
) -> None:
    ledger.accept([ask("long", 200), ask("short", 20)])
    child = start(sim(profile(folder, 5.0)))
    hello = pipe.accept()
    pipe.wait(lambda: bool(pipe.chunks("long")) and bool(pipe.chunks("short")))
    child.signal(signal.SIGKILL)
    pipe.until_end()
    assert left(child) == -signal.SIGKILL
    seen = [Progress(id, 1, pipe.chunks(id)) for id in ("long", "short")]
    assert ledger.abandon(owner(hello.worker, hello.pid), seen).requeued == ["long", "short"]
    start(sim(profile(folder, 1.0)))
    pipe.accept()  # what it tells follows what was told before
    pipe.wait(lambda: len(pipe.ended_ids()) == 2 and pipe.state() == "ready")
    assert (contiguous(pipe, "long"), contiguous(pipe, "short")) == (200, 20)
    entries = [ledger.fetch("long"), ledger.fetch("short")]
    assert [entry.state for entry in entries if entry] == ["done", "done"]
    assert [entry.attempt for entry in entries if entry] == [2, 2]


@pytest.mark.parametrize("how", ["SIGTERM", "Drain"])
def test_drained_it_finishes_and_claims_nothing_more(
    how: str, folder: Path, ledger: SqliteLedger, pipe: Pipe, start: Start
) -> None:
    ledger.accept([ask("running", 100)])
    child = start(sim(profile(folder, 5.0)))
    pipe.accept()
    pipe.wait(lambda: bool(pipe.chunks("running")))
    if how == "Drain":
        pipe.send(Drain())
    else:
        child.signal(signal.SIGTERM)
    pipe.wait(lambda: pipe.state() == "draining")
    ledger.accept([ask("new")])
    pipe.send(Wake())
    pipe.until_end()
    assert left(child) == 0
    assert contiguous(pipe, "running") == 100
    assert pipe.state() == "stopped"
    assert ledger.depth().queued == 1


def test_a_second_signal_gives_back_what_isnt_finished_and_counts_no_death(
    folder: Path, ledger: SqliteLedger, pipe: Pipe, start: Start
) -> None:
    ledger.accept([ask("long", 900)])
    child = start(sim(profile(folder, 50.0)))
    pipe.accept()
    pipe.wait(lambda: bool(pipe.chunks("long")))
    child.signal(signal.SIGTERM)
    pipe.wait(lambda: pipe.state() == "draining")
    child.signal(signal.SIGTERM)
    assert left(child) == 0
    pipe.until_end()
    assert "long" not in pipe.ended_ids()
    entry = ledger.fetch("long")
    assert entry is not None
    assert (entry.state, entry.attempt, entry.deaths) == ("queued", 1, 0)
    (claim,) = ledger.claim("worker-2:1", 1, "m")
    assert [chunk.text for chunk in claim.given] == [chunk.text for chunk in pipe.chunks("long")]


def test_a_restarted_gateway_is_found_again(folder: Path, ledger: SqliteLedger, pipe: Pipe, start: Start) -> None:
    ledger.accept([ask("a", 200, keep=True)])
    start(sim(profile(folder, 5.0)))
    pipe.accept()
    pipe.wait(lambda: len(pipe.chunks("a")) > 3)
    pipe.close()
    again = Pipe(folder / "pipe.sock")
    hello = again.accept()
    assert hello.card is not None
    again.wait(lambda: "a" in again.ended_ids() and again.state() == "ready")
    assert len(again.of(Hello)) == 1
    shown = {chunk.offset for chunk in pipe.chunks("a")}
    later = [chunk.offset for chunk in again.chunks("a") if chunk.tokens]
    assert later == list(range(later[0], 200))
    assert shown.isdisjoint(later)
    entry = ledger.fetch("a")
    assert entry is not None
    assert entry.result is not None
    assert entry.result.answers[0].finish == "length"
    again.close()


def test_it_works_without_any_gateway(folder: Path, ledger: SqliteLedger, start: Start) -> None:
    ledger.accept([ask("a", keep=True)])
    child = start(sim(profile(folder, 1.0)))
    while (entry := ledger.fetch("a")) is None or entry.state != "done":
        assert child.exit_code() is None
        ledger._clock.sleep(0.05)
    assert entry.result is not None
    assert entry.result.answers[0].text


def test_a_broken_engine_ends_the_process_and_leaves_its_requests_to_another(
    folder: Path, ledger: SqliteLedger, pipe: Pipe, start: Start
) -> None:
    ledger.accept([ask("a", 500), ask("b", 500)])
    child = start(sim(profile(folder, 1.0), faults="oom_at=2"))
    pipe.accept()
    pipe.until_end()
    assert left(child) == 1
    for id in ("a", "b"):
        entry = ledger.fetch(id)
        assert entry is not None
        assert (entry.state, entry.deaths) == ("queued", 1)
    child.reports(0.0)
    assert child.failure is not None


def test_a_model_that_does_not_load(folder: Path, start: Start) -> None:
    child = start(sim(profile(folder, 1.0), faults="load_fail=1"))
    assert left(child) == 4
    child.reports(0.0)
    assert child.failure is not None
    assert child.failure.code == "model_error"


def test_without_its_supervisor_it_leaves(folder: Path, ledger: SqliteLedger, pipe: Pipe, start: Start) -> None:
    ledger.accept([ask("long", 900)])
    child = start(sim(profile(folder, 50.0)))
    pipe.accept()
    pipe.wait(lambda: bool(pipe.chunks("long")))
    assert child.tether is not None
    child.tether.close()
    child.tether = None
    pipe.until_end()
    assert left(child) == 1
