"""What happens to answers when processes leave: by themselves, asked to, or killed."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from server import Server

CHAT = "/v1/chat/completions"
LONG: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "ignore_eos": True, "max_tokens": 60}
MODEL = "sim:llama-125m-openvino-2core"


def events(reply: httpx.Response) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in reply.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end_s, "it never came true"
        time.sleep(0.01)


def busy(server: Server) -> str:
    """Name of the worker that answers."""
    until(lambda: any(row["running"] for row in server.worker_rows()))
    return next(row["name"] for row in server.worker_rows() if row["running"])


def in_background(work: Callable[[], Any]) -> Callable[[], Any]:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()

    def result() -> Any:
        thread.join(60)
        assert found
        return found[0]

    return result


def test_an_answer_that_nobody_streams_goes_on_elsewhere(tmp_path: Path) -> None:
    with Server(tmp_path, model=MODEL, workers=2) as server:
        waiting = in_background(lambda: httpx.post(server.url + CHAT, json=LONG, timeout=60, trust_env=False))
        name = busy(server)
        server.workers[int(name[-1]) - 1].kill()
        reply = waiting()
        assert reply.status_code == 200, reply.text
        assert reply.json()["usage"]["completion_tokens"] == 60
        assert reply.headers["x-freehold-worker"] != name


def test_an_answer_without_a_worker_waits_for_one(tmp_path: Path) -> None:
    with Server(tmp_path, model=MODEL, workers=1) as server:
        with httpx.stream(
            "POST", server.url + CHAT, json={**LONG, "stream": True}, timeout=60, trust_env=False
        ) as reply:
            assert reply.status_code == 200
            server.workers[0].kill()
            until(lambda: httpx.get(f"{server.url}/readyz", trust_env=False).status_code == 503)
            server.start_worker().until_ready()
            told = events(reply)
        assert told[-1]["choices"][0]["finish_reason"] == "length"
        assert [each["choices"][0]["delta"].get("role") for each in told].count("assistant") == 1
        server.wait_ready()
        assert (
            httpx.post(server.url + CHAT, json={**LONG, "max_tokens": 2}, timeout=60, trust_env=False).status_code
            == 200
        )


def test_drain_answers_what_runs_and_refuses_the_new(tmp_path: Path) -> None:
    with Server(tmp_path, model=MODEL, workers=1) as server:
        assert server.gateway is not None
        with httpx.stream(
            "POST", server.url + CHAT, json={**LONG, "stream": True}, timeout=60, trust_env=False
        ) as reply:
            server.gateway.process.send_signal(signal.SIGTERM)
            until(lambda: httpx.get(f"{server.url}/readyz", trust_env=False).status_code == 503)
            refused = httpx.post(server.url + CHAT, json=LONG, timeout=60, trust_env=False)
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "unavailable"
            told = events(reply)
        assert told[-1]["choices"][0]["finish_reason"] == "length"
        assert server.gateway.process.wait(60) == 0


def test_second_signal_ends_at_once(tmp_path: Path) -> None:
    endless = {**LONG, "max_tokens": 20_000, "stream": True}
    with Server(tmp_path, model=MODEL, workers=1) as server:
        assert server.gateway is not None
        with httpx.stream("POST", server.url + CHAT, json=endless, timeout=60, trust_env=False) as reply:
            server.gateway.process.send_signal(signal.SIGTERM)
            until(lambda: httpx.get(f"{server.url}/readyz", trust_env=False).status_code == 503)
            server.gateway.process.send_signal(signal.SIGTERM)
            assert events(reply)[-1]["error"]["code"] == "unavailable"
        assert server.gateway.process.wait(60) == 0


def test_killed_gateway_is_replaced(tmp_path: Path) -> None:
    with Server(tmp_path, workers=1) as server:
        assert server.gateway is not None
        pid = server.worker_rows()[0]["pid"]
        server.gateway.kill()
        assert server.start_gateway()["state"] == "ready"
        server.wait_ready()
        assert server.worker_rows()[0]["pid"] == pid
        assert (
            httpx.post(server.url + CHAT, json={**LONG, "max_tokens": 2}, timeout=60, trust_env=False).status_code
            == 200
        )


def test_generate_later(sim: Server, http: httpx.Client) -> None:
    reply = http.post("/generate", json={"prompt": "hello", "max_tokens": 5, "mode": "async"})
    assert reply.status_code == 202
    id = reply.json()["id"]
    until(lambda: http.get(f"/generate/{id}").json()["status"] == "completed")
    told = http.get(f"/generate/{id}").json()
    assert told["text"]
    assert told["usage"]["completion_tokens"] == 5
    assert told["timings"]["tokens_per_s"] > 0
    assert http.delete(f"/generate/{id}").json()["status"] == "deleted"
    assert http.get(f"/generate/{id}").status_code == 404


def test_generate_later_and_cancel(slow: Server) -> None:
    with httpx.Client(base_url=slow.url, timeout=60, trust_env=False) as http:
        body = {"prompt": "hello", "max_tokens": 4000, "ignore_eos": True, "mode": "async"}
        id = http.post("/generate", json=body).json()["id"]
        assert http.delete(f"/generate/{id}").json()["status"] == "cancelled"
        until(lambda: sum(row["running"] for row in slow.worker_rows()) == 0)
        assert http.get(f"/generate/{id}").json()["status"] == "cancelled"


def test_pages_name_no_outside_address(sim: Server, http: httpx.Client) -> None:
    for path in ("/", "/docs"):
        reply = http.get(path)
        assert reply.status_code == 200
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert 'src="http' not in reply.text
        assert 'href="http' not in reply.text
        assert http.get(path, headers={"if-none-match": reply.headers["etag"]}).status_code == 304


@pytest.mark.parametrize("name", ["requests_total", "tokens_total", "queue_depth", "running", "workers"])
def test_metrics(sim: Server, http: httpx.Client, name: str) -> None:
    assert http.post("/generate", json={"prompt": "hello", "max_tokens": 3}).status_code == 200
    text = http.get("/metrics").text
    assert f"\nfreehold_{name}" in text
    assert 'freehold_time_to_first_token_seconds_bucket{le="0.05",model="tester",variant="tester@instant/sim"}' in text
    assert 'freehold_requests_total{model="tester",route="/generate",status="200"}' in text


def test_a_stop_tells_who_follows_a_background_answer(tmp_path: Path) -> None:
    body = {"input": "hi", "background": True, "stream": True, "max_output_tokens": 300, "ignore_eos": True}
    with Server(tmp_path, model=MODEL, workers=1) as server:
        assert server.gateway is not None
        with httpx.stream("POST", f"{server.url}/v1/responses", json=body, timeout=60, trust_env=False) as reply:
            assert reply.status_code == 200
            server.gateway.process.send_signal(signal.SIGTERM)
            until(lambda: httpx.get(f"{server.url}/readyz", trust_env=False).status_code == 503)
            server.gateway.process.send_signal(signal.SIGTERM)
            told = [json.loads(line[6:]) for line in reply.iter_lines() if line.startswith("data: ")]
        assert (told[-1]["type"], told[-1]["code"]) == ("error", "unavailable")
        assert told[-1]["sequence_number"] == told[-2]["sequence_number"]
        assert server.gateway.process.wait(60) == 0


@pytest.mark.parametrize("origins", ["*", "http://page.example"])
def test_another_site_that_may(tmp_path: Path, origins: str) -> None:
    site = {"origin": "http://page.example"}
    with Server(tmp_path, flags={"server.cors_origins": [origins]}) as server:
        asked = {**site, "access-control-request-method": "POST"}
        reply = httpx.options(server.url + CHAT, headers=asked, trust_env=False)
        assert reply.status_code == 200
        assert reply.headers["x-request-id"]
        reply = httpx.post(server.url + CHAT, headers=site, json={**LONG, "max_tokens": 2}, trust_env=False)
        assert reply.status_code == 200
        assert len(reply.headers.get_list("x-request-id")) == 1


def test_prompts_that_could_never_wait_are_refused_for_good(tmp_path: Path) -> None:
    with Server(tmp_path, flags={"server.max_queue": 2}) as server:
        reply = httpx.post(f"{server.url}/v1/completions", json={"prompt": ["a"] * 3}, trust_env=False)
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "prompt")
        assert httpx.get(f"{server.url}/v1/models/", trust_env=False).status_code == 404
