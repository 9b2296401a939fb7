"""The event stream of a response: OpenAI's order and shapes, the same however the text is cut, resumable anywhere."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from freehold.core import Answer, Failure, Json, Request, Result, TokenLogprob, Usage
from freehold.errors import ResumeFailed
from freehold.gateway.marks import seen_by
from freehold.gateway.responses.create import replay
from freehold.gateway.responses.events import Writer
from freehold.gateway.responses.object import Outcome, Told, echo_of, told_of
from freehold.gateway.responses.wire import ResponseRequest
from freehold.gateway.tools.plan import NO_TOOLS, Plan
from freehold.gateway.wire_errors import parse
from freehold.ledger.protocol import Entry

ID = "resp_0123456789"
HERMES = Plan(style="hermes", offered={"weather": None})
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Bonn"}}</tool_call>'
STRICT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
DONE = Outcome(usage=Usage(prompt_tokens=3, cached_tokens=1, completion_tokens=2), ended_unix_s=7.0)


def told(plan: Plan = NO_TOOLS, **fields: object) -> Told:
    body = parse(ResponseRequest, json.dumps({"input": "hi"} | fields).encode())
    return Told(echo=echo_of(body, "m"), input=[], plan=plan)


def events(pieces: list[str], about: Told, outcome: Outcome = DONE, after: int = -1) -> list[Json]:
    """What a reader gets, each event checked against the official client's types."""
    writer = Writer(ID, about, 5.0, after)
    out: list[bytes] = []
    writer.begin(out)
    for piece in pieces:
        writer.feed(piece, None, out)
    writer.end(outcome, out)
    found = []
    for event in out:
        mark, head, data, *rest = event.decode().split("\n")
        body = json.loads(data.removeprefix("data: "))
        assert mark.startswith(f"id: {ID}/{body['sequence_number']}-")
        assert head == f"event: {body['type']}"
        assert rest == ["", ""]
        STRICT.validate_python(body)
        found.append(body)
    return found


def kinds(found: list[Json]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in found]


def test_a_text_answer_in_order() -> None:
    found = events(["Hel", "lo"], told())
    assert kinds(found) == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert found[-1]["response"]["output"][0]["content"][0]["text"] == "Hello"
    assert found[-1]["response"]["completed_at"] == 7
    assert found[-1]["response"]["usage"]["total_tokens"] == 5
    assert [event["sequence_number"] for event in found] == [0, 1, 2, 3, 6, 8, 9, 10, 11, 12]


def test_text_then_a_call() -> None:
    found = events(["Look.\n<tool", CALL.removeprefix("<tool")], told(HERMES))
    called = ["function_call_arguments.delta", "function_call_arguments.done"]
    assert kinds(found)[-5:] == ["output_item.added", *called, "output_item.done", "completed"]
    message, call = found[-1]["response"]["output"]
    assert message["content"][0]["text"] == "Look."
    assert (call["name"], call["arguments"], call["status"]) == ("weather", '{"city": "Bonn"}', "completed")
    assert message["id"].startswith("msg_")
    assert call["id"].startswith("fc_")
    assert call["call_id"].startswith("call_")


def test_background_begins_queued() -> None:
    found = events(["x"], told(background=True))
    assert kinds(found)[:3] == ["created", "queued", "in_progress"]
    assert [event["response"]["status"] for event in found[:3]] == ["queued", "queued", "in_progress"]


@pytest.mark.parametrize(
    ("outcome", "last", "status"),
    [
        (Outcome(finish="length"), "incomplete", "incomplete"),
        (Outcome(finish="content_filter"), "incomplete", "incomplete"),
        (Outcome(finish="cancelled"), "incomplete", "cancelled"),
        (Outcome(finish="error", failure=Failure(code="worker_died", what="Gone.")), "failed", "failed"),
    ],
)
def test_other_ends(outcome: Outcome, last: str, status: str) -> None:
    found = events(["par"], told(), outcome)
    assert kinds(found)[-1] == last
    response = found[-1]["response"]
    Response.model_validate(response, strict=True)
    assert response["status"] == status
    assert response["output"][0]["status"] == "incomplete"
    reason = "content_filter" if outcome.finish == "content_filter" else "max_output_tokens"
    assert response["incomplete_details"] == ({"reason": reason} if status == "incomplete" else None)
    assert response["error"] == ({"code": "server_error", "message": "Gone."} if status == "failed" else None)


