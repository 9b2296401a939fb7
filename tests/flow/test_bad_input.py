"""What strangers may send: every time a clear 4xx or a closed connection, never a 500, never a lost worker."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from server import Server

CHAT = "/v1/chat/completions"
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
ASK = [{"role": "user", "content": "hi"}]


@pytest.fixture(autouse=True)
def unharmed(sim: Server) -> Iterator[None]:
    """After each test the same worker is there, idle, and nothing has failed inside."""
    before = [(row["pid"], row["restarts"]) for row in sim.worker_rows()]
    yield
    assert [(row["pid"], row["restarts"]) for row in sim.worker_rows()] == before
    assert "gateway.bug" not in sim.gateway_log()
    assert "task_failed" not in sim.gateway_log()


def refused(reply: httpx.Response, status: int = 400) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    error: dict[str, Any] = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"].endswith(".") or error["message"].endswith("?")
    assert reply.headers["x-request-id"]
    return error


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b"\xff\xfe\x00",
        b'{"messages": "\xff"}',
        b"[" * 100_000,
        b"{}",
        b"\x00" * 64,
    ],
    ids=range(11),
)
@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/embeddings", "/v1/responses", "/generate"])
def test_what_is_no_request(http: httpx.Client, path: str, body: bytes) -> None:
    refused(http.post(path, content=body, headers={"content-type": "application/json"}))


@pytest.mark.parametrize(
    ("param", "change"),
    [
        ("messages", {"messages": "hello"}),
        ("messages", {"messages": []}),
        ("messages[0]", {"messages": [5]}),
        ("messages[0].role", {"messages": [{"role": "nobody", "content": "x"}]}),
        ("messages[0].content", {"messages": [{"role": "user"}]}),
        ("messages[0].content", {"messages": [{"role": "user", "content": 5}]}),
        ("messages[0].content[0].type", {"messages": [{"role": "user", "content": [IMAGE]}]}),
        ("temperature", {"temperature": "hot"}),
        ("temperature", {"temperature": 2.5}),
        ("temperature", {"temperature": -1}),
        ("top_p", {"top_p": 0}),
        ("max_tokens", {"max_tokens": 0}),
        ("max_tokens", {"max_tokens": 1.5}),
        ("max_tokens", {"max_tokens": 10**9}),
        ("max_tokens", {"max_tokens": 5, "max_completion_tokens": 6}),
        ("n", {"n": 1000}),
        ("n", {"n": 0}),
        ("seed", {"seed": "lucky"}),
        ("stop", {"stop": 5}),
        ("stop[0]", {"stop": [""]}),
        ("stop", {"stop": ["a"] * 100}),
        ("logit_bias", {"logit_bias": [1]}),
        ("logit_bias.word", {"logit_bias": {"word": 1}}),
        ("top_logprobs", {"top_logprobs": 3}),
        ("stream_options", {"stream_options": {"include_usage": True}}),
        ("response_format.type", {"response_format": {"type": "yaml"}}),
        ("response_format.json_schema", {"response_format": {"type": "json_schema"}}),
        ("tools[0].type", {"tools": [{"type": "web_search"}]}),
        ("tool_choice", {"tool_choice": "required"}),
        ("temprature", {"temprature": 1}),
        ("audio", {"audio": {"voice": "alloy"}}),
        ("functions", {"functions": []}),
        ("web_search_options", {"web_search_options": {}}),
        ("prediction", {"prediction": {"type": "content", "content": "x"}}),
        ("reasoning_effort", {"reasoning_effort": "high"}),
        ("service_tier", {"service_tier": "flex"}),
        ("modalities", {"modalities": ["text", "audio"]}),
        ("store", {"store": True}),
        ("chat_template_kwargs", {"chat_template_kwargs": {"big": 10**40}}),
    ],
)  # fmt: skip
def test_the_field_is_named(http: httpx.Client, param: str, change: dict[str, Any]) -> None:
    error = refused(http.post(CHAT, json={"messages": ASK, "max_tokens": 2, **change}))
    assert error["param"] == param


def test_unknown_field_names_the_nearest(http: httpx.Client) -> None:
    assert "'temperature'" in refused(http.post(CHAT, json={"messages": ASK, "temprature": 1}))["message"]


def test_null_means_left_out(http: httpx.Client) -> None:
    names = (
        "audio",
        "functions",
        "temperature",
        "stop",
        "seed",
        "tools",
        "response_format",
        "stream",
        "n",
        "logit_bias",
    )
    assert http.post(CHAT, json={"messages": ASK, "max_tokens": 2, **dict.fromkeys(names)}).status_code == 200


def test_unknown_routes_and_methods(http: httpx.Client) -> None:
    refused(http.get("/v1/nothing"), 404)
    refused(http.get("/generate/gen-nothing"), 404)
    reply = http.get(CHAT)
    refused(reply, 405)
    assert reply.headers["allow"] == "POST"


def test_ten_megabytes(http: httpx.Client) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "x" * 10_000_000}]})
    refused(http.post(CHAT, content=body), 413)
    refused(http.post(CHAT, content=(body[at : at + 65536].encode() for at in range(0, len(body), 65536))), 413)


def test_ten_megabytes_are_not_asked_for(sim: Server) -> None:
    """A client that asks before it sends (curl does) is refused without sending."""
    with connected(sim) as wire:
        wire.sendall(head("content-length: 10000000", "expect: 100-continue"))
        assert wire.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_prompt_longer_than_the_context(http: httpx.Client) -> None:
    for stream in (False, True):
        reply = http.post(CHAT, json={"messages": [{"role": "user", "content": "a b " * 400_000}], "stream": stream})
        assert refused(reply)["code"] == "context_length_exceeded"


def test_foreign_host(http: httpx.Client) -> None:
    refused(http.get("/v1/models", headers={"host": "evil.example"}), 421)
    refused(http.post(CHAT, json={"messages": ASK}, headers={"host": "evil.example:8000"}), 421)
    assert http.get("/v1/models", headers={"host": "localhost:1"}).status_code == 200


NO_HTTP = {
    "words": b"GARBAGE\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00",
    "version": b"GET / HTTP/9.9\r\n\r\n",
    "length": b"POST /generate HTTP/1.1\r\ncontent-length: x\r\n\r\n",
}


@pytest.mark.parametrize("wild", NO_HTTP.values(), ids=NO_HTTP)
def test_what_is_no_http(sim: Server, wild: bytes) -> None:
    with connected(sim) as wire:
        wire.sendall(wild)
        answer = read_all(wire)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b'"error"' in answer


def test_endless_headers(sim: Server) -> None:
    with connected(sim) as wire:
        wire.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n")
        answer = b""
        for _ in range(200):
            try:
                wire.sendall(b"x-filler: " + b"a" * 4096 + b"\r\n")
            except OSError:
                break
        try:
            answer = read_all(wire)
        except OSError:
            return
        assert not answer or answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))


@pytest.mark.parametrize(
    "sent", [b"", b"POST /generate HT", b"POST /generate HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99\r\n\r\n{"]
)
def test_slow_loris(tmp_path: Any, sent: bytes) -> None:
    with Server(tmp_path, flags={"server.body_timeout_s": 0.3}, workers=0) as server, connected(server) as wire:
        wire.sendall(sent)
        answer = read_all(wire)
        assert answer.startswith(b"HTTP/1.1 408 ") if sent else answer == b""


@pytest.mark.parametrize("stream", [True, False])
def test_client_vanishes(slow: Server, stream: bool) -> None:
    """The work stops when nobody waits for it any more."""
    body = json.dumps({"messages": ASK, "max_tokens": 4000, "ignore_eos": True, "stream": stream}).encode()
    with connected(slow) as wire:
        wire.sendall(head(f"content-length: {len(body)}") + body)
        if stream:
            assert wire.recv(65536).startswith(b"HTTP/1.1 200 ")
        until(lambda: sum(row["running"] for row in slow.worker_rows()) == 1)
    until(lambda: sum(row["running"] for row in slow.worker_rows()) == 0)


def test_client_vanishes_while_it_waits_or_sends(sim: Server, http: httpx.Client) -> None:
    for sent in (b"", b"POST ", head("content-length: 100000") + b'{"messages"'):
        with connected(sim) as wire:
            wire.sendall(sent)
    assert http.post(CHAT, json={"messages": ASK, "max_tokens": 2}).status_code == 200


def head(*lines: str) -> bytes:
    return "\r\n".join(
        [f"POST {CHAT} HTTP/1.1", "host: localhost", "content-type: application/json", *lines, "", ""]
    ).encode()


def connected(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def read_all(wire: socket.socket) -> bytes:
    found = b""
    while part := wire.recv(65536):
        found += part
    return found


def until(holds: Callable[[], bool], patience_s: float = 30.0) -> None:
    end_s = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < end_s, "it never came true"
        time.sleep(0.02)
