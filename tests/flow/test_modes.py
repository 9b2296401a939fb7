"""The three modes of serving behind one API: what each promises, and what it refuses."""

from __future__ import annotations

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from served import Served, freehold
from test_change import complete, get, rows, stepping, until
from worker_line import profile


def busy(server: Served) -> dict[str, Any] | None:
    """The worker that answers, once one does."""
    return next((row for row in rows(server).values() if row["running"]), None)


def test_stateful_has_no_queue(tmp_path: Path) -> None:
    model = f"m=sim:{profile(tmp_path, 10.0, max_batch=2)}"
    with Served(tmp_path / "home", model, "--mode", "stateful") as server, ThreadPoolExecutor(2) as pool:
        running = [pool.submit(complete, server, 150) for _ in range(2)]
        until(lambda: sum(row["running"] for row in rows(server).values()) == 2)
        refused = complete(server)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
        assert "no queue" in refused.json()["error"]["message"]
        assert 0.1 <= float(refused.headers["retry-after-ms"]) / 1000 <= 3.0
        assert [each.result().status_code for each in running] == [200, 200]
        assert complete(server).status_code == 200
        too_many = {"prompt": "Hello.", "max_tokens": 2, "n": 3}
        never = httpx.post(f"{server.url}/v1/completions", json=too_many, trust_env=False)
        assert (never.status_code, "retry-after" in never.headers) == (429, False)


def test_stateless_gives_each_request_a_process_with_limits(tmp_path: Path) -> None:
    limits = ["--set", "engine.memory_limit_mb=4096", "--set", "engine.cpu_limit_s=40"]
    with (
        Served(tmp_path / "home", stepping(tmp_path, 10.0), "--name", "m", "--mode", "stateless", *limits) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        one = complete(server)
        assert one.status_code == 200
        running = pool.submit(complete, server, 200)
        row = until(lambda: busy(server))
        assert row["name"] != one.headers["x-freehold-worker"]
        if Path("/proc/self/limits").exists():
            told = Path(f"/proc/{row['pid']}/limits").read_text()
            assert re.search(r"Max address space +4294967296 +4294967296", told)
            assert re.search(r"Max cpu time +40 +45", told)
            assert re.search(r"Max core file size +0 +0", told)
        assert os.getpriority(os.PRIO_PROCESS, row["pid"]) >= 5
        os.kill(row["pid"], signal.SIGKILL)  # another process goes on
        assert running.result().json()["usage"]["completion_tokens"] == 200
        until(lambda: [(left["pid"], left["state"]) for left in rows(server).values()] == [(0, "dead")])
        assert get(f"{server.url}/readyz")["models"] == {"m": "unloaded"}


def test_stateless_ends_what_spends_its_processor_time(tmp_path: Path) -> None:
    path = profile(tmp_path, 0.01, max_batch=16, context_tokens=1_000_000)
    limit = ["--set", "engine.cpu_limit_s=1", "--set", "engine.sim_speed=0"]
    with Served(tmp_path / "home", f"m=sim:{path}", "--mode", "stateless", *limit) as server:
        body = {"prompt": "Hello.", "max_tokens": 32_000, "ignore_eos": True, "n": 16}
        spent = httpx.post(f"{server.url}/v1/completions", json=body, trust_env=False, timeout=60)
        assert (spent.status_code, spent.json()["error"]["code"]) == (500, "engine_failed")
        assert "processor time" in spent.json()["error"]["message"]
        assert complete(server).status_code == 200


def test_modes_and_several_models_do_not_mix(tmp_path: Path) -> None:
    refused = freehold("serve", "a=sim", "b=sim", "--mode", "stateful", "--port", "0", home=tmp_path)
    assert (refused.returncode, "hybrid" in refused.stderr) == (3, True)
