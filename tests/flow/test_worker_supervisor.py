"""The supervisor with its real children: start, replace, give up, drain, force, and nobody left behind."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from freehold.ledger.sqlite import SqliteLedger
from supervised import PATIENCE_S, Supervised, gone
from worker_line import ask, profile

Start = Callable[..., Supervised]


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name) / "home"


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    running: list[Supervised] = []

    def start(step_ms: float = 1.0, **more: object) -> Supervised:
        given = {"home": home, "profile": profile(home.parent, step_ms), **more}
        running.append(Supervised(**given))  # type: ignore[arg-type]
        return running[-1]

    yield start
    for each in running:
        each.close()


def answer(url: str) -> str:
    body = json.dumps({"model": "m", "prompt": "Say something.", "max_tokens": 5}).encode()
    request = urllib.request.Request(f"{url}/v1/completions", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
        text = json.load(reply)["choices"][0]["text"]
    assert isinstance(text, str)
    return text


def eventually(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.05)


def test_it_starts_serves_and_stops(start: Start, home: Path) -> None:
    serve = start(workers=2)
    serve.wait("serving")
    assert {event.process for event in serve.events if event.kind == "ready"} == {"gateway", "worker-1", "worker-2"}
    card = next(event.card for event in serve.events if event.card)
    assert card.name == "m"
    assert answer(serve.url)
    assert (home / "run").stat().st_mode & 0o077 == 0
    serve.signal(signal.SIGTERM)
    assert serve.left() == 0
    assert [event.kind for event in serve.events][-2:] == ["draining", "stopped"]
    assert not (home / "run" / "0" / "pipe.sock").exists()


def test_a_killed_worker_is_replaced_and_the_reason_told(start: Start) -> None:
    serve = start()
    serve.wait("serving")
    os.kill(serve.pid("worker-1"), signal.SIGKILL)
    ended = serve.wait("ended", "worker-1")
    assert "SIGKILL" in ended.reason
    serve.wait("ready", "worker-1")
    assert answer(serve.url)
    serve.signal(signal.SIGINT)
    assert serve.left() == 0


def test_a_worker_killed_again_and_again_while_it_loads_is_no_reason_to_end(start: Start) -> None:
    serve = start()
    serve.wait("serving")
    os.kill(serve.pid("worker-1"), signal.SIGKILL)
    for _ in range(4):  # of a model that was never ready, the third would be the last
        os.kill(serve.wait("started", "worker-1").pid, signal.SIGKILL)
    serve.wait("ready", "worker-1")
    assert answer(serve.url)
    serve.signal(signal.SIGTERM)
    assert serve.left() == 0


def test_a_killed_gateway_is_replaced_on_the_same_port(start: Start) -> None:
    serve = start()
    serve.wait("serving")
    assert answer(serve.url)
    os.kill(serve.pid("gateway"), signal.SIGKILL)
    assert answer(serve.url)  # the connection waits for the new gateway
    serve.signal(signal.SIGTERM)
    assert serve.left() == 0
    assert len([event for event in serve.events if event.kind == "started"]) == 3


def test_a_model_that_cannot_load_ends_it_at_once(start: Start) -> None:
    serve = start(faults="load_fail=1")
    assert serve.left() == 4
    failure = serve.events[-1].failure
    assert failure is not None
    assert failure.code == "model_error"
    assert "draining" not in {event.kind for event in serve.events}  # nothing had been served
    assert len([event for event in serve.events if event.process == "worker-1" and event.kind == "started"]) == 1


def test_processes_that_never_get_ready_are_given_up(start: Start) -> None:
    serve = start(faults="stillborn")
    assert serve.left() == 6
    failure = serve.events[-1].failure
    assert failure is not None
    assert failure.code == "gave_up"
    assert "in 3 tries" in failure.what
    assert "exit code 9" in failure.why
    waits = [event.seconds for event in serve.events if event.kind == "ended" and event.process == "gateway"]
    assert waits[:2] == [0.1, 0.2]


def test_a_wrong_setting_ends_it_at_once(start: Start) -> None:
    serve = start(faults="unknown_dial=1")
    assert serve.left() == 3
    failure = serve.events[-1].failure
    assert failure is not None
    assert failure.code == "config"


def test_two_on_one_home_or_one_ledger_are_refused(start: Start, home: Path) -> None:
    serve = start()
    serve.wait("serving")
    second = start()
    assert second.left() == 3
    failure = second.events[-1].failure
    assert failure is not None
    assert f"process {serve.process.pid}" in failure.what
    third = start(home=home.with_name("other"), store=str(home / "state" / "ledger-0.sqlite"))
    assert third.left() == 3
    serve.signal(signal.SIGTERM)
    assert serve.left() == 0


def test_a_broken_ledger_ends_it_before_anything_starts(start: Start, tmp_path: Path) -> None:
    store = tmp_path / "ledger.sqlite"
    store.write_bytes(b"no ledger " * 1000)
    serve = start(store=str(store))
    assert serve.left() == 7
    assert not [event for event in serve.events if event.kind == "started"]


def test_a_drain_lets_running_work_finish(start: Start, home: Path) -> None:
    serve = start(step_ms=20.0)
    serve.wait("serving")
    ledger = SqliteLedger(home / "state" / "ledger-0.sqlite")
    ledger.accept([ask("a", 60)])
    eventually(lambda: ledger.depth().running == 1)
    serve.signal(signal.SIGTERM)
    assert serve.left() == 0
    entry = ledger.fetch("a")
    assert entry is not None
    assert entry.result is not None
    assert entry.result.usage.completion_tokens == 60
    ledger.close()


def test_what_ran_when_gateway_and_worker_were_killed_goes_on(start: Start, home: Path) -> None:
    serve = start(step_ms=20.0)
    serve.wait("serving")
    ledger = SqliteLedger(home / "state" / "ledger-0.sqlite")
    ledger.accept([ask("kept", 60, keep=True), ask("read", 60)])
    eventually(lambda: ledger.depth().running == 2)
    for process in ("gateway", "worker-1"):
        os.kill(serve.pid(process), signal.SIGKILL)
    eventually(lambda: all((entry := ledger.fetch(id)) and entry.state == "done" for id in ("kept", "read")))
    for id in ("kept", "read"):  # a reader that was lost with the gateway may come back
        entry = ledger.fetch(id)
        assert entry is not None
        assert entry.result is not None
        assert (entry.attempt, entry.deaths, entry.result.usage.completion_tokens) == (2, 1, 60)
    ledger.close()
    serve.signal(signal.SIGTERM)
    assert serve.left() == 0


def test_the_second_signal_kills(start: Start, home: Path) -> None:
    serve = start(step_ms=200.0)
    serve.wait("serving")
    ledger = SqliteLedger(home / "state" / "ledger-0.sqlite")
    ledger.accept([ask("a", 1000)])
    eventually(lambda: ledger.depth().running == 1)
    pids = [serve.pid("gateway"), serve.pid("worker-1")]
    serve.signal(signal.SIGTERM)
    serve.wait("draining")
    serve.signal(signal.SIGTERM)
    assert serve.left() == 1
    eventually(lambda: all(gone(pid) for pid in pids))
    again = start()  # what was running lost its worker, and is answered now
    again.wait("serving")
    eventually(lambda: (entry := ledger.fetch("a")) is not None and entry.state == "done")
    ledger.close()
    again.signal(signal.SIGTERM)
    assert again.left() == 0


def test_a_worker_that_does_not_leave_in_time_is_killed(start: Start, home: Path) -> None:
    serve = start(faults="stuck_after=1", drain_s=0.1)
    serve.wait("serving")
    ledger = SqliteLedger(home / "state" / "ledger-0.sqlite")
    ledger.accept([ask("a", 100)])
    eventually(lambda: ledger.depth().running == 1)
    ledger.close()
    pid = serve.pid("worker-1")
    serve.signal(signal.SIGTERM)
    assert serve.left() == 0
    assert gone(pid)
    lines = [json.loads(line) for line in Path(serve.log.name).read_text().splitlines()]
    killed = [line for line in lines if line["event"] == "process.killed"]
    assert [(line["process"], line["pid"]) for line in killed] == [("worker-1", pid)]


def test_a_drain_whose_time_is_up_gives_back_what_isnt_finished(start: Start, home: Path) -> None:
    serve = start(step_ms=20.0, drain_s=0.1)
    serve.wait("serving")
    ledger = SqliteLedger(home / "state" / "ledger-0.sqlite")
    ledger.accept([ask("a", 900)])
    eventually(lambda: ledger.depth().running == 1)
    serve.signal(signal.SIGTERM)
    assert serve.left() == 0
    entry = ledger.fetch("a")
    assert entry is not None
    assert (entry.state, entry.attempt, entry.deaths) == ("queued", 1, 0)
    ledger.close()


def test_killed_itself_it_leaves_no_children(start: Start) -> None:
    serve = start()
    serve.wait("serving")
    pids = [serve.pid("gateway"), serve.pid("worker-1")]
    serve.signal(signal.SIGKILL)
    assert serve.left() == -signal.SIGKILL
    eventually(lambda: all(gone(pid) for pid in pids))


def test_a_long_home_gets_a_short_socket_path(start: Start, home: Path) -> None:
    serve = start(home=home.parent / ("long" * 30))
    serve.wait("serving")
    assert answer(serve.url)
    serve.signal(signal.SIGTERM)
    assert serve.left() == 0
