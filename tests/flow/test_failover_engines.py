"""The same with real engines and the starter: JSON that was cut in the middle is whole, and a greedy answer goes on."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from server import REAL, Server
from stream import Stream, whole, worker_of

CHAT = "/v1/chat/completions"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "words": {"type": "array", "items": {"type": "string", "maxLength": 12}, "minItems": 12, "maxItems": 14},
        "intent": {"enum": ["lost_card", "stolen_card", "lost_pin"]},
        "sure": {"type": "boolean"},
    },
    "required": ["words", "intent", "sure"],
    "additionalProperties": False,
}
ASK: dict[str, Any] = {
    "messages": [{"role": "user", "content": "I lost my card, what can I do?"}],
    "temperature": 0, "stream": True, "max_tokens": 300,
}  # fmt: skip
FORMAT = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}


@pytest.fixture(scope="module", params=REAL)
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Server(tmp_path_factory.mktemp("real"), request.param, "starter", workers=2, spec={"max_batch": 2}) as server:
        yield server


def cut(server: Server, body: dict[str, Any], after: int) -> Stream:
    """A stream whose worker is killed once it has told so much."""
    stream = Stream()
    with stream.reading(server, CHAT, body):
        stream.take(after)
        victim = worker_of(server)
        server.workers[victim].kill()
        stream.rest()
    server.start_worker().until_ready()
    return stream


def test_json_is_whole_after_a_kill(real: Server) -> None:
    stream = cut(real, {**ASK, "response_format": FORMAT}, 8)
    assert stream.error is None
    assert stream.finish == "stop"
    jsonschema.validate(json.loads(stream.text), SCHEMA)


def test_a_greedy_answer_goes_on(real: Server) -> None:
    body = {**ASK, "ignore_eos": True}
    undisturbed = whole(real, CHAT, body)
    stream = cut(real, body, 8)
    assert stream.error is None
    assert stream.finish == "length"
    shared = "".join(event["choices"][0]["delta"].get("content", "") for event in stream.events[:8])
    assert undisturbed.text.startswith(shared)
    assert stream.text.startswith(shared)
