"""The Responses API of a real server, through the official client, which checks every reply against its types."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import Response
from pydantic import BaseModel

from freehold.gateway import auth
from server import Server

LONG: dict[str, Any] = {"max_output_tokens": 4000, "extra_body": {"ignore_eos": True}}


@pytest.fixture(scope="module")
def every(server: Server) -> Iterator[OpenAI]:
    """A strict client of each engine in turn."""
    with strict(server) as client:
        yield client


@pytest.fixture(scope="module")
def client(slow: Server) -> Iterator[OpenAI]:
    """A strict client of a server slow enough to do something in the middle of an answer."""
    with strict(slow) as client:
        yield client


def strict(server: Server, retries: int = 0) -> OpenAI:
    return OpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=retries, timeout=60, _strict_response_validation=True
    )


def test_create(every: OpenAI) -> None:
    response = every.responses.create(
        model="tester", input="Say hello.", max_output_tokens=5, metadata={"k": "v"}, extra_body={"ignore_eos": True}
    )
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output_text
    assert response.usage is not None
    assert response.usage.output_tokens == 5
    assert response.metadata == {"k": "v"}
    assert response.id.startswith("resp_")
    assert every.responses.retrieve(response.id) == response


def test_a_whole_answer(every: OpenAI) -> None:
    given: Any = {"instructions": "Be brief.", "temperature": 0, "max_output_tokens": 30}
    response = every.responses.create(input="Say hello.", **given)
    assert response.status in ("completed", "incomplete")
    assert (response.completed_at is None) == (response.status == "incomplete")
    assert response.instructions == "Be brief."
    again = every.responses.create(input=[{"role": "user", "content": "Say hello."}], **given)
    assert again.output_text == response.output_text


def test_stream(every: OpenAI) -> None:
    given = {"input": "Count to five.", "temperature": 0, "max_output_tokens": 20}
    events = list(every.responses.create(stream=True, **given))
    kinds = [event.type.removeprefix("response.") for event in events]
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert kinds[-4:-1] == ["output_text.done", "content_part.done", "output_item.done"]
    assert kinds[-1] in ("completed", "incomplete")
    assert set(kinds[4:-4]) <= {"output_text.delta"}
    numbers = [event.sequence_number for event in events]
    assert numbers == sorted(set(numbers))
    assert text_of(events) == events[-1].response.output_text == every.responses.create(**given).output_text
    assert every.responses.retrieve(events[0].response.id) == events[-1].response


def test_the_clients_own_stream(client: OpenAI) -> None:
    with client.responses.stream(model="tester", input="Count to five.", temperature=0) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        assert stream.get_final_response().output_text == text


def test_raw_stream_has_event_lines(slow: Server) -> None:
    body = {"input": "hi", "stream": True, "max_output_tokens": 3}
    with httpx.stream("POST", f"{slow.url}/v1/responses", json=body, trust_env=False) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in reply.iter_lines() if line]
    for mark, head, data in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
        assert mark.startswith("id: resp_")
        assert head == f"event: {json.loads(data.removeprefix('data: '))['type']}"


def test_async_client(slow: Server) -> None:
    async def several() -> list[str]:
        async with AsyncOpenAI(base_url=f"{slow.url}/v1", api_key="none", max_retries=0) as client:
            asked = [client.responses.create(input="Say hello.", temperature=0, max_output_tokens=8) for _ in range(4)]
            return [response.output_text for response in await asyncio.gather(*asked)]

    assert len(set(asyncio.run(several()))) == 1


def test_background_and_poll(every: OpenAI) -> None:
    response = every.responses.create(input="Say hello.", background=True, max_output_tokens=6)
    assert response.status == "queued"
    assert response.background is True
    done = polled(every, response.id)
    assert done.status in ("completed", "incomplete")
    assert done.output_text


def polled(client: OpenAI, id: str) -> Response:
    while (response := client.responses.retrieve(id)).status in ("queued", "in_progress"):
        pass
    return response


def test_background_stream_resumes_where_it_was_left(client: OpenAI) -> None:
    given: dict[str, Any] = {"input": "Tell a story.", "background": True, "seed": 1} | {"max_output_tokens": 120}
    seed = given.pop("seed")
    events: list[Any] = []
    with client.responses.create(stream=True, extra_body={"seed": seed, "ignore_eos": True}, **given) as stream:
        for event in stream:
            events.append(event)
            if len(events) == 20:
                break
    assert [event.type for event in events[:3]] == ["response.created", "response.queued", "response.in_progress"]
    id, last = events[0].response.id, events[-1].sequence_number
    following = list(client.responses.retrieve(id, stream=True, starting_after=last))
    assert following[0].sequence_number > last
    kept = list(client.responses.retrieve(id, stream=True, starting_after=last))
    for rest in (following, kept):
        assert text_of([*events, *rest]) == rest[-1].response.output_text
    assert following[-1].response == kept[-1].response == client.responses.retrieve(id)
    everything = list(client.responses.retrieve(id, stream=True))
    assert everything[-1] == kept[-1]


def test_cancel(client: OpenAI) -> None:
    response = client.responses.create(input="Go on and on.", background=True, **LONG)
    with client.responses.retrieve(response.id, stream=True) as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                break
    cancelled = client.responses.cancel(response.id)
    assert cancelled.status == "cancelled"
    assert cancelled.output_text
    assert cancelled.output[0].status == "incomplete"
    assert client.responses.cancel(response.id) == cancelled == client.responses.retrieve(response.id)


def test_a_follower_is_told_of_the_cancellation(client: OpenAI) -> None:
    with client.responses.create(input="Go on.", background=True, stream=True, **LONG) as stream:
        for event in stream:
            if event.type == "response.created":
                id = event.response.id
            if event.type == "response.output_item.added":
                client.responses.cancel(id)
    assert event.type == "response.incomplete"
    assert event.response.status == "cancelled"


def test_a_client_that_leaves_its_stream_cancels_it(client: OpenAI) -> None:
    with client.responses.create(input="Go on.", stream=True, **LONG) as stream:
        id = next(event.response.id for event in stream if event.type == "response.created")
    assert polled(client, id).status == "cancelled"


def test_delete(client: OpenAI) -> None:
    running = client.responses.create(input="Go on.", background=True, **LONG)
    with pytest.raises(openai.ConflictError):
        client.responses.delete(running.id)
    client.responses.cancel(running.id)
    client.responses.delete(running.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(running.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.delete(running.id)


def test_not_stored(client: OpenAI) -> None:
    response = client.responses.create(input="hi", store=False, max_output_tokens=3)
    assert response.output_text
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_a_conversation_goes_on_from_a_response(every: OpenAI) -> None:
    first = every.responses.create(input="My name is Ann.", instructions="Be kind.", max_output_tokens=8, temperature=0)
    second = every.responses.create(
        input="What is it?", previous_response_id=first.id, max_output_tokens=8, temperature=0
    )
    assert second.previous_response_id == first.id
    whole = every.responses.create(
        input=[
            {"role": "user", "content": "My name is Ann."},
            {"role": "assistant", "content": first.output_text},
            {"role": "user", "content": "What is it?"},
        ],
        max_output_tokens=8,
        temperature=0,
    )
    assert second.output_text == whole.output_text
    assert second.usage is not None
    assert whole.usage is not None
    assert second.usage.input_tokens == whole.usage.input_tokens

    every.responses.delete(first.id)
    third = every.responses.create(input="And now?", previous_response_id=second.id, max_output_tokens=3)
    assert third.usage is not None
    assert third.usage.input_tokens > second.usage.input_tokens
    with pytest.raises(openai.NotFoundError) as caught:
        every.responses.create(input="x", previous_response_id=first.id)
    assert caught.value.param == "previous_response_id"


def test_output_items_can_be_sent_back(client: OpenAI) -> None:
    first = client.responses.create(input="hi", max_output_tokens=4)
    items: list[Any] = [{"role": "user", "content": "hi"}, *first.output, {"role": "user", "content": "more"}]
    assert client.responses.create(input=items, max_output_tokens=4).output_text


def test_input_items(client: OpenAI) -> None:
    given: list[Any] = [
        {"role": "developer", "content": "Be brief."},
        *({"role": "user", "content": f"{i}"} for i in range(4)),
    ]
    response = client.responses.create(input=given, max_output_tokens=2)
    items = list(client.responses.input_items.list(response.id, order="asc", limit=2))
    assert [item.role for item in items] == ["developer", "user", "user", "user", "user"]
    assert [item.content[0].text for item in items[1:]] == ["0", "1", "2", "3"]
    page = client.responses.input_items.list(response.id, limit=3)
    assert page.has_more is True
    assert [item.id for item in page.data] == [item.id for item in items[:1:-1]]


class City(BaseModel):
    """Closed, so that any model ends it."""

    name: Literal["Bonn", "Erfurt"]
    capital: bool
    river: Literal["Rhine"] | None


def test_structured_output(every: OpenAI) -> None:
    response = every.responses.parse(
        model="tester", input="A city.", text_format=City, max_output_tokens=100, temperature=0
    )
    assert isinstance(response.output_parsed, City)
    kept = every.responses.retrieve(response.id)
    assert kept.text is not None
    assert kept.text.format is not None
    assert kept.text.format.type == "json_schema"


def test_any_json_object(client: OpenAI) -> None:
    response = client.responses.create(input="x", text={"format": {"type": "json_object"}})
    assert isinstance(json.loads(response.output_text), dict)


def test_logprobs(every: OpenAI, client: OpenAI) -> None:
    for asked, top in ((every, 0), (client, 2)):
        response: Any = asked.responses.create(
            input="Say hello.",
            max_output_tokens=4,
            top_logprobs=top,
            include=["message.output_text.logprobs"],
            extra_body={"ignore_eos": True},
        )
        logprobs = response.output[0].content[0].logprobs
        assert len(logprobs) == 4
        assert all(each.logprob <= 0 and len(each.top_logprobs) == top for each in logprobs)


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"model": "nobody"}, openai.NotFoundError, "model"),
        ({"background": True, "store": False}, openai.BadRequestError, "store"),
        ({"truncation": "auto"}, openai.BadRequestError, "truncation"),
        ({"top_logprobs": 21}, openai.BadRequestError, "top_logprobs"),
        ({"max_output_tokens": 10**9}, openai.BadRequestError, "max_output_tokens"),
        ({"tools": [{"type": "web_search"}]}, openai.BadRequestError, "tools[0].type"),
        ({"extra_body": {"colour": "red"}}, openai.BadRequestError, "colour"),
        (
            {"text": {"format": {"type": "json_schema", "name": "n", "schema": {"not": {}}}}},
            openai.BadRequestError,
            "text.format",
        ),
    ],
)
def test_errors(client: OpenAI, fields: dict[str, Any], error: type[openai.APIStatusError], param: str) -> None:
    with pytest.raises(error) as caught:
        client.responses.create(**({"input": "hi"} | fields))
    assert caught.value.param == param


def test_too_long_an_input_is_refused_not_cut(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(input="word " * 60_000)
    assert caught.value.code == "context_length_exceeded"


def test_unknown_ids(client: OpenAI) -> None:
    for ask in (client.responses.retrieve, client.responses.cancel, client.responses.delete):
        with pytest.raises(openai.NotFoundError):
            ask("resp_nowhere")


def test_starting_after_needs_stream(slow: Server, client: OpenAI) -> None:
    id = client.responses.create(input="hi", max_output_tokens=2).id
    for query in ("starting_after=3", "stream=perhaps", "include[]=everything", "stream=true&include_obfuscation=true"):
        reply = httpx.get(f"{slow.url}/v1/responses/{id}?{query}", trust_env=False)
        assert reply.status_code == 400, query
        assert reply.json()["error"]["message"]


def test_the_document_describes_the_routes(slow: Server) -> None:
    document = httpx.get(f"{slow.url}/openapi.json", trust_env=False).json()
    assert {
        "/v1/responses",
        "/v1/responses/{id}",
        "/v1/responses/{id}/cancel",
        "/v1/responses/{id}/input_items",
    } <= set(document["paths"])
    assert not [name for name in document["components"]["schemas"] if "__" in name]


def test_another_key_sees_nothing_of_it(tmp_path: Path) -> None:
    tokens = [auth.add(tmp_path, name)[1] for name in ("ann", "bob")]
    with Server(tmp_path, flags={"server.api_keys": "on"}) as server:
        ann, bob = (OpenAI(base_url=f"{server.url}/v1", api_key=token, max_retries=0) for token in tokens)
        with ann, bob:
            id = ann.responses.create(input="A secret.", max_output_tokens=2).id
            assert ann.responses.retrieve(id).id == id
            for ask in (
                bob.responses.retrieve,
                bob.responses.cancel,
                bob.responses.delete,
                bob.responses.input_items.list,
            ):
                with pytest.raises(openai.NotFoundError):
                    ask(id)
            with pytest.raises(openai.NotFoundError):
                bob.responses.create(input="Tell me.", previous_response_id=id)


@pytest.fixture
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, OpenAI]]:
    """A server whose gateway may be killed, and a client that tries again."""
    folder = tmp_path_factory.mktemp("mortal")
    with Server(folder, model="sim:llama-125m-openvino-2core") as server, strict(server, retries=5) as client:
        yield server, client


def restart_gateway(server: Server) -> None:
    assert server.gateway is not None
    server.gateway.kill()
    server.start_gateway()
    server.wait_ready()


def text_of(events: list[Any]) -> str:
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


def test_kept_responses_survive_the_gateway(mortal: tuple[Server, OpenAI]) -> None:
    server, client = mortal
    events: list[Any] = list(client.responses.create(input="Say hello.", stream=True, max_output_tokens=30))
    response = events[-1].response
    restart_gateway(server)
    assert client.responses.retrieve(response.id) == response
    rest = list(client.responses.retrieve(response.id, stream=True, starting_after=events[6].sequence_number))
    assert text_of([*events[:7], *rest]) == response.output_text
    assert client.responses.create(input="More.", previous_response_id=response.id, max_output_tokens=2).output_text


def test_a_background_response_goes_on_while_the_gateway_is_dead(mortal: tuple[Server, OpenAI]) -> None:
    server, client = mortal
    events: list[Any] = []
    with client.responses.create(
        input="Tell.", background=True, stream=True, max_output_tokens=200, extra_body={"ignore_eos": True}
    ) as stream:
        for event in stream:
            events.append(event)
            if len(events) == 12:
                break
    restart_gateway(server)
    id = events[0].response.id
    rest = list(client.responses.retrieve(id, stream=True, starting_after=events[-1].sequence_number))
    final = rest[-1].response
    assert final.usage.output_tokens == 200
    assert text_of([*events, *rest]) == final.output_text
