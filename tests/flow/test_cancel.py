"""A request that nobody wants any more takes no place, whatever state it is in."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from freehold.ledger.protocol import Entry
from freehold.ledger.sqlite import SqliteLedger
from server import Server
from stream import until

CHAT = "/v1/chat/completions"
MODEL = "sim:llama-125m-openvino-2core"


def body(words: int = 1, tokens: int = 900, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "word " * words}]
    return {"messages": messages, "max_tokens": tokens, "ignore_eos": True, "stream": True, **more}


@pytest.fixture(scope="module")
def one_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that answers one request at a time."""
    with Server(tmp_path_factory.mktemp("one"), model=MODEL, spec={"max_batch": 1}) as server:
        yield server


def ask(server: Server, told: dict[str, Any]) -> socket.socket:
    """Sent, and nothing read."""
    wire = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    data = json.dumps(told).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    wire.sendall(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
    return wire


def running(server: Server) -> int:
    return sum(row["running"] for row in server.worker_rows())


def newest(server: Server) -> Entry:
    with closing(SqliteLedger(Path(server.folder) / "ledger.sqlite")) as ledger:
        return ledger.list_jobs(limit=1)[0]


def free_again(server: Server) -> None:
    """Nothing runs, nothing waits, and the place serves the next one."""
    until(lambda: running(server) == 0)
    with closing(SqliteLedger(Path(server.folder) / "ledger.sqlite")) as ledger:
        until(lambda: ledger.depth().queued == ledger.depth().running == 0)
        assert ledger.check_integrity() == []
    reply = httpx.post(server.url + CHAT, json=body(tokens=2, stream=False), timeout=60, trust_env=False)
    assert reply.json()["usage"]["completion_tokens"] == 2


def test_vanished_while_decoding(one_place: Server) -> None:
    with ask(one_place, body()) as wire:
        assert b"200 OK" in wire.recv(65536)
    until(lambda: newest(one_place).state == "done")
    result = newest(one_place).result
    assert result is not None
    assert result.cancelled
    assert result.usage.completion_tokens < 900
    free_again(one_place)


def test_vanished_while_its_prompt_is_read(one_place: Server) -> None:
    with ask(one_place, body(words=700)):
        until(lambda: running(one_place) == 1)
    free_again(one_place)


def test_vanished_while_it_waits(one_place: Server) -> None:
    with ask(one_place, body()) as first:
        assert b"200 OK" in first.recv(65536)
        with ask(one_place, body()):
            until(lambda: newest(one_place).state == "queued")
        until(lambda: newest(one_place).state == "done")
        result = newest(one_place).result
        assert result is not None
        assert result.cancelled
        assert running(one_place) == 1, "the other one goes on"
    free_again(one_place)


def test_a_background_response_is_cancelled_by_its_id(one_place: Server) -> None:
    with httpx.Client(base_url=one_place.url, timeout=60, trust_env=False) as http:
        asked = {"input": "hi", "background": True, "max_output_tokens": 900, "ignore_eos": True}
        ids = [http.post("/v1/responses", json=asked).json()["id"] for _ in range(2)]
        until(lambda: running(one_place) == 1)
        for id in reversed(ids):  # the one that waits, then the one that runs
            assert http.post(f"/v1/responses/{id}/cancel").json()["status"] == "cancelled"
    free_again(one_place)


def test_a_generation_is_cancelled_by_its_id(one_place: Server) -> None:
    with httpx.Client(base_url=one_place.url, timeout=60, trust_env=False) as http:
        asked = {"prompt": "hello", "max_tokens": 900, "ignore_eos": True, "mode": "async"}
        id = http.post("/generate", json=asked).json()["id"]
        until(lambda: running(one_place) == 1)
        assert http.delete(f"/generate/{id}").json()["status"] == "cancelled"
    free_again(one_place)


def test_many_vanish_at_once_and_every_place_is_free(tmp_path: Path) -> None:
    with Server(tmp_path, model=MODEL, workers=1) as server:
        wires = [ask(server, body()) for _ in range(24)]
        until(lambda: running(server) > 4)
        for wire in wires:
            wire.close()
        free_again(server)
