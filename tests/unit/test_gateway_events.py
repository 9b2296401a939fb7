"""Events written as bytes equal events written the slow way."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.core import Chunk, TokenLogprob, Usage
from freehold.gateway.call import Call
from freehold.gateway.events import DONE, ChatEvents, Head, TextEvents
from freehold.gateway.tools.plan import NO_TOOLS, Choice, Function, Plan, plan
from freehold.gateway.usage import text_logprobs

HEAD = Head("chatcmpl-1", 17, 'mo"del', "fp_1", True)


def told(parts: list[bytes]) -> list[Any]:
    lines = b"".join(parts).decode().split("\n\n")
    assert lines.pop() == ""
    return [json.loads(line.removeprefix("data: ")) for line in lines if line != "data: [DONE]"]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.text()), max_size=20))
def test_chat_events(pieces: list[tuple[int, str]]) -> None:
    events, out = ChatEvents(HEAD, NO_TOOLS), list[bytes]()
    for choice, text in pieces:
        events.add(Chunk("chatcmpl-1", choice, 0, 1, text), out)
    same = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 17, "model": 'mo"del'}
    same["system_fingerprint"] = "fp_1"
    expected: list[Any] = []
    begun: set[int] = set()
    for choice, text in pieces:
        deltas: list[dict[str, str]] = [{"content": text}] if text else []
        if choice not in begun:
            begun.add(choice)
            deltas.insert(0, {"role": "assistant", "content": ""})
        for delta in deltas:
            part = {"index": choice, "delta": delta, "logprobs": None, "finish_reason": None}
            expected.append({**same, "choices": [part], "usage": None})
    assert told(out) == expected


@settings(deadline=None)
@given(st.text(), st.text())
def test_text_events(first: str, second: str) -> None:
    events, out = TextEvents(HEAD, ["p0", "p1"], 2, 0), list[bytes]()
    events.add(Chunk("p1", 1, 0, 1, first), out)
    events.add(Chunk("p0", 0, 0, 1, second, finish="length"), out)
    choices = [each["choices"][0] for each in told(out)]
    expected = [{"index": 3, "text": first, "logprobs": None, "finish_reason": None}] if first else []
    assert choices == [*expected, {"index": 0, "text": second, "logprobs": None, "finish_reason": "length"}]


def test_what_a_filter_held_back_is_told_in_openais_word() -> None:
    chat, text = list[bytes](), list[bytes]()
    ChatEvents(HEAD, NO_TOOLS).add(Chunk("chatcmpl-1", 0, 0, 1, "a", finish="content_filter"), chat)
    TextEvents(HEAD, ["p0"], 1, 0).add(Chunk("p0", 0, 0, 1, "a", finish="content_filter"), text)
    for out in (chat, text):
        assert told(out)[-1]["choices"][0]["finish_reason"] == "content_filter"


def test_usage_comes_last() -> None:
    events, out = ChatEvents(HEAD, NO_TOOLS), list[bytes]()
    for choice in (0, 1):
        usage = Usage(prompt_tokens=5, completion_tokens=2 + choice)
        events.add(Chunk("chatcmpl-1", choice, 0, 1, "", finish="stop", usage=usage), out)
    events.end(Call("req_1"), out)
    assert out[-1] == DONE
    last = told(out)[-1]
    assert last["choices"] == []
    assert last["usage"]["prompt_tokens"] == 5
    assert last["usage"]["completion_tokens"] == 5
    assert set(last["timings"]) == {"queue_ms", "ttft_ms", "total_ms", "tokens_per_s"}


def test_logprobs_without_text_are_told() -> None:
    events, out = ChatEvents(HEAD, NO_TOOLS), list[bytes]()
    logprob = TokenLogprob("é", -0.5, (195,), (("é", -0.5), ("e", -1.0)))
    events.add(Chunk("chatcmpl-1", 0, 0, 1, "", (logprob,)), out)
    [content] = told(out)[-1]["choices"][0]["logprobs"]["content"]
    assert content["bytes"] == [195]
    assert [each["token"] for each in content["top_logprobs"]] == ["é", "e"]


def test_forced_tool_call_in_pieces() -> None:
    from freehold.core import ModelCard

    card = ModelCard(name="m", engine="sim", source="", context_tokens=9, max_batch=1)
    functions = (Function(name="weather"),)
    how: Plan = plan(functions, Choice(mode="required"), card, parallel=True, structured=False)
    events, out = ChatEvents(HEAD, how), list[bytes]()
    for piece in ('{"name": "wea', 'ther", "arguments": {"town": ', '"Rome"}}'):
        events.add(Chunk("chatcmpl-1", 0, 0, 1, piece), out)
    events.add(Chunk("chatcmpl-1", 0, 0, 0, "", finish="stop"), out)
    deltas = [each["choices"][0]["delta"] for each in told(out)]
    calls = [each for delta in deltas for each in delta.get("tool_calls", ())]
    assert calls[0]["function"]["name"] == "weather"
    assert json.loads("".join(call["function"].get("arguments", "") for call in calls)) == {"town": "Rome"}
    assert told(out)[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_text_offsets_go_on() -> None:
    first, offset = text_logprobs([TokenLogprob("ab", -1.0)], 0, 0)
    second, end = text_logprobs([TokenLogprob("c", -1.0), TokenLogprob("de", -2.0)], offset, 1)
    assert first["text_offset"] == [0]
    assert first["top_logprobs"] is None
    assert second["text_offset"] == [2, 3]
    assert end == 5
