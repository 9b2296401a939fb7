"""A new model takes an old one's place, or doesn't, while clients go on asking."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from served import Served, freehold
from test_change import complete, rows, stepping

LONG = "one two three four five six seven eight nine ten " * 12


@contextmanager
def asked(server: Served, prompt: str = "Hello.") -> Iterator[list[httpx.Response]]:
    """Four clients that ask all the time, and what they got."""
    over, found = threading.Event(), []

    def ask() -> None:
        while not over.is_set():
            found.append(complete(server, 8, prompt))

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        try:
            yield found
        finally:
            over.set()
    for each in asking:
        each.result()


def roll_out(server: Served, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = freehold("rollout", *arguments, "--url", server.url, "--json", home=server.home)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, done.stderr
    return done.returncode, json.loads(lines[0])


def test_a_good_model_takes_over_and_no_request_notices(tmp_path: Path) -> None:
    old, new = stepping(tmp_path, 4.0), stepping(tmp_path, 3.9)
    with Served(tmp_path / "home", old, "--name", "m") as server:
        with asked(server) as replies:
            code, told = roll_out(server, new, "--canary", "40%", "--window", "3s")
        assert (code, told["state"]) == (0, "done"), told
        assert told["new_answers"] >= 30
        assert {reply.status_code for reply in replies} == {200}
        assert {reply.json()["model"] for reply in replies} == {"m"}
        assert {reply.headers["x-freehold-worker"] for reply in replies} == {"worker-1", "worker-2"}
        found = rows(server)
        assert (found["worker-1"]["state"], found["worker-2"]["state"]) == ("stopped", "ready")
        assert found["worker-2"]["lots"] == [0, 100]
        assert complete(server).headers["x-freehold-worker"] == "worker-2"


@pytest.mark.parametrize(
    ("new", "words"), [({"context_tokens": 64}, "refuses more often"), ({"step": {"base_ms": 40.0}}, "slower")]
)
def test_a_worse_model_is_rolled_back_by_itself(tmp_path: Path, new: dict[str, Any], words: str) -> None:
    old = stepping(tmp_path, 4.0)
    worse = stepping(tmp_path, 4.1, **new)
    with Served(tmp_path / "home", old, "--name", "m") as server:
        with asked(server, LONG) as replies:
            code, told = roll_out(server, worse, "--canary", "40%", "--window", "4s")
        assert (code, told["state"]) == (1, "rolled_back"), told
        assert words in told["reason"]
        assert {reply.status_code for reply in replies} <= {200, 400}
        assert complete(server, 8, LONG).headers["x-freehold-worker"] == "worker-1"
        assert rows(server)["worker-1"]["lots"] == [0, 100]


def test_what_can_t_be_found_or_compared_changes_nothing(tmp_path: Path) -> None:
    with Served(tmp_path / "home", "sim:instant", "--name", "m") as server:
        code, told = roll_out(server, "no-such-model.gguf")
        assert (code, told["state"]) == (1, "rolled_back")
        assert "no-such-model.gguf" in told["reason"]
        freehold("rollout", "sim:instant", "--no-wait", "--url", server.url, home=server.home)
        again = freehold("rollout", "sim:instant", "--no-wait", "--url", server.url, home=server.home)
        assert again.returncode == 1
        assert "on its way" in again.stderr
        code, told = roll_out(server, "--end")
        assert (code, told["state"], told["reason"]) == (0, "rolled_back", "It was ended by hand.")
        assert complete(server).headers["x-freehold-worker"] == "worker-1"
        for wrong in (("m", "--canary", "0"), ("m", "--window", "soon"), ()):
            assert freehold("rollout", *wrong, home=server.home).returncode == 2


def test_without_comparing_it_takes_over_once_it_is_loaded(tmp_path: Path) -> None:
    with Served(tmp_path / "home", "sim:instant", "--name", "m") as server:
        code, told = roll_out(server, "sim:llama-125m-openvino-2core", "--canary", "100%")
        assert (code, told["state"]) == (0, "done")
        assert rows(server)["worker-2"]["variant"] != rows(server)["worker-1"]["variant"]
        assert complete(server).status_code == 200
