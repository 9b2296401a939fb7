"""Files and batches through OpenAI's own client: answered line by line, also when gateways are killed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import msgspec
import openai
import pytest
from openai.types import Batch

from freehold.gateway.auth import add
from freehold.gateway.batches.batch import batch_of, encode
from freehold.ledger.sqlite import SqliteLedger
from server import Server, openai_client
from stream import until

CHAT = "/v1/chat/completions"
ENDED = ("completed", "failed", "expired", "cancelled")


def chat(number: int, **more: Any) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": f"Tell me of harbour {number}."}], "max_tokens": 8, **more}
    return {"custom_id": f"line {number}", "method": "POST", "url": CHAT, "body": body}


def jsonl(*lines: object) -> bytes:
    return b"\n".join(json.dumps(line).encode() for line in lines)


def begin(client: openai.OpenAI, data: bytes, endpoint: Any = CHAT, **more: Any) -> Batch:
    file = client.files.create(file=("asks.jsonl", data), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **more)


def end(client: openai.OpenAI, batch: Batch) -> Batch:
    until(lambda: client.batches.retrieve(batch.id).status in ENDED)
    return client.batches.retrieve(batch.id)


def rows(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]


class Tenants:
    """One server and two keys."""

    def __init__(self, folder: Path) -> None:
        tokens = [add(folder, name)[1] for name in ("ada", "bob")]
        flags = {
            "server.api_keys": "on",
            "server.max_file_mb": 1,
            "server.max_files_mb": 4,
            "server.max_batch_lines": 300,
        }
        self.server = Server(folder, flags=flags)
        self.ada, self.bob = (openai_client(self.server, token) for token in tokens)


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    folder = tmp_path_factory.mktemp("batches")
    tenants = Tenants(folder)
    with tenants.server, tenants.ada, tenants.bob:
        yield tenants


def test_a_file_in_and_files_out(tenants: Tenants) -> None:
    client = tenants.ada
    data = jsonl(chat(0), chat(1, temperature=9), chat(2), chat(3, stream=True), chat(4, model="nobody"))
    batch = begin(client, data, metadata={"for": "test"})
    assert (batch.status, batch.metadata) == ("validating", {"for": "test"})
    assert client.files.content(batch.input_file_id).content == data
    batch = end(client, batch)
    counts = batch.request_counts
    assert counts is not None
    assert (batch.status, counts.total, counts.completed, counts.failed) == ("completed", 5, 2, 3)
    answers = rows(client, batch.output_file_id)
    assert [row["custom_id"] for row in answers] == ["line 0", "line 2"]
    assert answers[0]["response"]["status_code"] == 200
    assert answers[0]["response"]["body"]["choices"][0]["message"]["content"]
    wrong = {row["custom_id"]: row["response"]["body"]["error"] for row in rows(client, batch.error_file_id)}
    assert {name: error["param"] for name, error in wrong.items()} == {
        "line 1": "temperature", "line 3": "stream", "line 4": "model",
    }  # fmt: skip
    assert httpx.get(f"{tenants.server.url}/metrics", headers={"authorization": f"Bearer {client.api_key}"}).is_success


@pytest.mark.parametrize(
    ("endpoint", "body", "told"),
    [
        ("/v1/completions", {"prompt": ["One", "Two"], "max_tokens": 4}, "text_completion"),
        ("/v1/responses", {"input": "Hello.", "max_output_tokens": 16}, "response"),
        ("/v1/embeddings", {"input": ["One", "Two"]}, "list"),
    ],
)
def test_every_endpoint(tenants: Tenants, endpoint: str, body: dict[str, Any], told: str) -> None:
    lines = [{"custom_id": str(i), "method": "POST", "url": endpoint, "body": body} for i in range(2)]
    batch = end(tenants.ada, begin(tenants.ada, jsonl(*lines), endpoint))
    got = rows(tenants.ada, batch.output_file_id)
    assert [row["response"]["body"]["object"] for row in got] == [told, told]


def test_what_is_wrong_is_told_by_line(tenants: Tenants) -> None:
    good = chat(1)
    data = b"\n".join(
        [jsonl(good), b"", b"{not json", jsonl(good), jsonl({**chat(2), "url": "/v1/embeddings"}),
         jsonl({**chat(3), "method": "GET"}), jsonl({**chat(4), "body": []}), jsonl({"custom_id": "x"})]
    )  # fmt: skip
    batch = end(tenants.ada, begin(tenants.ada, data))
    assert batch.status == "failed"
    assert batch.errors is not None
    assert [(error.line, error.code, error.param) for error in batch.errors.data or ()] == [
        (3, "invalid_json_line", None),
        (4, "duplicate_custom_id", "custom_id"),
        (5, "mismatched_endpoint", "url"),
        (6, "invalid_method", "method"),
        (7, "invalid_type", "body"),
        (8, "missing_required_parameter", "method"),
    ]
    too_many = end(tenants.ada, begin(tenants.ada, jsonl(*(chat(number) for number in range(301)))))
    assert too_many.errors is not None
    assert [(error.line, error.code) for error in too_many.errors.data or ()] == [(301, "too_many_lines")]


def test_nobody_sees_what_is_another_s(tenants: Tenants) -> None:
    batch = end(tenants.ada, begin(tenants.ada, jsonl(chat(0))))
    assert batch.output_file_id is not None
    calls = [
        lambda: tenants.bob.files.retrieve(batch.output_file_id or ""),
        lambda: tenants.bob.files.content(batch.input_file_id),
        lambda: tenants.bob.files.delete(batch.input_file_id),
        lambda: tenants.bob.batches.retrieve(batch.id),
        lambda: tenants.bob.batches.cancel(batch.id),
        lambda: tenants.bob.batches.create(
            input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h"
        ),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(openai.NotFoundError):
            call()
    assert list(tenants.bob.files.list()) == list(tenants.bob.batches.list()) == []


def test_pages_and_deletion(tenants: Tenants) -> None:
    client = tenants.bob
    made = [client.files.create(file=(f"{i}.jsonl", jsonl(chat(i))), purpose="batch").id for i in range(3)]
    assert [file.id for file in client.files.list(limit=2)] == made[::-1]
    assert [file.id for file in client.files.list(limit=2, order="asc", purpose="batch")] == made
    assert list(client.files.list(purpose="batch_output")) == []
    for id in made:
        assert client.files.delete(id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(made[0])
    with pytest.raises(openai.NotFoundError):
        client.files.list(after=made[0])


def test_what_is_too_large_is_refused(tenants: Tenants) -> None:
    client = tenants.bob
    with pytest.raises(openai.APIStatusError, match="max_file_mb") as large:
        client.files.create(file=("a", b"x" * ((1 << 20) + 1)), purpose="batch")
    assert large.value.status_code == 413
    kept = [client.files.create(file=("a", b"x" * (1 << 20)), purpose="batch").id for _ in range(3)]
    with pytest.raises(openai.APIStatusError, match="max_files_mb") as full:
        client.files.create(file=("a", b"x" * (1 << 20)), purpose="batch")
    assert full.value.status_code == 507
    for id in kept:
        client.files.delete(id)
    with pytest.raises(openai.BadRequestError, match="purpose"):
        client.files.create(file=("a", b"x"), purpose="vision")
    with pytest.raises(openai.BadRequestError, match="expires_after"):
        client.files.create(file=("a", b"x"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 1})
    assert list(client.files.list()) == []


@pytest.fixture
def slow_batch(slow: Server) -> Iterator[tuple[openai.OpenAI, Batch]]:
    """One that takes its time, with some lines answered."""
    with openai_client(slow) as client:
        batch = begin(client, jsonl(*(chat(number, max_tokens=40, ignore_eos=True) for number in range(200))))
        until(lambda: (client.batches.retrieve(batch.id).request_counts or Counts).completed > 0)
        yield client, batch


class Counts:
    completed = 0


def test_a_cancelled_batch_keeps_what_was_answered(slow: Server, slow_batch: tuple[openai.OpenAI, Batch]) -> None:
    client, batch = slow_batch
    assert client.batches.cancel(batch.id).status == "cancelling"
    batch = end(client, batch)
    assert batch.status == "cancelled"
    assert batch.request_counts is not None
    assert 0 < batch.request_counts.completed < 200
    assert len(rows(client, batch.output_file_id)) == batch.request_counts.completed
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)
    until(lambda: not any(row["running"] for row in slow.worker_rows()))


def test_a_batch_whose_window_is_over_tells_of_every_line(
    slow: Server, slow_batch: tuple[openai.OpenAI, Batch]
) -> None:
    client, batch = slow_batch
    with closing(SqliteLedger(slow.folder / "ledger.sqlite")) as ledger:
        while True:
            folder = ledger.folder(batch.id)
            assert folder is not None
            over = msgspec.structs.replace(batch_of(folder), expires_unix_s=1.0)
            if ledger.put_folder(msgspec.structs.replace(folder, label=encode(over))):
                break
    batch = end(client, batch)
    assert batch.status == "expired"
    good, bad = rows(client, batch.output_file_id), rows(client, batch.error_file_id)
    assert {row["error"]["code"] for row in bad} == {"batch_expired"}
    assert Counter(row["custom_id"] for row in good + bad) == Counter(f"line {number}" for number in range(200))


def test_a_killed_gateway_s_batch_is_gone_on_with_and_no_line_is_asked_twice(tmp_path: Path) -> None:
    lines = 60
    with Server(tmp_path, model="sim:llama-125m-openvino-2core") as server, openai_client(server) as client:
        batch = begin(client, jsonl(*(chat(number, max_tokens=16, ignore_eos=True) for number in range(lines))))
        until(lambda: (client.batches.retrieve(batch.id).request_counts or Counts).completed > 0)
        assert server.gateway is not None
        server.gateway.kill()
        server.start_gateway()
        batch = end(client, batch)
        assert batch.status == "completed"
        got = rows(client, batch.output_file_id)
        assert [row["custom_id"] for row in got] == [f"line {number}" for number in range(lines)]
        assert {row["response"]["body"]["usage"]["completion_tokens"] for row in got} == {16}
        until(lambda: server.worker_rows()[0]["tokens"] >= lines * 16)
        assert server.worker_rows()[0]["tokens"] == lines * 16
        assert "gateway.bug" not in server.gateway_log()
