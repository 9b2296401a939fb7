"""The short versions once more with the ledger in Redis, under a supervisor: nothing is lost there either."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from freehold.ledger.open import open_ledger
from freehold.ledger.protocol import Entry, Ledger
from redis_server import RedisServer, running
from served import Served
from stream import ASK, Stream, until, whole
from test_change import complete, rows, stepping
from test_rollout import asked, roll_out

CHAT = "/v1/chat/completions"
LONG = {**ASK, "max_tokens": 60, "ignore_eos": True, "seed": 7}


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def served(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("home")
    settings = ("--set", f"store.url={redis.url}", "--set", "server.restart_most_s=0.1")
    with Served(home, stepping(home, 15.0), "--name", "m", "--workers", "2", *settings) as server:
        yield server


@pytest.fixture(autouse=True)
def all_there(served: Served) -> None:
    until(lambda: _ready(served) == 2)


def _ready(server: Served) -> int:
    try:
        return sum(row["state"] == "ready" for row in rows(server).values())
    except httpx.TransportError:
        return 0


@contextmanager
def ledger(redis: RedisServer) -> Iterator[Ledger]:
    with closing(open_ledger(redis.url)) as ledger:
        yield ledger


def newest(redis: RedisServer) -> Entry:
    with ledger(redis) as store:
        return store.list_jobs(limit=1)[0]


def kill_busy(server: Served) -> None:
    until(lambda: any(row["running"] for row in rows(server).values()))
    os.kill(next(row["pid"] for row in rows(server).values() if row["running"]), signal.SIGKILL)


def kill_gateway(server: Served) -> None:
    command = ["pgrep", "-P", str(server.process.pid), "-f", "gateway"]
    for pid in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split():
        os.kill(int(pid), signal.SIGKILL)


def test_a_worker_killed_in_the_middle_is_not_noticed(served: Served) -> None:
    undisturbed, stream = whole(served, CHAT, LONG), Stream()
    with stream.reading(served, CHAT, LONG):
        stream.take(6)
        kill_busy(served)
        stream.rest()
    assert (stream.error, stream.done) == (None, True)
    assert (stream.text, len(stream.events)) == (undisturbed.text, len(undisturbed.events))


def test_gateway_and_worker_killed_the_stream_is_resumed(served: Served) -> None:
    undisturbed, stream = whole(served, CHAT, LONG), Stream()
    with stream.reading(served, CHAT, LONG):
        stream.take(9)
        kill_busy(served)
        kill_gateway(served)
        stream.until_cut()
    with stream.reading(served, CHAT, LONG, **{"last-event-id": stream.last_id}):
        stream.rest()
    assert (stream.text, stream.done) == (undisturbed.text, True)


def test_what_kills_every_worker_is_poison(served: Served, redis: RedisServer) -> None:
    stream = Stream()
    with stream.reading(served, CHAT, {**LONG, "max_tokens": 900}):
        for _ in range(3):
            stream.take(3)
            kill_busy(served)
        stream.rest()
    assert stream.error["code"] == "poisoned"
    assert newest(redis).deaths == 3


def test_cancelled_while_it_waits_while_it_runs_and_when_its_client_is_gone(served: Served, redis: RedisServer) -> None:
    background: dict[str, Any] = {"input": "hi", "background": True, "max_output_tokens": 900, "ignore_eos": True}
    with httpx.Client(base_url=served.url, timeout=60, trust_env=False) as http:
        ids = [http.post("/v1/responses", json=background).json()["id"] for _ in range(20)]  # of which 16 have a place
        for id in reversed(ids):
            assert http.post(f"/v1/responses/{id}/cancel").json()["status"] == "cancelled"
    stream = Stream()
    with stream.reading(served, CHAT, {**LONG, "max_tokens": 900}):
        stream.take(3)
    with ledger(redis) as store:
        until(lambda: store.depth().queued == store.depth().running == 0)
        assert newest(redis).result.cancelled  # type: ignore[union-attr]
        assert store.check_integrity() == []


def test_a_drained_worker_finishes_and_another_takes_its_place(served: Served) -> None:
    with ThreadPoolExecutor() as pool:
        replies = [pool.submit(complete, served, 40) for _ in range(4)]
        until(lambda: any(row["running"] for row in rows(served).values()))
        name = next(row["name"] for row in rows(served).values() if row["running"])
        order = {"replace": True}
        told = httpx.post(f"{served.url}/freehold/workers/{name}/drain", json=order, trust_env=False, timeout=60)
        assert told.status_code == 202, told.text
        assert {reply.result().status_code for reply in replies} == {200}
    until(lambda: rows(served)[name]["state"] == "stopped")


def test_without_its_redis_streams_go_on_and_new_requests_are_told_to_come_back(
    served: Served, redis: RedisServer
) -> None:
    body = {**LONG, "max_tokens": 200}
    undisturbed, stream = whole(served, CHAT, body), Stream()
    with stream.reading(served, CHAT, body):
        stream.take(6)
        redis.kill()
        idle = [row["pid"] for row in rows(served).values() if row["state"] == "ready"]
        os.kill(idle[0], signal.SIGKILL)  # who comes up meanwhile waits for Redis with its model loaded
        stream.take(20)
        refused = complete(served)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_away")
        assert "reached" in refused.json()["error"]["message"]
        assert int(refused.headers["retry-after"]) == 1
        until(lambda: any("reached" in row["last_error"] for row in rows(served).values()))
        redis.start()
        back_s = time.monotonic()
        until(lambda: complete(served).status_code == 200)
        assert time.monotonic() - back_s < 30
        stream.rest()
    assert (stream.text, stream.done) == (undisturbed.text, True)
    with ledger(redis) as store:
        until(lambda: store.depth().queued == store.depth().running == 0)
        assert store.check_integrity() == []


def test_a_rollout_loses_nothing(served: Served, tmp_path: Path) -> None:
    with asked(served) as replies:
        code, told = roll_out(served, stepping(tmp_path, 14.0), "--canary", "40%", "--window", "1s")
    assert (code, told["state"]) == (0, "done"), told
    assert {reply.status_code for reply in replies} == {200}
