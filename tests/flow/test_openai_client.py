"""The official client, unchanged, against a real server on every engine."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import httpx
import openai
import pytest
from pydantic import BaseModel

from freehold.gateway import auth
from server import Server, openai_client

ASK: Any = [{"role": "user", "content": "I lost my card yesterday, what should I do?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a town.",
        "parameters": {"type": "object", "properties": {"town": {"enum": ["Rome", "Oslo"]}}, "required": ["town"]},
    },
}


class Verdict(BaseModel):
    mood: Literal["good", "bad"]
    sure: bool


def test_models(client: openai.OpenAI, server: Server) -> None:
    [model] = client.models.list().data
    assert model.id == server.model
    assert client.models.retrieve(server.model).id == server.model


def test_chat(client: openai.OpenAI, server: Server) -> None:
    answer = client.chat.completions.create(model=server.model, messages=ASK, max_tokens=12, temperature=0)
    [choice] = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert answer.model == server.model
    assert answer.usage is not None
    assert 1 <= answer.usage.completion_tokens <= 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens > 5


def test_headers_tell_id_and_times(client: openai.OpenAI, server: Server) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=server.model, messages=ASK, max_tokens=4, extra_headers={"X-Client-Request-Id": "mine-1"}
    )
    assert raw.headers["x-request-id"] == "mine-1"
    assert raw.headers["x-freehold-worker"] == "worker-1"
    assert raw.headers["x-freehold-model"] == server.model
    for name in ("openai-processing-ms", "x-freehold-queue-ms", "x-freehold-ttft-ms"):
        assert float(raw.headers[name]) >= 0


def test_stream_equals_whole(client: openai.OpenAI, server: Server) -> None:
    wanted: Any = {"model": server.model, "messages": ASK, "max_tokens": 16, "temperature": 0, "seed": 7}
    whole = client.chat.completions.create(**wanted)
    stream = client.chat.completions.create(**wanted, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]
    assert reasons == [whole.choices[0].finish_reason]
    assert len({chunk.id for chunk in chunks}) == 1


def test_async_many_at_once(server: Server) -> None:
    async def run() -> list[int]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:

            async def one(n: int) -> int:
                count = 0
                stream = await client.chat.completions.create(
                    model=server.model, messages=ASK, max_tokens=8 + n, stream=True, extra_body={"ignore_eos": True}
                )
                async for chunk in stream:
                    count += bool(chunk.choices and chunk.choices[0].finish_reason)
                return count

            return await asyncio.gather(*(one(n) for n in range(12)))

    assert asyncio.run(run()) == [1] * 12


def test_n_answers(client: openai.OpenAI, server: Server) -> None:
    answer = client.chat.completions.create(model=server.model, messages=ASK, max_tokens=8, n=3, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 24
    single = client.chat.completions.create(model=server.model, messages=ASK, max_tokens=8)
    assert single.usage is not None
    assert answer.usage.prompt_tokens == single.usage.prompt_tokens


def test_seed_repeats(client: openai.OpenAI, server: Server) -> None:
    texts = {
        client.chat.completions.create(model=server.model, messages=ASK, max_tokens=12, seed=42, temperature=0.8)
        .choices[0]
        .message.content
        for _ in range(3)
    }
    assert len(texts) == 1


def test_stop(client: openai.OpenAI, server: Server) -> None:
    wanted: Any = {"model": server.model, "prompt": "how do i", "max_tokens": 24, "temperature": 0, "seed": 3}
    whole = client.completions.create(**wanted).choices[0].text
    stop = whole.split()[1]
    cut = client.completions.create(**wanted, stop=[stop])
    assert cut.choices[0].text == whole[: whole.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


def test_logprobs(client: openai.OpenAI, server: Server) -> None:
    wanted: Any = {"model": server.model, "messages": ASK, "max_tokens": 4, "logprobs": True}
    [card] = httpx.get(f"{server.url}/freehold/info", trust_env=False).json()["models"]
    if "logprobs" in card["unsupported"]:
        with pytest.raises(openai.BadRequestError, match="logprobs"):
            client.chat.completions.create(**wanted)
        return
    top = min(2, card["max_top_logprobs"])
    with pytest.raises(openai.BadRequestError, match="top_logprobs"):
        client.chat.completions.create(**wanted, top_logprobs=card["max_top_logprobs"] + 1)
    answer = client.chat.completions.create(**wanted, top_logprobs=top)
    assert answer.choices[0].logprobs is not None
    tokens = answer.choices[0].logprobs.content or []
    assert answer.usage is not None
    assert 1 <= len(tokens) <= answer.usage.completion_tokens
    for token in tokens:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == top


def test_completions(client: openai.OpenAI, server: Server) -> None:
    answer = client.completions.create(model=server.model, prompt=["how do i", "my card"], max_tokens=5, n=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    streamed: dict[int, str] = {}
    for chunk in client.completions.create(
        model=server.model, prompt=["how do i", "my card"], max_tokens=5, stream=True
    ):
        for choice in chunk.choices:
            streamed[choice.index] = streamed.get(choice.index, "") + choice.text
    assert sorted(streamed) == [0, 1]


def test_parse_into_pydantic(client: openai.OpenAI, server: Server) -> None:
    answer = client.chat.completions.parse(
        model=server.model, messages=ASK, response_format=Verdict, max_tokens=60, temperature=0
    )
    assert isinstance(answer.choices[0].message.parsed, Verdict)


def test_json_object(client: openai.OpenAI, server: Server) -> None:
    stream = client.chat.completions.create(
        model=server.model, messages=ASK, response_format={"type": "json_object"}, max_tokens=60, stream=True
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices).lstrip().startswith("{")


def test_forced_tool(client: openai.OpenAI, server: Server) -> None:
    wanted: Any = {"model": server.model, "messages": ASK, "tools": [WEATHER], "max_tokens": 60, "temperature": 0}
    answer = client.chat.completions.create(**wanted, tool_choice={"type": "function", "function": {"name": "weather"}})
    [call] = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "weather"
    assert call.function.arguments in ('{"town": "Rome"}', '{"town": "Oslo"}', '{"town":"Rome"}', '{"town":"Oslo"}')
    assert answer.choices[0].finish_reason == "tool_calls"
    again = [*ASK, answer.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "Sunny."}]
    assert client.chat.completions.create(model=server.model, messages=again, max_tokens=4).choices[0].message.content


def test_streamed_tool(client: openai.OpenAI, server: Server) -> None:
    with client.chat.completions.stream(
        model=server.model, messages=ASK, tools=[WEATHER], tool_choice="required", max_tokens=60, temperature=0
    ) as stream:
        stream.until_done()
        answer = stream.get_final_completion()
    [call] = answer.choices[0].message.tool_calls or []
    assert call.function.name == "weather"
    assert answer.choices[0].finish_reason == "tool_calls"


def test_tools_left_to_the_model(client: openai.OpenAI, server: Server) -> None:
    wanted: Any = {"model": server.model, "messages": ASK, "tools": [WEATHER], "max_tokens": 8}
    if client.models.retrieve(server.model).model_dump()["tools"]:
        assert client.chat.completions.create(**wanted).choices[0].finish_reason
    else:
        with pytest.raises(openai.BadRequestError, match="wasn't taught to use tools") as caught:
            client.chat.completions.create(**wanted)
        assert caught.value.param == "tools"


def test_embeddings(client: openai.OpenAI, server: Server) -> None:
    if not client.models.retrieve(server.model).model_dump()["embeddings"]:
        with pytest.raises(openai.BadRequestError, match="makes no embeddings"):
            client.embeddings.create(model=server.model, input="a card")
        return
    found = client.embeddings.create(model=server.model, input=["a card", "a fee"])
    plain = client.embeddings.create(model=server.model, input=["a card", "a fee"], encoding_format="float")
    assert [len(each.embedding) for each in found.data] == [len(each.embedding) for each in plain.data]
    assert found.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)


def test_bad_request_names_the_field(client: openai.OpenAI, server: Server) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=server.model, messages=ASK, temperature=5)
    assert caught.value.param == "temperature"
    assert caught.value.type == "invalid_request_error"
    assert caught.value.request_id


def test_too_long_a_prompt(client: openai.OpenAI, server: Server) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(
                model=server.model, messages=[{"role": "user", "content": "word " * 400_000}], stream=stream
            )
        assert caught.value.code == "context_length_exceeded"


def test_unknown_model(client: openai.OpenAI, server: Server) -> None:
    with pytest.raises(openai.NotFoundError, match=server.model) as caught:
        client.chat.completions.create(model="gpt-none", messages=ASK)
    assert caught.value.code == "model_not_found"


def test_foreign_origin_is_forbidden(sim: Server) -> None:
    with openai_client(sim) as client, pytest.raises(openai.PermissionDeniedError):
        client.chat.completions.create(model=sim.model, messages=ASK, extra_headers={"Origin": "http://evil.example"})


def test_conflict(slow: Server) -> None:
    with openai_client(slow) as client:
        response = client.responses.create(model=slow.model, input="hi", background=True, max_output_tokens=400)
        with pytest.raises(openai.ConflictError):
            client.responses.delete(response.id)
        client.responses.cancel(response.id)


def test_keys_and_full_queue(tmp_path: Any) -> None:
    key, token = auth.add(tmp_path, "tests")
    with Server(tmp_path, flags={"server.api_keys": "on", "server.max_queue": 0}) as server:
        with openai_client(server, "fh-wrong") as client, pytest.raises(openai.AuthenticationError) as caught:
            client.models.list()
        assert caught.value.code == "invalid_api_key"
        with openai_client(server, token) as client:
            assert client.models.list().data
            with pytest.raises(openai.RateLimitError) as full:
                client.chat.completions.create(model=server.model, messages=ASK)
            assert full.value.response.headers["retry-after"]
            auth.revoke(tmp_path, key.id)
            with pytest.raises(openai.AuthenticationError):
                client.models.list()


def test_nobody_to_answer(tmp_path: Any) -> None:
    with Server(tmp_path, workers=1) as server, openai_client(server) as client:
        server.workers[0].kill()
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(model=server.model, messages=ASK)
        assert caught.value.status_code == 503
        assert caught.value.code == "unavailable"
