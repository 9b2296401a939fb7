"""Workers and gateways really killed in the middle of answers: the streams go on as if nothing were."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from server import Server, openai_client
from stream import ASK, Stream, until, whole, worker_of

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
MODEL = "sim:llama-125m-openvino-2core"
LONG = {**ASK, "max_tokens": 80, "ignore_eos": True, "seed": 7}
BODIES: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {**LONG, "temperature": 0}),
    (CHAT, {**LONG, "temperature": 1.2, "stop": ["zzz"], "frequency_penalty": 0.5}),
    (TEXT, {"prompt": "The harbour", "max_tokens": 80, "ignore_eos": True, "seed": 3, "stream": True, "logprobs": 1}),
]


@pytest.fixture
def two(tmp_path: Path) -> Any:
    with Server(tmp_path, model=MODEL, workers=2) as server:
        yield server


@pytest.mark.parametrize(("path", "body"), BODIES)
def test_a_worker_killed_in_the_middle_is_not_noticed(two: Server, path: str, body: dict[str, Any]) -> None:
    undisturbed = whole(two, path, body)
    stream = Stream()
    with stream.reading(two, path, body):
        stream.take(6)
        two.workers[worker_of(two)].kill()
        stream.rest()
    assert stream.error is None
    assert stream.done
    assert stream.text == undisturbed.text
    assert (stream.finish, len(stream.events)) == (undisturbed.finish, len(undisturbed.events))


def test_a_stopped_worker_loses_its_lease_and_its_late_words_count_no_more(two: Server) -> None:
    body = BODIES[0][1]
    undisturbed = whole(two, CHAT, body)
    stream = Stream()
    with stream.reading(two, CHAT, body):
        stream.take(6)
        stopped = two.workers[worker_of(two)].process.pid
        os.kill(stopped, signal.SIGSTOP)
        try:
            stream.take(40)
        finally:
            os.kill(stopped, signal.SIGCONT)
        stream.rest()
    assert stream.text == undisturbed.text
    assert stream.done


def test_a_request_that_kills_every_worker_is_poison(tmp_path: Path) -> None:
    with Server(tmp_path, model=MODEL, workers=1) as server:
        stream = Stream()
        with stream.reading(server, CHAT, {**LONG, "max_tokens": 2000}):
            for _ in range(3):
                seen = len(stream.events)
                stream.take(3)
                server.workers[-1].kill()
                until(lambda: not server.worker_rows())
                server.start_worker().until_ready()
                assert len(stream.events) > seen
            stream.rest()
        assert stream.error["code"] == "poisoned"
        assert httpx.post(server.url + CHAT, json={**LONG, "stream": False}, trust_env=False, timeout=60).is_success


@pytest.mark.parametrize(("path", "body"), BODIES)
@pytest.mark.parametrize("again", ["post", "get"])
def test_a_killed_gateway_s_stream_is_resumed(tmp_path: Path, path: str, body: dict[str, Any], again: str) -> None:
    with Server(tmp_path, model=MODEL, workers=1) as server:
        undisturbed = whole(server, path, body)
        stream = Stream()
        with stream.reading(server, path, body):
            stream.take(6)
            assert server.gateway is not None
            server.gateway.kill()
            stream.until_cut()
        server.start_gateway()
        resumed = (path, body) if again == "post" else (f"/v1/streams/{stream.last_id.split('/')[0]}", None)
        with stream.reading(server, *resumed, **{"last-event-id": stream.last_id}):
            stream.rest()
        assert stream.done
        assert stream.text == undisturbed.text
        assert len(stream.events) == len(undisturbed.events)


def test_gateway_and_worker_both_killed(tmp_path: Path) -> None:
    body = {**BODIES[0][1], "n": 2}
    with Server(tmp_path, model=MODEL, workers=1) as server:
        undisturbed = whole(server, CHAT, body)
        stream = Stream()
        with stream.reading(server, CHAT, body):
            stream.take(9)
            assert server.gateway is not None
            server.workers[0].kill()
            server.gateway.kill()
            stream.until_cut()
        server.start_gateway()
        server.start_worker().until_ready()
        with stream.reading(server, CHAT, body, **{"last-event-id": stream.last_id}):
            stream.rest()
        assert stream.texts(2) == undisturbed.texts(2)
        assert stream.done


def test_the_openai_client_resumes_a_response(tmp_path: Path) -> None:
    asked: Any = {"input": "Tell me of the harbour.", "max_output_tokens": 80, "model": "tester"}
    more = {"ignore_eos": True, "seed": 7}
    with Server(tmp_path, model=MODEL, workers=1) as server, openai_client(server) as client:
        undisturbed = client.responses.create(**asked, extra_body=more).output_text
        text, id, last = "", "", -1
        with pytest.raises(Exception), client.responses.create(**asked, stream=True, extra_body=more) as events:  # noqa: B017, PT012
            for event in events:
                last = event.sequence_number
                if event.type == "response.created":
                    id = event.response.id
                if event.type == "response.output_text.delta":
                    text += event.delta
                    if len(text) > 60 and server.gateway is not None and server.gateway.process.poll() is None:
                        server.gateway.kill()
        server.start_gateway()
        ended = False
        for event in client.responses.retrieve(id, stream=True, starting_after=last):
            assert event.sequence_number > last
            last = event.sequence_number
            if event.type == "response.output_text.delta":
                text += event.delta
            ended = ended or event.type in ("response.completed", "response.incomplete")
        assert ended
        assert text == undisturbed


def test_the_same_key_is_the_same_request(tmp_path: Path) -> None:
    body = {**LONG, "stream": False}
    key = {"idempotency-key": "once"}
    with (
        Server(tmp_path, model=MODEL, workers=1) as server,
        httpx.Client(base_url=server.url, timeout=60, trust_env=False) as http,
    ):
        first = http.post(CHAT, json=body, headers=key).json()
        again = http.post(CHAT, json=body, headers=key).json()
        assert (again["id"], again["choices"]) == (first["id"], first["choices"])
        other = http.post(CHAT, json={**body, "max_tokens": 81}, headers=key)
        assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")
        stream = Stream()
        with stream.reading(server, CHAT, {**LONG, "max_tokens": 300}, **{"idempotency-key": "two"}):
            stream.take(4)
            assert server.gateway is not None
            server.gateway.kill()
        server.start_gateway()
        retried = Stream()
        with retried.reading(server, CHAT, {**LONG, "max_tokens": 300}, **{"idempotency-key": "two"}):
            retried.rest()
        assert retried.events[0]["id"] == stream.events[0]["id"]
        assert retried.text.startswith(stream.text)
        assert retried.done


def test_a_client_that_may_come_back(tmp_path: Path) -> None:
    body = {**LONG, "max_tokens": 120}
    with Server(tmp_path, model=MODEL, workers=1) as server:
        undisturbed = whole(server, CHAT, body)
        stream = Stream()
        with stream.reading(server, CHAT, body, **{"x-freehold-resumable-s": "60"}):
            stream.take(5)
        with stream.reading(server, CHAT, body, **{"last-event-id": stream.last_id}):
            stream.rest()
        assert stream.text == undisturbed.text
        gone = Stream()
        with gone.reading(server, CHAT, body):
            gone.take(5)
        until(lambda: not any(row["running"] for row in server.worker_rows()))
        reply = httpx.post(
            server.url + CHAT, json=body, headers={"last-event-id": gone.last_id}, trust_env=False, timeout=60
        )
        assert reply.status_code in (404, 409), reply.text
