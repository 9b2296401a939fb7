"""Input items: what is taken, refused and kept, and the messages that a chat template gets."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses.response_item_list import ResponseItemList

from freehold.core import Json, ModelCard
from freehold.errors import InvalidRequest
from freehold.gateway.call import Call
from freehold.gateway.responses.create import response_request
from freehold.gateway.responses.items import conversation, kept_items, messages_of, without_instructions
from freehold.gateway.responses.wire import ResponseRequest
from freehold.gateway.wire_errors import parse

CARD = ModelCard(name="m", engine="sim", source="test", context_tokens=100, max_batch=1, tools="hermes")


def body(**fields: object) -> ResponseRequest:
    return parse(ResponseRequest, json.dumps({"input": "hi"} | fields).encode())


def messages(given: object) -> list[Json]:
    return messages_of(kept_items(body(input=given).input, "resp_1"))


def test_a_text_is_a_user_message() -> None:
    assert messages("hi") == [{"role": "user", "content": "hi"}]


def test_a_conversation_with_tools() -> None:
    items: list[Json] = [
        {"role": "developer", "content": "Be brief."},
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "Weather"}, {"type": "input_text", "text": "?"}],
        },
        {
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Look.", "annotations": [], "logprobs": None}],
            "id": "msg_1",
        },
        {
            "type": "function_call",
            "call_id": "c1",
            "name": "weather",
            "arguments": '{"city": "Bonn"}',
            "status": "completed",
        },
        {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": "not json"},
        {"type": "function_call_output", "call_id": "c1", "output": "sun"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "rain"}]},
    ]
    assert messages(items) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": "Look.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Bonn"}}},
                {"id": "c2", "type": "function", "function": {"name": "weather", "arguments": "not json"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "sun"},
        {"role": "tool", "tool_call_id": "c2", "content": "rain"},
    ]
    kept = kept_items(body(input=items).input, "resp_1")
    assert kept[2]["id"] == "msg_1"
    assert len({item["id"] for item in kept}) == len(kept)
    page = {"object": "list", "data": kept, "first_id": kept[0]["id"], "last_id": kept[-1]["id"], "has_more": False}
    ResponseItemList.model_validate(page)


def test_an_output_without_its_call_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        conversation(None, [], messages([{"type": "function_call_output", "call_id": "c9", "output": ""}]))
    assert caught.value.param == "input"


TURNS = st.lists(
    st.sampled_from(
        [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]
    )
)


@given(instructions=st.sampled_from([None, "Be brief."]), turns=TURNS)
def test_instructions_hold_for_one_turn(instructions: str | None, turns: list[Json]) -> None:
    plain = conversation(None, [], turns)
    assert without_instructions(conversation(instructions, [], turns), instructions) == plain
    assert len([turn for turn in conversation(instructions, [], turns)[:2] if turn["role"] == "system"]) <= 1


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input[0]"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "input[0].content[0].type",
        ),
        ({"input": [{"role": "user", "content": "x", "colour": 1}]}, "input[0].colour"),
        ({"temprature": 1}, "temprature"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 3}, "max_tokens"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"truncation": "auto"}, "truncation"),
        ({"reasoning": {"effort": "high"}}, "reasoning.effort"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"include": ["everything"]}, "include[0]"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
        ({"metadata": {"k": "x" * 513}}, "metadata.k"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields: Json, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        body(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "name": "?"}]}, "tools[0].name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [{"type": "function", "name": "f"}], "text": {"format": {"type": "json_object"}}}, "tools"),
    ],
)
def test_tools_are_refused_by_name(fields: Json, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        response_request(body(**fields), CARD, Call("req_1"), [])
    assert caught.value.param == param


def test_the_ledgers_request() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    wanted = body(
        instructions="Be brief.",
        max_output_tokens=9,
        temperature=0,
        text={"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}},
        include=["message.output_text.logprobs"],
        top_logprobs=2,
        store=False,
    )
    request, told = response_request(wanted, CARD, Call("req_1"), [])
    assert request.messages == ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"})
    assert request.json_schema == schema
    assert (request.sampling.max_tokens, request.sampling.temperature) == (9, 0)
    assert (request.sampling.logprobs, request.sampling.top_logprobs) == (True, 2)
    assert request.keep is False
    assert told.echo["text"]["format"]["schema"] == schema
    assert request.id.startswith("resp_")
