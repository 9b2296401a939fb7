"""From a stranger's JSON to our noun: what is honoured, what is refused, and in which words."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.core import ModelCard, Request, Sampling
from freehold.errors import FreeholdError, InvalidRequest, UnsupportedParameter
from freehold.gateway.call import Call, new_id, request_id
from freehold.gateway.wire_chat import ChatRequest, chat_request
from freehold.gateway.wire_errors import parse
from freehold.gateway.wire_text import CompletionRequest, GenerateRequest, completion_requests, generate_request
from freehold.settings import ServerConfig

CARD = ModelCard(name="m", engine="sim", source="", context_tokens=99, max_batch=4, tools="hermes", max_top_logprobs=5)
HI = [{"role": "user", "content": "hi"}]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def chat(card: ModelCard = CARD, server: ServerConfig | None = None, **fields: Any) -> Request:
    body = parse(ChatRequest, json.dumps({"messages": HI, **fields}).encode())
    return chat_request(body, card, Call("req_1"), server or ServerConfig())[0]


def test_sampling() -> None:
    asked: dict[str, Any] = {
        "temperature": 0, "top_p": 0.5, "top_k": 7, "min_p": 0.1, "presence_penalty": 1, "frequency_penalty": -1,
        "repetition_penalty": 1.5, "seed": -3, "stop": ["a", "b"], "stop_token_ids": [1], "ignore_eos": True,
        "logprobs": True, "top_logprobs": 2, "logit_bias": {"5": -100}, "max_completion_tokens": 9, "min_tokens": 2,
    }  # fmt: skip
    assert chat(**asked).sampling == Sampling(
        max_tokens=9, min_tokens=2, temperature=0, top_p=0.5, top_k=7, min_p=0.1, presence_penalty=1,
        frequency_penalty=-1, repetition_penalty=1.5, seed=-3, stop=("a", "b"), stop_token_ids=(1,),
        ignore_eos=True, logprobs=True,
        top_logprobs=2, logit_bias={5: -100.0},
    )  # fmt: skip


def test_nothing_asked_is_the_default() -> None:
    assert chat().sampling == Sampling()
    assert chat(top_k=-1, stop=[], logit_bias=None).sampling == Sampling()


def test_messages_become_plain() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    request = chat(
        messages=[
            {"role": "developer", "content": "rules"},
            {"role": "user", "content": parts, "name": "ann"},
            {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None, "annotations": []},
            {"role": "tool", "content": "42", "tool_call_id": "c1"},
        ]
    )
    assert request.messages == (
        {"role": "system", "content": "rules"},
        {"role": "user", "content": "ab", "name": "ann"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
    )


def test_formats() -> None:
    assert chat(response_format={"type": "text"}).json_schema is None
    assert chat(response_format={"type": "json_object"}).json_schema == {}
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    assert chat(response_format=asked).json_schema == schema


@pytest.mark.parametrize(
    ("field", "asked", "param"),
    [
        ("logit_bias", {"logit_bias": {"1": 5}}, "logit_bias"),
        ("json_schema", {"response_format": {"type": "json_object"}}, "response_format"),
        ("template_kwargs", {"chat_template_kwargs": {"a": 1}}, "chat_template_kwargs"),
        ("n", {"n": 2}, "n"),
        ("min_p", {"min_p": 0.2}, "min_p"),
    ],
)
def test_what_the_engine_cannot_is_refused_by_name(field: str, asked: dict[str, Any], param: str) -> None:
    card = msgspec.structs.replace(CARD, unsupported=(field,))
    with pytest.raises(UnsupportedParameter) as caught:
        chat(card, **asked)
    assert caught.value.param == param
    chat(card)


def test_limits() -> None:
    server = ServerConfig(max_n=2, max_output_tokens=10)
    assert chat(server=server, n=2, max_tokens=10).n == 2
    for field, value in (("n", 3), ("max_tokens", 11)):
        with pytest.raises(InvalidRequest, match=f"server.max_{'n' if field == 'n' else 'output_tokens'}"):
            chat(server=server, **{field: value})
    with pytest.raises(UnsupportedParameter, match="at most 5"):
        chat(logprobs=True, top_logprobs=6)


@settings(deadline=None)
@given(st.integers())
def test_any_seed_fits(seed: int) -> None:
    request = chat(seed=seed)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(request), type=Request) == request


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([*ChatRequest.model_fields, "other"]), JSON, max_size=5), st.booleans())
def test_whatever_comes_is_taken_or_refused(fields: dict[str, Any], keep: bool) -> None:
    """And what is taken can be stored."""
    body = json.dumps({"messages": HI, **fields} if keep else fields).encode()
    found: Request | FreeholdError
    try:
        found = chat_request(parse(ChatRequest, body), CARD, Call("req_1"), ServerConfig())[0]
    except FreeholdError as error:
        found = error
    if isinstance(found, FreeholdError):
        assert found.status == 400
        assert str(found)
    else:
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=Request).messages == found.messages


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse(ChatRequest, body)


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [("a", ["a"]), ([1, 2], [(1, 2)]), (["a", "b"], ["a", "b"]), ([[1], [2, 3]], [(1,), (2, 3)]), ("", [""])],
)
def test_prompts(prompt: Any, prompts: list[Any]) -> None:
    body = parse(CompletionRequest, json.dumps({"prompt": prompt, "logprobs": 0}).encode())
    requests = completion_requests(body, CARD, Call("req_1"), ServerConfig())
    assert [request.prompt for request in requests] == prompts
    assert len({request.id for request in requests}) == len(prompts)
    assert all(request.sampling.logprobs for request in requests)


def test_generate_is_a_chat_where_it_can_be() -> None:
    def made(card: ModelCard, **fields: Any) -> Request:
        body = parse(GenerateRequest, json.dumps({"prompt": "hi", **fields}).encode())
        return generate_request(body, card, Call("req_1"), ServerConfig())

    assert made(CARD).messages == ({"role": "user", "content": "hi"},)
    assert made(CARD, raw=True).prompt == "hi"
    assert made(msgspec.structs.replace(CARD, chat=False)).kind == "text"
    assert made(CARD, mode="async").keep


@pytest.mark.parametrize(
    ("sent", "kept"),
    [(b"abc-1", True), (b"", False), (b"a b", False), (b"a\r\nb", False), (b"x" * 129, False), (b"\xe9", False)],
)
def test_request_ids(sent: bytes, kept: bool) -> None:
    found = request_id([(b"x-request-id", sent)])
    assert (found == sent.decode("latin-1")) is kept
    assert kept or found.startswith("req_")


def test_ids_differ() -> None:
    assert len({new_id("x-") for _ in range(1000)}) == 1000
    assert {len(new_id("x-")) for _ in range(100)} == {27}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": ["a"] * 257}, "prompt: expected at most 256 entries (it has 257)."),
        ({"prompt": []}, "prompt: expected at least 1 entry (it has 0)."),
        ({"prompt": "a", "echo": True}, "echo: it can't be true here."),
        ({"prompt": "a", "temperature": True}, "temperature: expected a valid number (it is true)."),
    ],
)
def test_the_words_fit_what_was_sent(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(CompletionRequest, json.dumps(fields).encode())
    assert str(caught.value) == words


def test_an_empty_list_of_parts_is_called_empty() -> None:
    with pytest.raises(InvalidRequest, match=r"messages\[0\].content: expected at least 1 entry"):
        chat(messages=[{"role": "user", "content": []}])
