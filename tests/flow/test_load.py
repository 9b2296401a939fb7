"""The load client against real servers: Freehold on `sim`, one that does nothing, and ones that misbehave."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from freehold.errors import Unauthorized, Unreachable, UsageError
from freehold.gateway import auth
from freehold.loadtest.arrivals import Times, constant, poisson
from freehold.loadtest.generator import Closed, Run, play
from freehold.loadtest.null import NullServer
from freehold.loadtest.probe import probe
from freehold.loadtest.record import columns, open_run
from freehold.loadtest.target import Ask, Target
from freehold.sample import Sample
from server import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("load") / "home") as running:
        yield running


def ask(number: int) -> Ask:
    return Ask(text=f"request {number}", output_tokens=5)


def target(url: str, **more: object) -> Target:
    return Target(url=url, model="tester", timeout_s=20.0, **more)  # type: ignore[arg-type]


def played(to: Target, load: Times | Closed, **more: object) -> list[Sample]:
    return [each for _, samples in play(to, load, ask, **more) for each in samples]  # type: ignore[arg-type]


@pytest.mark.parametrize(("api", "processes"), [("chat", 1), ("completions", 3)])
def test_every_request_of_the_schedule_is_told_once(server: Server, api: str, processes: int) -> None:
    times = poisson(80.0, 1.5, seed=2)
    extra = {"ignore_eos": True}
    found = played(target(server.url, api=api, extra=extra), times, processes=processes)
    rows = columns(sorted(found, key=lambda sample: sample.number))
    assert {sample.outcome for sample in found} == {"ok"}, found[0]
    assert rows.number.tolist() == list(range(times.size))
    assert np.allclose(rows.intended_s, times)
    assert (rows.sent_s >= rows.intended_s - 1e-4).all()
    assert (rows.first_s <= rows.end_s).all()
    assert set(rows.output_tokens.tolist()) == {5}
    assert not np.isnan(rows.queue_ms).any()


def test_users_wait_for_their_answers(server: Server) -> None:
    found = played(target(server.url), Closed(users=3, seconds=1.0, think_s=0.05, think="exponential"), processes=2)
    by_user = {user: [s for s in found if s.group == f"user-{user}"] for user in range(3)}
    for samples in by_user.values():
        samples.sort(key=lambda sample: sample.intended_s)
        assert len(samples) > 2
        assert all(a.end_s <= b.intended_s for a, b in pairwise(samples))


def test_a_run_that_is_closed_tells_what_was_under_way(server: Server) -> None:
    asks = Ask(text="long", output_tokens=2000, extra={"ignore_eos": True})
    run = play(target(server.url), constant(20.0, 60.0), lambda _: asks)
    early = [sample for _ in range(2) for sample in next(run)[1]]
    run.close()
    told = {sample.outcome for sample in run.rest}
    assert "unsent" in told
    numbers = sorted(sample.number for sample in [*early, *run.rest])
    assert numbers == list(range(len(numbers)))
    run.close()
    with pytest.raises(StopIteration):
        next(run)
    assert all(hand.process.poll() is not None for hand in run._hands)


def test_the_probe_finds_the_scale_of_a_prompt(server: Server) -> None:
    found = probe(target(server.url))
    assert found.exact
    assert found.counts
    assert 0.5 < found.scale.tokens_per_word < 3


@contextmanager
def misbehaving(*replies: bytes) -> Iterator[str]:
    """Answers each connection's request with the next of `replies`, then closes it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for reply in (b"", *replies):  # the first connection only looks whether anybody is here
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(reply)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread.join(10)
    listener.close()


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TOKEN = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'


@pytest.mark.parametrize(
    ("reply", "outcome", "said"),
    [
        (b"", "failed", "connection ended"),
        (HEAD + b"%x\r\n%b\r\n" % (len(TOKEN), TOKEN), "failed", "connection ended"),
        (b"SMTP ready\r\n\r\n", "failed", "not HTTP"),
        (b"HTTP/1.1 429 X\r\nretry-after: 2\r\ncontent-length: 2\r\n\r\n{}", "refused", "429"),
        (b"HTTP/1.1 307 X\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n", "failed", "307"),
    ],
)
def test_a_server_that_misbehaves_is_a_failed_request(reply: bytes, outcome: str, said: str) -> None:
    with misbehaving(reply) as url:
        (sample,) = played(target(url), np.zeros(1))
    assert sample.outcome == outcome
    assert said in sample.error


def test_silence_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        to = Target(url=f"http://127.0.0.1:{silent.getsockname()[1]}", model="m", timeout_s=0.3)
        found = played(to, np.array([0.0, 0.1]))
    assert [sample.outcome for sample in found] == ["timeout", "timeout"]
    assert found[0].end_s >= 0.3


def test_a_kept_connection_that_was_closed_costs_no_request() -> None:
    done = b"data: [DONE]\n\n"
    whole = HEAD + b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in (TOKEN, done)) + b"0\r\n\r\n"
    with misbehaving(whole, whole) as url:
        found = played(target(url), np.array([0.0, 0.4]))
    assert [sample.outcome for sample in found] == ["ok", "ok"]


