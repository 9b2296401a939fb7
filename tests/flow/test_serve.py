"""`freehold serve` and the commands around it, as a person and as a program use them."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx
import psutil
import pytest

from served import FREEHOLD, Served, freehold


def get(url: str) -> httpx.Response:
    return httpx.get(url, trust_env=False, timeout=30)


def last_json(text: str) -> dict[str, object]:
    return dict(json.loads(text.strip().splitlines()[-1]))


def test_two_workers_serve_are_listed_and_leave(tmp_path: Path) -> None:
    with Served(tmp_path / "home", "sim:instant", "--workers", "2", "--name", "mine") as server:
        assert [model["id"] for model in get(f"{server.url}/v1/models").json()["data"]] == ["mine"]
        done = freehold("workers", "--url", server.url, "--json", home=tmp_path)
        rows = last_json(done.stdout)["workers"]
        assert isinstance(rows, list)
        assert [(row["name"], row["model"], row["running"]) for row in rows] == [
            ("worker-1", "mine", 0),
            ("worker-2", "mine", 0),
        ]
        assert all(row["state"] in ("ready", "busy") and psutil.pid_exists(row["pid"]) for row in rows)
        shown = freehold("workers", "--url", server.url, home=tmp_path)
        assert "worker-2" in shown.stdout
        children = psutil.Process(server.process.pid).children(recursive=True)
        assert len(children) == 3
        server.process.send_signal(signal.SIGTERM)
        assert server.line() == {"state": "stopped", "url": server.url, "exit_code": 0}
        assert server.process.wait(30) == 0
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


def test_a_running_answer_survives_sigterm_and_new_ones_are_refused(tmp_path: Path) -> None:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "go"}],
        "max_tokens": 60,
        "ignore_eos": True,
        "stream": True,
    }
    with (
        Served(tmp_path / "home", "sim:llama-125m-openvino-2core", "--name", "m") as server,
        httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, trust_env=False, timeout=60) as reply,
    ):
        lines = reply.iter_lines()
        assert next(lines).startswith("id: ")
        assert next(lines).startswith("data: ")
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        refused = httpx.post(f"{server.url}/v1/chat/completions", json=body | {"stream": False}, trust_env=False)
        assert refused.status_code == 503
        told = [line for line in lines if line]
        assert told[-1] == "data: [DONE]"
        assert '"finish_reason":"length"' in "".join(told)
        assert server.process.wait(30) == 0


def test_a_killed_worker_is_replaced_and_said_so(tmp_path: Path) -> None:
    with Served(tmp_path / "home", "sim:instant") as server:
        first = get(f"{server.url}/freehold/workers").json()["workers"][0]["pid"]
        os.kill(first, signal.SIGKILL)
        deadline_s = time.monotonic() + 30
        row = None
        while time.monotonic() < deadline_s:
            row = get(f"{server.url}/freehold/workers").json()["workers"][0]
            if row["pid"] not in (0, first) and row["state"] == "ready":
                break
            time.sleep(0.05)
        assert row is not None
        assert row["restarts"] == 1
        assert "SIGKILL" in row["last_error"]


def test_children_leave_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    with Served(tmp_path / "home", "sim:instant") as server:
        children = psutil.Process(server.process.pid).children(recursive=True)
        server.process.kill()
        gone, alive = psutil.wait_procs(children, timeout=15)
        assert (len(gone), alive) == (2, [])


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("no-such-model.gguf",), 4, "no-such-model.gguf"),
        (("--set", "server.prot=1"), 3, "server.port"),
        (("--set", "server.port"), 2, "section.key=value"),
        (("--port", "99999"), 3, "port"),
        (("--engine", "onnx"), 3, "openvino"),
        (("--workers", "0"), 2, "workers"),
        (("sim:no-such-profile",), 3, "profile"),
        (("--host", "0.0.0.0", "sim:instant"), 3, "keys add"),
        (("sim:instant", "--set", "engine.sim_faults=load_fail=1"), 4, ""),
    ],
)  # fmt: skip
def test_wrong_input_says_what_and_what_next(tmp_path: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    done = freehold("serve", *arguments, "--json", home=tmp_path)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert last_json(done.stdout)["error"]


def test_a_taken_port_is_said_before_the_model_is_looked_for(tmp_path: Path) -> None:
    with Served(tmp_path / "one", "sim:instant") as server:
        port = server.url.rsplit(":", 1)[1]
        for model in ("sim:instant", "no-such-model.gguf"):
            done = freehold("serve", model, "--port", port, home=tmp_path)
            assert done.returncode == 3
            assert "Another program listens there" in done.stderr


def at_a_terminal(*arguments: str, home: Path) -> tuple[str, int]:
    """What a person sees, and the exit code."""
    ours, theirs = pty.openpty()
    environ = {**os.environ, "FREEHOLD_HOME": str(home), "COLUMNS": "120", "TERM": "xterm"}
    with subprocess.Popen(
        [*FREEHOLD, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environ, cwd=home
    ) as process:
        os.close(theirs)
        seen = b""
        try:
            while part := os.read(ours, 65536):
                seen += part
        except OSError:  # how a terminal says that nobody is left on its other side
            pass
        os.close(ours)
    return seen.decode(), process.returncode


def test_a_failed_start_is_told_once_at_a_terminal_and_logged_elsewhere(tmp_path: Path) -> None:
    arguments = ("serve", "sim:instant", "--port", "0", "--set", "engine.sim_faults=load_fail=1")
    seen, code = at_a_terminal(*arguments, home=tmp_path)
    assert code == 4
    assert seen.count("sim_faults asks for load_fail") == 1
    logged = freehold(*arguments, home=tmp_path).stderr
    events = [json.loads(line)["event"] for line in logged.splitlines() if line.startswith("{")]
    assert {"worker.failed", "supervisor.gave_up"} <= set(events)


def test_loading_is_shown_by_a_bar_at_a_terminal_alone(tmp_path: Path) -> None:
    arguments = ("serve", "sim:llama-8b-vllm-h100", "--port", "0", "--set", "engine.sim_speed=0")
    fails = ("--set", "engine.sim_faults=load_fail=1")
    seen, _ = at_a_terminal(*arguments, *fails, home=tmp_path)
    assert "worker-1: " in seen
    assert "━" in seen
    done = freehold(*arguments, *fails, home=tmp_path)
    assert "━" not in done.stdout + done.stderr


def test_a_server_open_to_all_is_warned_of(tmp_path: Path) -> None:
    with Served(tmp_path / "open", "sim:instant", "--host", "0.0.0.0", "--set", "server.api_keys=off") as server:
        told = server.log.read_text()
        assert "WARNING: anybody who can reach 0.0.0.0" in told
        assert "(from flag)" in told
        assert "freehold keys add" in told
    with Served(tmp_path / "own", "sim:instant", "--set", "server.api_keys=off") as server:
        assert "WARNING" not in server.log.read_text()


def test_what_is_no_http_and_a_websocket_cost_one_event_at_most(tmp_path: Path) -> None:
    with Served(tmp_path, "sim:instant") as server:
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        assert httpx.get(f"{server.url}/v1/nothing", headers=upgrade, trust_env=False).status_code == 404
        with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as wild:
            wild.sendall(b"GARBAGE\r\n\r\n")
            assert wild.recv(4096).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    lines = server.log.read_text().splitlines()
    assert "uvicorn" not in "".join(lines)
    assert len([line for line in lines if "http.invalid" in line]) == 1


def test_the_steps_of_a_worker_can_be_read(tmp_path: Path) -> None:
    key = str(last_json(freehold("keys", "add", "bob", "--json", home=tmp_path).stdout)["key"])
    with Served(tmp_path, "sim:instant", "--name", "m", "--set", "server.api_keys=on") as server:
        with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as http:
            path = "/freehold/workers/worker-1/steps"
            assert http.get(path).status_code == 401
            http.headers["authorization"] = f"Bearer {key}"
            assert http.get(path).json() == {"worker": "worker-1", "steps": []}
            body = {"model": "m", "prompt": "Hello there.", "max_tokens": 8, "ignore_eos": True}
            usage = http.post("/v1/completions", json=body).json()["usage"]
            steps = http.get(path).json()["steps"]
            assert sum(step["prefill_tokens"] for step in steps) == usage["prompt_tokens"]
            assert sum(step["tokens"] for step in steps) == usage["completion_tokens"] == 8
            assert steps[0]["gap_ms"] is None
            assert all(step["gap_ms"] >= 0 and step["step_ms"] >= 0 for step in steps[1:])
            assert {step["running"] for step in steps if step["tokens"]} == {1}
            assert http.get(path, params={"last": 3}).json()["steps"] == steps[-3:]
            refused = http.get("/freehold/workers/worker-9/steps")
            assert (refused.status_code, "worker-1" in refused.text) == (404, True)
            for last in (0, 5000, "all"):
                assert http.get(path, params={"last": last}).json()["error"]["param"] == "last"
            assert 'freehold_kv_usage_ratio{worker="worker-1"}' in http.get("/metrics").text
            assert http.get("/freehold/workers").json()["workers"][0]["kv_usage"] == 0.0
        environ = {"env": {**server.environ, "FREEHOLD_API_KEY": key, "COLUMNS": "120"}}
        shown = subprocess.run(
            [*FREEHOLD, "workers", "--url", server.url, "--steps", "worker-1", "--last", "3"],
            capture_output=True, text=True, check=True, **environ,
        ).stdout  # fmt: skip
        assert "tokens read" in shown
        assert "3 steps" in shown
        told = subprocess.run(
            [*FREEHOLD, "workers", "--url", server.url, "--steps", "worker-1", "--json"],
            capture_output=True, text=True, check=True, **environ,
        ).stdout  # fmt: skip
        assert last_json(told)["steps"] == steps


def test_two_servers_share_a_home_on_different_ports(tmp_path: Path) -> None:
    with Served(tmp_path, "sim:instant", "--name", "one") as one:
        command = [*FREEHOLD, "serve", "sim:instant", "--name", "two", "--port", str(free_port()), "--json"]
        two = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=one.environ, text=True)
        try:
            assert two.stdout is not None
            told = json.loads(two.stdout.readline())
            assert told["state"] == "serving"
            assert get(f"{told['url']}/v1/models").json()["data"][0]["id"] == "two"
            assert get(f"{one.url}/v1/models").json()["data"][0]["id"] == "one"
        finally:
            two.terminate()
            two.communicate(timeout=30)


def test_config_doctor_and_keys_speak_json(tmp_path: Path) -> None:
    settings = last_json(freehold("config", "--set", "server.port=9", "--json", home=tmp_path).stdout)
    assert settings["home"] == str(tmp_path)
    rows = {row["name"]: row for row in settings["settings"]}  # type: ignore[attr-defined]
    assert (rows["server.port"]["value"], rows["server.port"]["source"]) == (9, "flag")
    wrong = freehold("config", "--set", "server.prot=9", home=tmp_path)
    assert (wrong.returncode, "server.port" in wrong.stderr) == (3, True)
    told = last_json(freehold("doctor", "--quick", "--json", home=tmp_path).stdout)
    assert {check["name"] for check in told["checks"]} >= {"cpu", "memory", "home", "engine openvino"}  # type: ignore[attr-defined]
    made = last_json(freehold("keys", "add", "alice", "--json", home=tmp_path).stdout)
    assert str(made["key"]).startswith("fh-")
    assert str(made["key"]) not in (tmp_path / "keys.json").read_text()
    listed = freehold("keys", "list", home=tmp_path).stdout
    assert "alice" in listed
    assert str(made["key"]) not in listed
    assert last_json(freehold("keys", "revoke", "alice", "--json", home=tmp_path).stdout)["revoked"] == made["id"]
    assert "No keys" in freehold("keys", "list", home=tmp_path).stdout


def test_a_key_is_asked_for_and_revoked_at_once(tmp_path: Path) -> None:
    key = str(last_json(freehold("keys", "add", "bob", "--json", home=tmp_path).stdout)["key"])
    with Served(tmp_path, "sim:instant", "--set", "server.api_keys=on") as server:
        url = f"{server.url}/v1/models"
        assert get(url).status_code == 401
        assert httpx.get(url, headers={"Authorization": f"Bearer {key}"}, trust_env=False).status_code == 200
        freehold("keys", "revoke", "bob", home=tmp_path)
        assert httpx.get(url, headers={"Authorization": f"Bearer {key}"}, trust_env=False).status_code == 401
    assert key not in server.log.read_text()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
