"""An answer's bytes, cut anywhere: the same events, stamps, usage and end as when they come whole."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.loadtest.client import Exchange, Reader


def event(delta: object, finish: str | None = None, spaces: bool = False, **more: object) -> bytes:
    told = {"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
    text = json.dumps(told, separators=None if spaces else (",", ":"), ensure_ascii=False)
    return b"data: " + text.encode() + b"\n\n"


def stream(texts: list[str], *, spaces: bool = False, crlf: bool = False, done: bool = True) -> list[bytes]:
    parts = [b": hello\n\n", event({"role": "assistant", "content": ""}, spaces=spaces)]
    parts += [event({"content": text}, spaces=spaces) for text in texts]
    parts.append(event({}, "stop", spaces=spaces))
    usage = {"prompt_tokens": 9, "completion_tokens": 42, "prompt_tokens_details": {"cached_tokens": 4}}
    parts.append(b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n")
    parts += [b"data: [DONE]\n\n"] if done else []
    return [part.replace(b"\n", b"\r\n") for part in parts] if crlf else parts


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Freehold-Queue-Ms: 12.5\r\n"
HEAD += b"Transfer-Encoding: chunked\r\n\r\n"


def reply(parts: list[bytes], head: bytes = HEAD) -> bytes:
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def read(data: bytes, cuts: list[int]) -> Exchange:
    reader = Reader()
    exchange = reader.exchange = Exchange(1, "", 0.0, b"", keep=True, user=-1)
    edges = [0, *sorted(cut % len(data) for cut in cuts), len(data)]
    for moment, (start, end) in enumerate(pairwise(edges)):
        reader.feed(data[start:end], float(moment))
    assert reader.complete
    assert reader.keeps_alive
    exchange.finish()
    return exchange


TEXTS = st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=8)


@given(TEXTS, st.booleans(), st.booleans(), st.lists(st.integers(0, 1 << 16), max_size=12))
def test_a_stream_reads_the_same_however_it_is_cut(texts: list[str], spaces: bool, crlf: bool, cuts: list[int]) -> None:
    exchange = read(reply(stream(texts, spaces=spaces, crlf=crlf)), cuts)
    assert len(exchange.stamps) == len(texts)
    assert exchange.stamps == sorted(exchange.stamps)
    assert exchange.text() == "".join(texts)
    sample = exchange.sample(9.0, exchange.outcome(), 0.0)
    assert (sample.outcome, sample.input_tokens, sample.output_tokens, sample.cached_tokens) == ("ok", 9, 42, 4)
    assert sample.queue_ms == 12.5
    assert len(sample.gaps_ms) == len(texts) - 1


def test_an_answer_about_json_is_not_taken_for_events() -> None:
    exchange = read(reply(stream(['"content":"x', '{"error": {"message": "no"}}', '"finish_reason":"stop"'])), [])
    assert (len(exchange.stamps), exchange.error) == (3, "")


def test_a_stream_that_just_stops_is_a_failure() -> None:
    exchange = read(reply([event({"content": "half"})]), [])
    assert exchange.outcome() == "failed"
    assert "without saying so" in exchange.error


def test_an_end_and_the_usage_in_the_last_tokens_event_are_found() -> None:
    last = event({"content": "b"}, "stop", usage={"prompt_tokens": 1, "completion_tokens": 2})
    exchange = read(reply([event({"content": "a"}), last]), [])
    assert (exchange.outcome(), exchange.output_tokens) == ("ok", 2)


def test_an_error_in_the_middle_is_a_failure() -> None:
    parts = [event({"content": "a"}), b'data: {"error": {"message": "It died."}}\n\n', b"data: [DONE]\n\n"]
    exchange = read(reply(parts), [])
    assert (exchange.outcome(), exchange.error, len(exchange.stamps)) == ("failed", "It died.", 1)


@pytest.mark.parametrize(("status", "outcome"), [(429, "refused"), (503, "refused"), (500, "failed"), (401, "failed")])
def test_what_is_no_answer(status: int, outcome: str) -> None:
    body = b'{"error": {"message": "No."}}'
    head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nRetry-After: 3\r\nContent-Length: %d\r\n\r\n"
    exchange = read(head % (status, len(body)) + body, [])
    assert (exchange.outcome(), exchange.error, exchange.retry_after_s) == (outcome, "No.", 3.0)


def test_an_answer_in_one_piece() -> None:
    body = json.dumps({"choices": [{"message": {"content": "hi"}}], "usage": {"completion_tokens": 5}}).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    exchange = read(head + body, [40, 60])
    assert (exchange.outcome(), exchange.output_tokens, exchange.text()) == ("ok", 5, "hi")
