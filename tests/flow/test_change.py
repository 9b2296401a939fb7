"""Change without loss, with real processes: hung is told from busy, a drain loses nothing, memory is kept in bounds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from served import FREEHOLD, Served, freehold
from worker_line import profile

PATIENCE_S = 90.0


def get(url: str) -> Any:
    return httpx.get(url, trust_env=False, timeout=30).json()


def rows(server: Served) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in get(f"{server.url}/freehold/workers")["workers"]}


def until(holds: Callable[[], Any]) -> Any:
    end_s = time.monotonic() + PATIENCE_S
    while not (found := holds()):
        assert time.monotonic() < end_s, "it never came true"
        time.sleep(0.05)
    return found


def complete(server: Served, tokens: int = 8, prompt: str = "Hello.") -> httpx.Response:
    body = {"prompt": prompt, "max_tokens": tokens, "ignore_eos": True}
    return httpx.post(f"{server.url}/v1/completions", json=body, trust_env=False, timeout=PATIENCE_S)


def stepping(folder: Path, step_ms: float, **more: Any) -> str:
    """A model whose steps take `step_ms`."""
    path = Path(profile(folder, step_ms))
    facts = json.loads(path.read_text())
    facts["step"] |= more.pop("step", {})
    path.write_text(json.dumps(facts | more))
    return f"sim:{path}"


@pytest.mark.parametrize("process", ["worker", "gateway"])
def test_a_process_that_is_stopped_is_called_hung_and_replaced(tmp_path: Path, process: str) -> None:
    with Served(tmp_path / "home", "sim:instant", "--name", "m") as server:
        if process == "worker":
            pid = rows(server)["worker-1"]["pid"]
        else:
            children = subprocess.run(
                ["pgrep", "-P", str(server.process.pid), "-f", "gateway"], capture_output=True, text=True, check=True
            )
            pid = int(children.stdout.split()[0])
        os.kill(pid, signal.SIGSTOP)
        if process == "worker":
            row = until(lambda: (row := rows(server)["worker-1"])["pid"] != pid and row["state"] == "ready" and row)
            assert row["restarts"] == 1
            assert "hung" in row["last_error"]
        else:
            time.sleep(0.1)
        assert complete(server).status_code == 200
        assert "process.hung" in server.log.read_text()


def test_a_long_prefill_is_not_called_hung(tmp_path: Path) -> None:
    model = stepping(tmp_path, 1.0, step={"prefill_ms_per_token": 30.0})
    with Served(tmp_path / "home", model, "--name", "m") as server:
        pid = rows(server)["worker-1"]["pid"]
        assert complete(server, prompt="one two three four five six " * 50).status_code == 200
        row = rows(server)["worker-1"]
        steps = get(f"{server.url}/freehold/workers/worker-1/steps")["steps"]
        assert max(step["step_ms"] for step in steps) > 7000  # longer than an idle worker may be silent
        assert (row["pid"], row["restarts"], row["last_error"]) == (pid, 0, "")


def test_an_engine_that_ends_its_process_with_0_has_died(tmp_path: Path) -> None:
    with Served(tmp_path / "home", "sim:instant", "--set", "engine.sim_faults=exit_after=6") as server:
        assert complete(server, tokens=4).status_code == 200
        complete(server, tokens=4)
        row = until(lambda: (row := rows(server)["worker-1"])["restarts"] == 1 and row)
        assert "exit code 0" in row["last_error"]


def test_a_drained_worker_finishes_and_leaves_while_the_queue_grows(tmp_path: Path) -> None:
    model = stepping(tmp_path, 20.0)
    with Served(tmp_path / "home", model, "--name", "m") as server, ThreadPoolExecutor() as pool:
        running = pool.submit(complete, server, 60)
        until(lambda: rows(server)["worker-1"]["running"])
        done = freehold("drain", "worker-1", "--url", server.url, "--json", home=tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"worker": "worker-1", "replaced_by": None, "left": True}
        assert running.result().json()["usage"]["completion_tokens"] == 60
        row = rows(server)["worker-1"]
        assert (row["state"], row["restarts"]) == ("stopped", 0)
        assert get(f"{server.url}/readyz") == {
            "status": "not_ready", "reason": "worker-1 is stopped.", "workers": {"stopped": 1},
        }  # fmt: skip
        again = freehold("drain", "worker-1", "--url", server.url, home=tmp_path)
        assert again.returncode == 1
        assert "already" in again.stderr


def test_with_replace_somebody_is_always_ready_and_nothing_is_lost(tmp_path: Path) -> None:
    model = stepping(tmp_path, 2.0)
    with Served(tmp_path / "home", model, "--name", "m") as server, ThreadPoolExecutor(8) as pool:
        over = threading.Event()

        def load() -> list[int]:
            found = []
            while not over.is_set():
                found.append(complete(server, 10).status_code)
            return found

        loads = [pool.submit(load) for _ in range(4)]
        for i in range(1, 4):
            done = freehold("drain", f"worker-{i}", "--replace", "--url", server.url, home=tmp_path)
            assert done.returncode == 0, done.stderr
            assert httpx.get(f"{server.url}/readyz", trust_env=False).status_code == 200
        over.set()
        codes = [code for load in loads for code in load.result()]
        assert set(codes) == {200}
        assert rows(server)["worker-4"]["state"] in ("ready", "busy")


def test_sigterm_to_a_worker_is_a_drain(tmp_path: Path) -> None:
    model = stepping(tmp_path, 20.0)
    with Served(tmp_path / "home", model, "--workers", "2") as server, ThreadPoolExecutor() as pool:
        running = [pool.submit(complete, server, 60) for _ in range(16)]
        until(lambda: all(row["running"] for row in rows(server).values()))
        os.kill(rows(server)["worker-1"]["pid"], signal.SIGTERM)
        until(lambda: rows(server)["worker-1"]["state"] == "stopped")
        assert {each.result().status_code for each in running} == {200}
        assert rows(server)["worker-1"]["restarts"] == 0
        assert rows(server)["worker-2"]["state"] in ("ready", "busy")


def test_a_worker_near_its_memory_limit_is_replaced_before_it_is_killed(tmp_path: Path) -> None:
    model = stepping(tmp_path, 5.0)
    faults = ("--set", "engine.sim_faults=leak_mb=1", "--set", "engine.memory_limit_mb=400")
    with Served(tmp_path / "home", model, *faults) as server, ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: complete(server, 40), range(80)))
        assert {reply.status_code for reply in replies} == {200}
        assert {reply.json()["usage"]["completion_tokens"] for reply in replies} == {40}
        found = rows(server)
        assert len(found) > 1
        assert not any(row["restarts"] or row["last_error"] for row in found.values())
        assert "worker.recycled" in server.log.read_text()


def test_a_model_that_fills_its_worker_s_memory_is_refused(tmp_path: Path) -> None:
    done = freehold("serve", "sim:instant", "--port", "0", "--set", "engine.memory_limit_mb=10", home=tmp_path)
    assert done.returncode == 4
    assert "engine.memory_limit_mb" in done.stderr


def test_who_may_change_what_runs(tmp_path: Path) -> None:
    def key(*more: str) -> dict[str, str]:
        made = json.loads(freehold("keys", "add", *more, "--json", home=tmp_path).stdout)
        return {"authorization": f"Bearer {made['key']}"}

    user, admin = key("user"), key("boss", "--admin")
    with Served(tmp_path, "sim:instant", "--set", "server.api_keys=on") as server:
        url = f"{server.url}/freehold/workers/worker-9/drain"
        assert httpx.post(url, trust_env=False).status_code == 401
        refused = httpx.post(url, headers=user, trust_env=False)
        assert (refused.status_code, "--admin" in refused.text) == (403, True)
        for site in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
            assert httpx.post(url, headers=admin | site, trust_env=False).status_code == 403
        assert httpx.post(url, headers=admin | {"origin": server.url}, trust_env=False).status_code == 404


def test_a_page_elsewhere_changes_nothing(tmp_path: Path) -> None:
    with Served(tmp_path, "sim:instant", "--set", "server.cors_origins=*") as server:
        url = f"{server.url}/freehold/workers/worker-1/drain"
        refused = httpx.post(url, headers={"origin": "http://page.example"}, trust_env=False)
        assert refused.status_code == 403
        assert rows(server)["worker-1"]["state"] == "ready"


def test_commands_say_who_is_not_there(tmp_path: Path) -> None:
    done = subprocess.run(
        [*FREEHOLD, "drain", "worker-1", "--url", "http://127.0.0.1:9"], capture_output=True, text=True
    )
    assert done.returncode == 5
