"""Other settings, another version: new processes take the old ones' place while clients go on asking."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import httpx

from served import Served, freehold
from test_change import complete, get, rows, stepping, until
from test_rollout import asked


def gateways(server: Served) -> list[int]:
    """Pids of the gateway processes."""
    found = subprocess.run(
        ["pgrep", "-P", str(server.process.pid), "-f", "freehold gateway"], capture_output=True, text=True, check=True
    )
    return [int(pid) for pid in found.stdout.split()]


def stream(server: Served, tokens: int) -> Any:
    body = {"prompt": "Hello.", "max_tokens": tokens, "ignore_eos": True, "stream": True}
    return httpx.stream("POST", f"{server.url}/v1/completions", json=body, trust_env=False, timeout=90)


def test_an_upgrade_loses_no_request_and_no_stream(tmp_path: Path) -> None:
    model = stepping(tmp_path, 20.0)
    with Served(tmp_path / "home", model, "--name", "m", "--workers", "2") as server:
        before = gateways(server)
        with stream(server, 300) as reply:
            lines = reply.iter_lines()
            assert next(lines).startswith(("data:", "id:"))
            with asked(server) as replies:
                told = json.loads(freehold("upgrade", "--url", server.url, "--json", home=server.home).stdout)
                assert told["gateway"] == "gateway-2"
                until(lambda: {"worker-3", "worker-4"} <= rows(server).keys())
                until(lambda: [row["state"] for row in rows(server).values()].count("stopped") == 2)
            text = "".join(lines)
        assert "[DONE]" in text
        assert text.count('"finish_reason":"length"') == 1
        assert replies
        assert {reply.status_code for reply in replies} == {200}
        until(lambda: set(before).isdisjoint(gateways(server)))
        assert complete(server).status_code == 200
        assert {row["last_error"] for row in rows(server).values()} == {""}


def test_settings_are_read_again(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    settings = home / "freehold.toml"
    settings.write_text("[server]\nmax_n = 5\n")
    with Served(home, "sim:instant", "--name", "m") as server:
        assert get(f"{server.url}/freehold/info")["limits"]["max_n"] == 5
        settings.write_text("[server]\nmax_n = 3\n[engine]\nworkers = 2\n")
        with asked(server) as replies:
            server.process.send_signal(signal.SIGHUP)
            until(lambda: get(f"{server.url}/freehold/info")["limits"]["max_n"] == 3)
            until(lambda: len(gateways(server)) == 1)
        assert {reply.status_code for reply in replies} == {200}
        until(lambda: rows(server)["worker-2"]["state"] == "ready")
        settings.write_text("[server]\nmax_n = 3\n[engine]\nworkers = 1\nmax_batch = 3\n")
        done = freehold("reload", "--url", server.url, "--json", home=home)
        assert sorted(json.loads(done.stdout)["changed"]) == ["engine.max_batch", "engine.workers"]
        until(lambda: get(f"{server.url}/freehold/rollout")["state"] == "done")
        assert get(f"{server.url}/freehold/info")["models"][0]["max_batch"] == 3
        settings.write_text("[store]\nkeep_results_s = 3\n")
        refused = freehold("reload", "--url", server.url, home=home)
        assert (refused.returncode, "keep_results_s" in refused.stderr) == (1, True)
        settings.write_text("[server]\nmax_m = 3\n")
        refused = freehold("reload", "--url", server.url, home=home)
        assert "max_n" in refused.stderr
        assert complete(server).status_code == 200
