"""Several models in too little memory, with real processes: loaded when asked for, and nothing accepted is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from served import Served, freehold
from test_change import get, until
from worker_line import profile

GIB = 1 << 30


def sized(folder: Path, name: str, **more: Any) -> str:
    """`name=sim:PROFILE` of a model that takes 1 GiB."""
    folder = folder / name
    folder.mkdir(parents=True)
    path = Path(profile(folder, 2.0, max_batch=4))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"weight_bytes": GIB, "name": name} | more))
    return f"{name}=sim:{path}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Three models, of which two fit into memory."""
    folder = tmp_path_factory.mktemp("several")
    models = [sized(folder, name) for name in "abc"]
    with Served(folder / "home", *models, "--memory-budget", "2.5GiB") as served:
        yield served


def ask(server: Served, model: str, tokens: int = 8, **headers: str) -> httpx.Response:
    body = {"model": model, "prompt": "Hello.", "max_tokens": tokens, "ignore_eos": True}
    return httpx.post(f"{server.url}/v1/completions", json=body, headers=headers, trust_env=False, timeout=90.0)


def states(server: Served) -> dict[str, str]:
    return dict(get(f"{server.url}/readyz")["models"])


def loads(server: Served) -> int:
    """Workers started so far."""
    rows = get(f"{server.url}/freehold/workers")["workers"]
    return max(int(row["name"].removeprefix("worker-")) for row in rows)


def test_all_are_listed_and_those_that_fit_are_loaded(server: Served) -> None:
    listed = {model["id"]: model for model in get(f"{server.url}/v1/models")["data"]}
    assert list(listed) == ["a", "b", "c"]
    assert states(server) == {"a": "loaded", "b": "loaded", "c": "unloaded"}
    assert (listed["a"]["state"], listed["a"]["chat"]) == ("loaded", True)
    assert (listed["c"]["state"], listed["c"]["chat"]) == ("unloaded", None)
    shown = freehold("workers", "--url", server.url, home=server.home).stdout
    assert "unloaded" in shown
    assert "loaded when asked for: c" in server.log.read_text()


def test_who_cannot_wait_for_a_load_is_told_so_and_not_accepted(server: Served) -> None:
    late = ask(server, "c", **{"x-freehold-deadline-ms": "50"})
    assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_passed")
    assert ask(server, "d").status_code == 404


def test_a_burst_to_all_is_answered_and_swaps_are_few(server: Served) -> None:
    before = loads(server)
    with ThreadPoolExecutor(24) as pool:
        replies = list(pool.map(lambda i: ask(server, "abc"[i % 3], tokens=30), range(24)))
    assert [reply.status_code for reply in replies] == [200] * 24
    assert all(reply.json()["usage"]["completion_tokens"] == 30 for reply in replies)
    assert [reply.json()["model"] for reply in replies] == list("abc") * 8
    assert loads(server) - before <= 5, "the queue is worked on by model"
    assert sorted(states(server).values()).count("loaded") <= 2


def test_what_is_accepted_waits_in_the_ledger_while_its_model_is_loaded(server: Served) -> None:
    """By now every model has been loaded once: requests are accepted at once, whoever is in memory."""
    away = next(name for name, state in states(server).items() if state == "unloaded")
    refused = ask(server, away, **{"x-freehold-deadline-ms": "100"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "deadline_unmeetable")
    body = {"model": away, "prompt": "Hello.", "max_tokens": 8, "ignore_eos": True, "mode": "async"}
    reply = httpx.post(f"{server.url}/generate", json=body, trust_env=False, timeout=5.0)
    assert reply.status_code == 202
    told = until(lambda: (now := get(f"{server.url}/generate/{reply.json()['id']}"))["status"] == "completed" and now)
    assert told["usage"]["completion_tokens"] == 8


def test_running_answers_are_not_cut_by_a_swap(server: Served) -> None:
    away = until(lambda: next((name for name, state in states(server).items() if state == "unloaded"), None))
    with ThreadPoolExecutor(3) as pool:
        long = [pool.submit(ask, server, name, 900) for name in sorted({*"abc"} - {away})]
        short = pool.submit(ask, server, away)
        assert [each.result().json()["usage"]["completion_tokens"] for each in long] == [900, 900]
        assert short.result().status_code == 200


def test_what_can_not_be_done_to_such_models_is_said(server: Served) -> None:
    rollout = freehold("rollout", "sim", "--name", "a", "--url", server.url, home=server.home)
    assert rollout.returncode == 1
    assert "on demand" in rollout.stderr
    server.process.send_signal(1)  # SIGHUP: nothing has changed, and nothing is lost
    assert ask(server, "a").status_code == 200


def test_one_that_can_not_be_loaded_costs_only_its_own_requests_an_answer(server: Served) -> None:
    """It had been loaded before, so requests are accepted; then its file broke."""
    away = until(lambda: next((name for name, state in states(server).items() if state == "unloaded"), None))
    (server.home.parent / away / "steps-2.0-4.json").write_text("{}")
    body = {"model": away, "prompt": "Hello.", "max_tokens": 8, "mode": "async"}
    reply = httpx.post(f"{server.url}/generate", json=body, trust_env=False, timeout=5.0)
    assert reply.status_code == 202
    told = until(lambda: (now := get(f"{server.url}/generate/{reply.json()['id']}"))["status"] == "failed" and now)
    assert f"{away!r} can't be loaded" in told["error"]["message"]
    again = ask(server, away)
    assert (again.status_code, again.json()["error"]["code"]) == (503, "unavailable")
    assert 0 < float(again.headers["retry-after"]) <= 10
    now = states(server)
    assert now[away] == "failed"
    assert ask(server, next(name for name, state in now.items() if state == "loaded")).status_code == 200


def test_one_that_could_never_be_loaded_is_told_at_the_start(tmp_path: Path) -> None:
    big = sized(tmp_path, "big", weight_bytes=3 * GIB)
    never = freehold("serve", sized(tmp_path, "good"), big, "--memory-budget", "2GiB", "--port", "0", home=tmp_path)
    assert never.returncode == 4
    assert "big takes 3" in never.stderr
    twice = freehold("serve", "sim", "sim", "--port", "0", home=tmp_path)
    assert (twice.returncode, "Two models" in twice.stderr) == (3, True)