def test_an_empty_answer_is_still_a_message() -> None:
    found = events([], told())
    assert found[-1]["response"]["output"][0]["content"][0]["text"] == ""
    assert events([], told(), Outcome(finish="cancelled"))[-1]["response"]["output"] == []


def test_logprobs_stand_with_their_text() -> None:
    writer = Writer(ID, told(), 5.0)
    out: list[bytes] = []
    writer.begin(out)
    writer.feed("", (TokenLogprob("\\xe2", -0.5, (226,)),), out)
    writer.feed("€", (TokenLogprob("\\x82\\xac", -0.25, (130, 172), (("a", -1.0),)),), out)
    writer.end(DONE, out)
    bodies = [json.loads(event.decode().split("data: ")[1]) for event in out]
    delta = next(body for body in bodies if body["type"].endswith("text.delta"))
    assert [entry["logprob"] for entry in delta["logprobs"]] == [-0.5, -0.25]
    part = writer.response["output"][0]["content"][0]
    assert part["logprobs"][1]["top_logprobs"] == [{"token": "a", "logprob": -1.0, "bytes": [97]}]
    Response.model_validate(writer.response)


def joined(found: list[Json]) -> list[Json]:
    """Neighbouring deltas as one, numbered as the last."""
    result: list[Json] = []
    for event in found:
        if result and event["type"].endswith(".delta") and result[-1]["type"] == event["type"]:
            event = event | {"delta": result.pop()["delta"] + event["delta"]}
        result.append(event)
    return result


TEXTS = st.lists(st.sampled_from(["Hello", " ", "\n", "wörld €", "<tool_call>", CALL, "{", '"', "😀"]), max_size=6)


@given(pieces=TEXTS, tools=st.booleans(), cuts=st.lists(st.integers(0, 200), max_size=8), seen=st.integers(-1, 200))
def test_any_cut_and_any_resumption_tell_the_same(pieces: list[str], tools: bool, cuts: list[int], seen: int) -> None:
    about = told(HERMES if tools else NO_TOOLS, background=True)
    text = "".join(pieces)
    whole = events([text], about)
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    in_pieces = events([text[a:b] for a, b in itertools.pairwise(places)], about)
    assert joined(in_pieces) == joined(whole)

    numbers = [event["sequence_number"] for event in in_pieces]
    assert numbers == sorted(set(numbers))
    seen = max((number for number in numbers if number <= seen), default=-1)
    first = [event for event in in_pieces if event["sequence_number"] <= seen]
    rest = events([text], about, after=seen)
    assert joined(first + rest) == joined(whole)


def test_a_kept_response_is_told_again_as_it_was() -> None:
    about = told(HERMES, metadata={"a": "b"}, tools=[{"type": "function", "name": "weather"}])
    live = events(["Hm. ", CALL], about)[-1]["response"]
    import msgspec

    request = Request(id=ID, model="m", kind="chat", received_unix_s=5.0, keep=True, meta=msgspec.to_builtins(about))
    request = msgspec.msgpack.decode(msgspec.msgpack.encode(request), type=Request)
    result = Result(answers=(Answer(text="Hm. " + CALL),), usage=DONE.usage or Usage(), total_ms=1500.0)
    entry = Entry(request, "done", 1, "w", result, 5.5, False)
    again = told_of(entry)
    assert again == about
    assert replay(entry, again).response == live
    assert told_of(Entry(Request(id="x", model="m", kind="chat"), "done", 1, "w", result, 5.5, False)) is None


@given(pieces=TEXTS, share=st.floats(0, 1), other=st.booleans())
def test_a_resumption_by_id_is_exact_or_an_error(pieces: list[str], share: float, other: bool) -> None:
    def tell(pieces: list[str], after: int = -1, crc: int | None = None) -> list[bytes]:
        out: list[bytes] = []
        writer = Writer(ID, told(), 5.0, after, crc)
        writer.begin(out)
        for piece in pieces:
            writer.feed(piece, None, out)
        writer.end(DONE, out)
        return out

    whole = tell(pieces)
    at = int(share * (len(whole) - 1))
    number, crc = seen_by(whole[at].split(b"\n")[0].removeprefix(b"id: ").decode()).place
    assert tell(pieces, number, crc)[:-1] == whole[at + 1 : -1]
    if other and crc and at < len(whole) - 1:  # after the last event nothing is told, so nothing can be wrong
        with pytest.raises(ResumeFailed):
            tell(["?" * len("".join(pieces))], number, crc)
