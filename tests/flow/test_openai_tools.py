"""Tool calls through the official client: chat and responses, written by the model or forced by the schema."""

import json
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageToolCall
from pydantic import BaseModel

from server import Server


class GetWeather(BaseModel):
    """The weather of a place. Closed, so that any model ends a call."""

    city: Literal["Bonn", "Erfurt"]
    days: Literal[1, 2]


SCHEMA = GetWeather.model_json_schema()
CHAT_TOOL: Any = openai.pydantic_function_tool(GetWeather, name="get_weather")
FLAT_TOOL: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "Weather.",
    "parameters": SCHEMA,
    "strict": True,
}
NAMED: Any = {"type": "function", "function": {"name": "get_weather"}}
ASK = "Please use get_weather for Bonn."


@pytest.fixture(scope="module")
def client(sim: Server) -> Iterator[OpenAI]:
    with strict(sim) as client:
        yield client


@pytest.fixture(scope="module")
def every(server: Server) -> Iterator[OpenAI]:
    """A client of each engine in turn. Only `sim` surely calls by itself; any engine can be made to."""
    with strict(server) as client:
        yield client


def strict(server: Server) -> OpenAI:
    return OpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60, _strict_response_validation=True
    )


@pytest.mark.parametrize("choice", ["required", NAMED])
def test_any_engine_can_be_made_to_call(every: OpenAI, choice: Any) -> None:
    answer = every.chat.completions.create(
        model="tester",
        messages=[{"role": "user", "content": "Weather in Bonn for two days?"}],
        tools=[CHAT_TOOL],
        tool_choice=choice,
        max_tokens=100,
        temperature=0,
    ).choices[0]
    assert answer.finish_reason == "tool_calls"
    assert answer.message.tool_calls is not None
    assert answer.message.tool_calls[0].function.name == "get_weather"
    GetWeather.model_validate_json(answer.message.tool_calls[0].function.arguments)


def test_any_engine_takes_tools_and_their_answers(every: OpenAI) -> None:
    first = every.responses.create(input=ASK, tools=[FLAT_TOOL], max_output_tokens=40)
    assert first.output
    call: Any = {
        "type": "function_call",
        "call_id": "c1",
        "name": "get_weather",
        "arguments": '{"city": "Bonn", "days": 1}',
    }
    answer: Any = {"type": "function_call_output", "call_id": "c1", "output": "sunny"}
    user: Any = {"role": "user", "content": ASK}
    assert every.responses.create(input=[user, call, answer], tools=[FLAT_TOOL], max_output_tokens=20).output


@pytest.mark.parametrize("choice", ["auto", "required", NAMED])
def test_chat(client: OpenAI, choice: Any) -> None:
    answer = client.chat.completions.create(
        model="tester", messages=[{"role": "user", "content": ASK}], tools=[CHAT_TOOL], tool_choice=choice
    ).choices[0]
    assert answer.finish_reason == "tool_calls"
    assert answer.message.content is None
    assert answer.message.tool_calls is not None
    (call,) = answer.message.tool_calls
    assert isinstance(call, ChatCompletionMessageToolCall)
    assert call.function.name == "get_weather"
    GetWeather.model_validate_json(call.function.arguments)


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_chat_stream(client: OpenAI, choice: Any) -> None:
    with client.chat.completions.stream(
        model="tester", messages=[{"role": "user", "content": ASK}], tools=[CHAT_TOOL], tool_choice=choice
    ) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        final = stream.get_final_completion()
    assert [event.name for event in done] == ["get_weather"]
    assert final.choices[0].finish_reason == "tool_calls"
    calls = final.choices[0].message.tool_calls
    assert calls is not None
    assert isinstance(calls[0].function.parsed_arguments, GetWeather)


def test_chat_goes_on_with_the_tools_answer(client: OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": ASK}]
    message = client.chat.completions.create(model="tester", messages=messages, tools=[CHAT_TOOL]).choices[0].message
    assert message.tool_calls is not None
    messages += [message, {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}]
    answer = client.chat.completions.create(model="tester", messages=messages, tools=[CHAT_TOOL]).choices[0]
    assert answer.message.content
    assert answer.finish_reason in ("stop", "length")


def test_without_a_reason_to_call_the_model_talks(client: OpenAI) -> None:
    hello: Any = {"model": "tester", "messages": [{"role": "user", "content": "Hello."}], "tools": [CHAT_TOOL]}
    assert client.chat.completions.create(**hello).choices[0].message.content
    ask = hello | {"messages": [{"role": "user", "content": ASK}], "tool_choice": "none"}
    assert client.chat.completions.create(**ask).choices[0].message.tool_calls is None


@pytest.mark.parametrize("choice", ["auto", "required", {"type": "function", "name": "get_weather"}])
def test_responses(client: OpenAI, choice: Any) -> None:
    response = client.responses.create(model="tester", input=ASK, tools=[FLAT_TOOL], tool_choice=choice)
    (call,) = response.output
    assert call.type == "function_call"
    assert call.status == "completed"
    GetWeather.model_validate_json(call.arguments)
    assert client.responses.retrieve(response.id) == response

    answer: Any = {"type": "function_call_output", "call_id": call.call_id, "output": json.dumps({"sky": "blue"})}
    chained = client.responses.create(
        input=[answer], previous_response_id=response.id, tools=[FLAT_TOOL], max_output_tokens=8
    )
    assert chained.output_text
    by_hand = client.responses.create(
        input=[{"role": "user", "content": ASK}, call, answer], tools=[FLAT_TOOL], max_output_tokens=8
    )
    assert by_hand.usage is not None
    assert chained.usage is not None
    assert by_hand.usage.input_tokens == chained.usage.input_tokens


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_responses_stream(client: OpenAI, choice: Any) -> None:
    events: list[Any] = list(client.responses.create(input=ASK, tools=[FLAT_TOOL], tool_choice=choice, stream=True))
    kinds = [event.type.removeprefix("response.") for event in events]
    assert kinds[2] == "output_item.added"
    assert events[2].item.type == "function_call"
    assert kinds[-3:] == ["function_call_arguments.done", "output_item.done", "completed"]
    assert set(kinds[3:-3]) == {"function_call_arguments.delta"}
    arguments = "".join(event.delta for event in events[3:-3])
    assert arguments == events[-3].arguments == events[-1].response.output[0].arguments
    GetWeather.model_validate_json(arguments)


def test_responses_parse_the_arguments(client: OpenAI) -> None:
    tool: Any = {**FLAT_TOOL, "parameters": CHAT_TOOL["function"]["parameters"]}
    response = client.responses.parse(model="tester", input=ASK, tools=[tool], tool_choice="required")
    (call,) = response.output
    assert call.type == "function_call"
    assert GetWeather.model_validate(call.parsed_arguments)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "no name"}}]}, "tools[0].function.name"),
        ({"tools": [CHAT_TOOL], "tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [CHAT_TOOL], "response_format": {"type": "json_object"}}, "tools"),
    ],
)
def test_bad_tools_are_refused_by_name(client: OpenAI, fields: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="tester", messages=[{"role": "user", "content": "hi"}], **fields)
    assert caught.value.param == param


def test_an_answer_for_an_unknown_call_is_refused(client: OpenAI) -> None:
    orphan: Any = {"type": "function_call_output", "call_id": "call_9", "output": "x"}
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(input=[orphan])
    assert caught.value.param == "input"
