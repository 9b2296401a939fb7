"""Workers and gateways really killed in the middle of answers: the streams go on as if nothing were."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
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


@pytest.fixture(scope="module")
def server_of_two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("two"), model=MODEL, workers=2) as server:
        yield server


@pytest.fixture(scope="module")
def server_of_one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("one"), model=MODEL, workers=1) as server:
        yield server


@pytest.fixture
def two(server_of_two: Server) -> Server:
    """Whole again, whatever the last test killed."""
    return mended(server_of_two, 2)


@pytest.fixture
def one(server_of_one: Server) -> Server:
    return mended(server_of_one, 1)


def mended(server: Server, workers: int) -> Server:
    assert server.gateway is not None
    if server.gateway.process.poll() is not None:
        server.start_gateway()
    while sum(worker.process.poll() is None for worker in server.workers) < workers:
        server.start_worker().until_ready()
    until(lambda: len(server.worker_rows()) == workers)
    server.wait_ready()
    return server


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


def test_a_request_that_kills_every_worker_is_poison(one: Server) -> None:
    stream = Stream()
    with stream.reading(one, CHAT, {**LONG, "max_tokens": 2000}):
        for _ in range(3):
            seen = len(stream.events)
            stream.take(3)
            one.workers[-1].kill()
            until(lambda: not one.worker_rows())
            one.start_worker().until_ready()
            assert len(stream.events) > seen
        stream.rest()
    assert stream.error["code"] == "poisoned"
    assert httpx.post(one.url + CHAT, json={**LONG, "stream": False}, trust_env=False, timeout=60).is_success


@pytest.mark.parametrize(("path", "body"), BODIES)
@pytest.mark.parametrize("again", ["post", "get"])
def test_a_killed_gateway_s_stream_is_resumed(one: Server, path: str, body: dict[str, Any], again: str) -> None:
    undisturbed = whole(one, path, body)
    stream = Stream()
    with stream.reading(one, path, body):
        stream.take(6)
        assert one.gateway is not None
        one.gateway.kill()
        stream.until_cut()
    one.start_gateway()
    resumed = (path, body) if again == "post" else (f"/v1/streams/{stream.last_id.split('/')[0]}", None)
    with stream.reading(one, *resumed, **{"last-event-id": stream.last_id}):
        stream.rest()
    assert stream.done
    assert stream.text == undisturbed.text
    assert len(stream.events) == len(undisturbed.events)


def test_gateway_and_worker_both_killed(one: Server) -> None:
    body = {**BODIES[0][1], "n": 2}
    undisturbed = whole(one, CHAT, body)
    stream = Stream()
    with stream.reading(one, CHAT, body):
        stream.take(9)
        assert one.gateway is not None
        one.workers[-1].kill()
        one.gateway.kill()
        stream.until_cut()
    one.start_gateway()
    one.start_worker().until_ready()
    with stream.reading(one, CHAT, body, **{"last-event-id": stream.last_id}):
        stream.rest()
    assert stream.texts(2) == undisturbed.texts(2)
    assert stream.done


def test_the_openai_client_resumes_a_response(one: Server) -> None:
    asked: Any = {"input": "Tell me of the harbour.", "max_output_tokens": 80, "model": "tester"}
    more = {"ignore_eos": True, "seed": 7}
    with openai_client(one) as client:
        undisturbed = client.responses.create(**asked, extra_body=more).output_text
        text, id, last = "", "", -1
        with pytest.raises(Exception), client.responses.create(**asked, stream=True, extra_body=more) as events:  # noqa: B017, PT012
            for event in events:
                last = event.sequence_number
                if event.type == "response.created":
                    id = event.response.id
                if event.type == "response.output_text.delta":
                    text += event.delta
                    if len(text) > 60 and one.gateway is not None and one.gateway.process.poll() is None:
                        one.gateway.kill()
        one.start_gateway()
        ended = False
        for event in client.responses.retrieve(id, stream=True, starting_after=last):
            assert event.sequence_number > last
            last = event.sequence_number
            if event.type == "response.output_text.delta":
                text += event.delta
            ended = ended or event.type in ("response.completed", "response.incomplete")
        assert ended
        assert text == undisturbed


def test_the_same_key_is_the_same_request(one: Server) -> None:
    body = {**LONG, "stream": False}
    key = {"idempotency-key": "once"}
    with httpx.Client(base_url=one.url, timeout=60, trust_env=False) as http:
        first = http.post(CHAT, json=body, headers=key).json()
        again = http.post(CHAT, json=body, headers=key).json()
        assert (again["id"], again["choices"]) == (first["id"], first["choices"])
        other = http.post(CHAT, json={**body, "max_tokens": 81}, headers=key)
        assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")
        stream = Stream()
        with stream.reading(one, CHAT, {**LONG, "max_tokens": 300}, **{"idempotency-key": "two"}):
            stream.take(4)
            assert one.gateway is not None
            one.gateway.kill()
        one.start_gateway()
        retried = Stream()
        with retried.reading(one, CHAT, {**LONG, "max_tokens": 300}, **{"idempotency-key": "two"}):
            retried.rest()
        assert retried.events[0]["id"] == stream.events[0]["id"]
        assert retried.text.startswith(stream.text)
        assert retried.done


def test_a_client_that_may_come_back(one: Server) -> None:
    body = {**LONG, "max_tokens": 120}
    undisturbed = whole(one, CHAT, body)
    stream = Stream()
    with stream.reading(one, CHAT, body, **{"x-freehold-resumable-s": "60"}):
        stream.take(5)
    with stream.reading(one, CHAT, body, **{"last-event-id": stream.last_id}):
        stream.rest()
    assert stream.text == undisturbed.text
    gone = Stream()
    with gone.reading(one, CHAT, body):
        gone.take(5)
    until(lambda: not any(row["running"] for row in one.worker_rows()))
    reply = httpx.post(one.url + CHAT, json=body, headers={"last-event-id": gone.last_id}, trust_env=False, timeout=60)
    assert reply.status_code in (404, 409), reply.text