def test_nobody_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(Unreachable, match="Nobody answers"):
        play(target(f"http://127.0.0.1:{port}"), np.zeros(1), ask)
    with pytest.raises(UsageError, match="empty"):
        play(target(f"http://127.0.0.1:{port}"), np.zeros(0), ask)


def test_a_wrong_key_is_said(tmp_path: Path) -> None:
    auth.add(tmp_path, "somebody")
    with (
        Server(tmp_path, flags={"server.api_keys": "on"}) as locked,
        pytest.raises(Unauthorized, match="key"),
    ):
        probe(target(locked.url, api_key="wrong"))


def freehold(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "freehold", *arguments],
        capture_output=True, text=True, timeout=120, env=os.environ | {"FREEHOLD_HOME": str(home)},
    )  # fmt: skip


def test_the_command_tells_the_same_again_from_its_folder(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "run"
    slo = ("--slo", "p99 e2e < 60s, error rate < 1%")
    done = freehold(
        "load", server.url, "--rate", "90", "--seconds", "2", "--out", str(out), "--json", *slo, home=tmp_path
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["outcomes"]["ok"] == told["asked"] > 40
    assert told["met_share"] == 1.0
    assert told["client"]["ceiling"]["requests_per_s"] > 0
    assert told["client"]["sent"]["index"] > 0
    again = freehold("load", str(out), "--json", *slo, home=tmp_path)
    same = json.loads(again.stdout.splitlines()[-1])
    assert {**same, "interrupted": False} == told
    manifest = open_run(out).manifest
    assert (manifest.model, manifest.seed, manifest.load["arrivals"]) == ("tester", 0, "poisson")


def test_ctrl_c_ends_the_run_and_keeps_what_was_measured(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "freehold", "load", server.url, "--users", "2", "--seconds", "10min", "--json"]
    child = subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(2000):
        if (out / "samples.jsonl").exists():
            break
        threading.Event().wait(0.02)
    threading.Event().wait(1.0)
    child.send_signal(signal.SIGINT)
    stdout, stderr = child.communicate(timeout=60)
    assert child.returncode == 130, stderr
    told = json.loads(stdout.splitlines()[-1])
    assert told["interrupted"] is True
    assert told["outcomes"]["ok"] > 0
    assert open_run(out).manifest.interrupted


def test_a_trace_is_replayed(server: Server, tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    lines = [f"2023-11-16 18:17:0{i}.0000000,{20 + i},{3 + i}" for i in range(5)]
    trace.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *lines]) + "\n")
    out = tmp_path / "run"
    done = freehold("load", server.url, "--trace", str(trace), "--speed", "10", "--out", str(out), home=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = columns(sorted(open_run(out).samples(), key=lambda sample: sample.number))
    assert rows.output_tokens.tolist() == [3, 4, 5, 6, 7]
    assert np.allclose(rows.input_tokens, [20, 21, 22, 23, 24], atol=6)
    assert np.allclose(rows.intended_s, np.arange(5) / 10, atol=1e-6)


def test_two_servers_side_by_side(server: Server, tmp_path: Path) -> None:
    more = ("--rate", "20", "--seconds", "2", "--price-a", "1:2", "--out", str(tmp_path / "run"), "--json")
    done = freehold("versus", server.url, server.url, *more, home=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["agreement"] == {"pairs": told["a"]["asked"], "exact_share": 1.0, "mean_similarity": 1.0}
    assert told["a"]["usd_per_successful_request"] > 0
    assert told["b"]["usd_per_successful_request"] is None
    assert {each["name"] for each in told["differences"]} >= {"p50 ttft", "p99 e2e"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rate", "5", "--seconds", "10 parsecs"), "no length of time"),
        (("--rate", "5", "--users", "2"), "don't go together"),
        ((), "What is to be sent"),
        (("--rate", "0"), "rate is 0"),
        (("--rate", "5", "--think", "1s"), "--think is for users"),
        (("--ramp", "fast"), "not understood"),
        (("--rate", "5", "--slo", "p99 e2e < 500"), "500"),
    ],
)
def test_a_wrong_option_is_said_before_anything_is_sent(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    done = freehold("load", "http://127.0.0.1:9", *arguments, home=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr


def test_the_null_server_is_fast_and_whole() -> None:
    with NullServer(tokens=4) as null:
        found = played(Target(url=null.url, model="null"), Closed(users=4, seconds=0.5))
    assert {(sample.outcome, sample.output_tokens) for sample in found} == {("ok", 5)}


def test_a_run_is_an_iterator() -> None:
    with NullServer() as null, play(Target(url=null.url, model="null"), constant(50.0, 0.5), ask) as run:
        assert isinstance(run, Run)
        assert sum(len(samples) for _, samples in run) == 25
        assert run.in_flight == 0
        assert len(run.cpu_s) == 1
