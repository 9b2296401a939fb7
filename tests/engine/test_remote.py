"""The `remote` engine against servers that behave, and against servers that don't."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance import Answer, Drive, chat, text
from freehold.core import Chunk, ModelCard
from freehold.engine.remote.engine import RemoteEngine
from freehold.engine.remote.sse import EventStream
from freehold.engine.remote.wire import LONGEST_WAIT_S, backoff_s, base_url, retry_after_s
from freehold.errors import (
    CannotResume,
    ConfigError,
    EngineFailed,
    FreeholdError,
    ModelError,
    Unreachable,
    from_failure,
)
from freehold.tracing import onward
from servers import Call, Script, Server
from specs import remote_spec, timed

KEY = "sk-very-secret"
HELLO = ("Hel", "lo", " there")


async def good(call: Call) -> None:
    await call.head()
    await call.say(*HELLO)
    await call.finish(3)


def status(
    code: int, message: str = "no", param: str | None = None, error_code: str | None = None, **headers: str
) -> Script:
    async def play(call: Call) -> None:
        error = {"message": message, "param": param, "code": error_code, "type": "x"}
        await call.reply(code, {"error": error}, **headers)

    return play


@contextmanager
def opened(server: Server, **fields: Any) -> Iterator[RemoteEngine]:
    engine = RemoteEngine(remote_spec(server.url, **fields))
    engine.load(timed)
    try:
        yield engine
    finally:
        engine.close()


def ask(*scripts: Script, **fields: Any) -> tuple[Answer, Server]:
    """One chat answer of a server that plays `scripts`."""
    with Server(*scripts) as server, opened(server, **fields) as engine:
        return Drive(engine).ask(chat()), server


def error_of(answer: Answer) -> FreeholdError:
    assert answer.finish == "error"
    assert answer.failure is not None
    return from_failure(answer.failure)


def test_a_trace_is_passed_on_with_the_requests_own_span() -> None:
    header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with Server(good, good) as server, opened(server) as engine:
        asked = msgspec.structs.replace(chat(), traceparent=header)
        assert Drive(engine).ask(asked).finish == "stop"
        assert Drive(engine).ask(chat()).finish == "stop"
    traced, plain = (call.headers.get("traceparent") for call in posts(server))
    assert traced == onward(header, asked.id) != header
    assert plain is None


def posts(server: Server) -> list[Call]:
    return [call for call in server.calls if call.method == "POST"]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("freehold.engine.remote.wire.FIRST_WAIT_S", 0.001)


# ---- servers that behave ------------------------------------------------------------------------


def test_a_plain_answer() -> None:
    answer, server = ask(good, remote_key=KEY)
    assert answer.text == "Hello there"
    assert (answer.finish, answer.tokens) == ("stop", 3)
    assert answer.usage.prompt_tokens == 7
    assert posts(server)[0].headers["authorization"] == f"Bearer {KEY}"
    assert posts(server)[0].path == "/v1/chat/completions"


def test_no_key_no_header() -> None:
    _, server = ask(good)
    assert "authorization" not in posts(server)[0].headers


def test_defaults_are_left_out_of_the_body() -> None:
    with Server(good) as server, opened(server) as engine:
        Drive(engine).ask(chat(temperature=1.0, max_tokens=None))
        body = posts(server)[0].json
    assert body == {
        "model": "there",
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 1.0,
        "top_p": 1.0,
        "messages": [{"role": "user", "content": "I lost my card, what can I do?"}],
    }


def test_everything_that_is_set_is_sent() -> None:
    sampling: dict[str, Any] = {
        "max_tokens": 9,
        "min_tokens": 2,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 5,
        "min_p": 0.1,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.3,
        "repetition_penalty": 1.1,
        "stop": ("a", "b"),
        "stop_token_ids": (1, 2),
        "ignore_eos": True,
        "logprobs": True,
        "top_logprobs": 2,
    }
    tools = ({"type": "function", "function": {"name": "f"}},)
    schema = {"type": "object"}
    with Server(good) as server, opened(server) as engine:
        request = chat(seed=4, logit_bias={7: -1.0}, tools=tools, json_schema=schema, **sampling)
        Drive(engine).ask(msgspec.structs.replace(request, template_kwargs={"think": False}), choice=2)
        body = posts(server)[0].json
    for name, value in sampling.items():
        assert body[name] == (list(value) if isinstance(value, tuple) else value)
    assert body["seed"] == 6
    assert body["logit_bias"] == {"7": -1.0}
    assert body["tools"] == list(tools)
    assert body["tool_choice"] == "none"
    assert body["response_format"]["json_schema"]["schema"] == schema
    assert body["chat_template_kwargs"] == {"think": False}


def test_text_goes_to_completions() -> None:
    async def play(call: Call) -> None:
        await call.head()
        await call.event({"choices": [{"text": "ab", "finish_reason": None}]})
        await call.event({"choices": [{"text": "c", "finish_reason": "length"}]})
        await call.raw(b"data: [DONE]\n\n")

    with Server(play) as server, opened(server) as engine:
        answer = Drive(engine).ask(text((1, 2, 3), max_tokens=2))
        call = posts(server)[0]
    assert (answer.text, answer.finish, answer.tokens) == ("abc", "length", 2)
    assert call.path == "/v1/completions"
    assert call.json["prompt"] == [1, 2, 3]


def test_any_json_object() -> None:
    with Server(good) as server, opened(server) as engine:
        Drive(engine).ask(chat(json_schema={}))
        assert posts(server)[0].json["response_format"] == {"type": "json_object"}


def test_what_a_filter_held_back_is_told() -> None:
    async def play(call: Call) -> None:
        await call.head()
        await call.say("I can")
        await call.finish(1, "content_filter")

    answer, _ = ask(play)
    assert (answer.text, answer.finish) == ("I can", "content_filter")


def test_tool_calls_become_text() -> None:
    def part(index: int, **function: str) -> dict[str, Any]:
        return {"choices": [{"delta": {"tool_calls": [{"index": index, "id": f"c{index}", "function": function}]}}]}

    async def play(call: Call) -> None:
        await call.head()
        await call.event({"choices": [{"delta": {"role": "assistant", "content": None}}]})
        await call.event(part(0, name="weather", arguments=""))
        await call.event(part(0, arguments='{"city": '))
        await call.event(part(0, arguments='"Paris"}'))
        await call.event(part(1, name="broken", arguments='{"x'))
        await call.finish(20, "tool_calls")

    answer, _ = ask(play)
    assert answer.finish == "stop"
    assert answer.tokens == 20
    calls = [json.loads(part.removesuffix("</tool_call>")) for part in answer.text.split("<tool_call>")[1:]]
    assert calls == [{"name": "weather", "arguments": {"city": "Paris"}}, {"name": "broken", "arguments": '{"x'}]


def test_tokens_that_were_counted_but_not_shown_are_told_at_the_end() -> None:
    async def play(call: Call) -> None:
        await call.head()
        await call.say("four tokens in one piece")
        await call.finish(4)

    answer, _ = ask(play)
    assert [chunk.tokens for chunk in answer.chunks] == [1, 3]
    assert answer.usage.completion_tokens == 4


def test_no_usage_at_all() -> None:
    async def play(call: Call) -> None:
        await call.head()
        await call.say("a", "b")
        await call.raw(b"data: [DONE]\n\n")

    answer, _ = ask(play)
    assert (answer.tokens, answer.usage.completion_tokens, answer.finish) == (2, 2, "stop")


def test_strange_but_valid_streams() -> None:
    async def play(call: Call) -> None:
        await call.head()
        await call.raw(b": keep-alive\r\n\r\nevent: message\r\nid: 1\r\nda")
        await call.raw(b'ta:{"choices":[{"delta":\r\ndata: {"content":"caf\xc3')
        await call.raw(b'\xa9"}}]}\r\n\r\n: again\n\ndata: {"choices":[]}\n\n')
        await call.raw(b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}')

    answer, _ = ask(play)
    assert (answer.text, answer.finish) == ("café", "stop")


def test_abort_closes_the_connection() -> None:
    async def endless(call: Call) -> None:
        await call.head()
        while not call.hung_up.is_set():
            await call.say("on and ")
            await asyncio.sleep(0.001)

    with Server(endless) as server, opened(server) as engine:
        drive = Drive(engine)
        request = chat()
        answer = drive.add(request)
        drive.until(lambda: answer.tokens > 5)
        engine.abort(request.id)
        drive.step()
        assert answer.finish == "cancelled"
        drive.until(lambda: server.hang_ups == 1)


def test_many_streams_at_once_use_one_thread_and_no_more_places_than_allowed() -> None:
    now = most = 0

    async def slow(call: Call) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await call.head()
        for piece in HELLO:
            await call.say(piece)
            await asyncio.sleep(0.01)
        now -= 1
        await call.finish(3)

    with Server(slow) as server, opened(server, max_batch=10) as engine:
        drive = Drive(engine)
        answers = [drive.add(chat()) for _ in range(40)]
        drive.finish()
    assert {answer.text for answer in answers} == {"Hello there"}
    assert most == 10


# ---- servers that don't -------------------------------------------------------------------------


@pytest.mark.parametrize("code", [429, 500, 502, 503])
def test_passing_failures_are_tried_again(code: int) -> None:
    answer, server = ask(status(code), status(code), good)
    assert answer.text == "Hello there"
    assert len(posts(server)) == 3


def test_retry_after_is_heeded() -> None:
    answer, server = ask(status(429, Retry_After="0"), good)
    assert answer.text == "Hello there"
    answer, server = ask(status(429, Retry_After="3600"), good)
    assert error_of(answer).code == "overloaded"
    assert len(posts(server)) == 1


@pytest.mark.parametrize(("code", "name"), [(429, "overloaded"), (500, "engine_failed"), (503, "unavailable")])
def test_tries_are_used_up(code: int, name: str) -> None:
    answer, server = ask(status(code, "we are full"), remote_retries=2)
    assert error_of(answer).code == name
    assert "we are full" in str(error_of(answer))
    assert len(posts(server)) == 3


def test_bad_request_names_the_parameter_and_is_not_tried_again() -> None:
    answer, server = ask(status(400, "top_k is not known here", "top_k"))
    error = error_of(answer)
    assert (error.code, error.param) == ("invalid_request", "top_k")
    assert "top_k is not known here" in str(error)
    assert len(posts(server)) == 1


def test_bodies_that_are_no_json() -> None:
    async def play(call: Call) -> None:
        await call.head(400, "text/html")
        await call.raw(b"<h1>bad\xff</h1>" + b"x" * 5000)

    error = error_of(ask(play)[0])
    assert "<h1>bad" in error.what
    assert len(error.what) < 500


@pytest.mark.parametrize(
    ("code", "error_code", "name"),
    [
        (400, "context_length_exceeded", "context_length_exceeded"),
        (401, None, "engine_failed"),
        (403, None, "engine_failed"),
        (404, None, "engine_failed"),
        (413, None, "request_too_large"),
        (418, None, "engine_failed"),
    ],
)
def test_what_refusals_mean(code: int, error_code: str | None, name: str) -> None:
    answer, server = ask(status(code, error_code=error_code))
    assert error_of(answer).code == name
    assert len(posts(server)) == 1


def test_the_key_is_in_no_error_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    answer, _ = ask(status(401, f"Incorrect API key provided: {KEY}"), remote_key=KEY)
    assert KEY not in str(error_of(answer))
    assert "FREEHOLD_ENGINE_REMOTE_KEY" in error_of(answer).next
    assert KEY not in caplog.text


def test_newer_models_of_openai_want_another_field() -> None:
    refuse = status(400, "Unsupported parameter: use 'max_completion_tokens' instead", "max_tokens")
    with Server(refuse, good) as server, opened(server) as engine:
        assert Drive(engine).ask(chat(max_tokens=9)).text == "Hello there"
        assert Drive(engine).ask(chat(max_tokens=8)).text == "Hello there"
        bodies = [call.json for call in posts(server)]
    assert [body.get("max_tokens") for body in bodies] == [9, None, None]
    assert [body.get("max_completion_tokens") for body in bodies] == [None, 9, 8]


async def cut(call: Call) -> None:
    await call.head()
    await call.say("Hel")


def test_cut_in_the_middle_is_not_tried_again() -> None:
    answer, server = ask(cut, good)
    assert answer.text == "Hel"
    assert isinstance(error_of(answer), EngineFailed)
    assert "middle" in error_of(answer).what
    assert len(posts(server)) == 1


async def hang_up(call: Call) -> None:
    call.writer.transport.abort()


async def only_head(call: Call) -> None:
    await call.head()


@pytest.mark.parametrize("script", [hang_up, only_head])
def test_cut_before_the_first_token_is_tried_again(script: Script) -> None:
    answer, server = ask(script, good)
    assert answer.text == "Hello there"
    assert len(posts(server)) == 2


async def stall(call: Call) -> None:
    await call.head()
    await call.say("Hel")
    await call.hung_up.wait()


async def silent(call: Call) -> None:
    await call.hung_up.wait()


@pytest.mark.parametrize("script", [stall, silent])
def test_a_stall_ends_after_the_timeout(script: Script) -> None:
    answer, server = ask(script, good, remote_timeout_s=0.2)
    assert "sent nothing for 0.2 s" in error_of(answer).what
    assert len(posts(server)) == 1


def _garbage(data: bytes) -> Script:
    async def play(call: Call) -> None:
        await call.head()
        await call.raw(data)

    return play


@pytest.mark.parametrize(
    "data", [b"data: {oops\n\n", b"data: \xff\xfe\n\n", b'data: {"choices": 7}\n\n', b"data: []\n\n"]
)
def test_garbage_in_the_stream(data: bytes) -> None:
    assert "isn't an event" in error_of(ask(_garbage(data))[0]).what


def test_garbage_that_is_no_http() -> None:
    async def play(call: Call) -> None:
        await call.raw(b"\x00\x01 not http\r\n\r\n")

    assert isinstance(error_of(ask(play, remote_retries=1)[0]), EngineFailed)


def test_error_object_in_the_stream() -> None:
    async def play(call: Call) -> None:
        await call.head()
        await call.say("Hel")
        await call.event({"error": {"message": "CUDA out of memory", "code": 500}})

    answer, server = ask(play, good)
    assert answer.text == "Hel"
    assert len(posts(server)) == 1
    assert "CUDA out of memory" in str(error_of(answer))


def test_error_object_instead_of_a_stream() -> None:
    async def play(call: Call) -> None:
        await call.head()
        await call.event({"error": {"message": "bad stop", "code": 400, "param": "stop"}})

    error = error_of(ask(play)[0])
    assert (error.code, error.param) == ("invalid_request", "stop")


def test_one_that_breaks_leaves_the_others_alone() -> None:
    with Server(good, cut, good) as server, opened(server) as engine:
        drive = Drive(engine)
        answers = [drive.add(chat()) for _ in range(3)]
        drive.finish()
    assert sorted(answer.finish or "" for answer in answers) == ["error", "stop", "stop"]


def test_a_server_that_went_away() -> None:
    with Server(good) as server:
        engine = RemoteEngine(remote_spec(server.url, remote_retries=1))
        engine.load(timed)
    try:
        assert error_of(Drive(engine).ask(chat())).code == "unavailable"
    finally:
        engine.close()


# ---- loading ------------------------------------------------------------------------------------


def load(server: Server, **fields: Any) -> ModelCard:
    with opened(server, **fields) as engine:
        return engine.card


def test_the_only_model_is_taken() -> None:
    with Server(models=["qwen"]) as server:
        card = load(server)
    assert card.name == "m"
    assert card.engine == "remote"
    assert card.source.startswith("qwen at http://127.0.0.1")


def test_without_a_name_of_its_own_it_has_the_remotes() -> None:
    with Server(models=["qwen"]) as server:
        assert load(server, name="").name == "qwen"


def test_several_models_and_none_named() -> None:
    with Server(models=["b", "a"]) as server, pytest.raises(ModelError) as caught:
        load(server, name="")
    assert caught.value.what.endswith("serves 2 models.")
    assert (caught.value.why, caught.value.exit_code) == ("It has: a, b.", 4)
    assert "#MODEL" in caught.value.next


@pytest.mark.parametrize(
    ("said", "asked", "context_tokens"),
    [
        ({}, 0, 0),
        ({}, 900, 900),
        ({"max_model_len": 4096}, 0, 4096),
        ({"max_model_len": 4096}, 900, 900),
        ({"max_model_len": 4096}, 9000, 4096),
        ({"context_tokens": 1024}, 0, 1024),
        ({"context_tokens": None}, 0, 0),
        ({"context_length": True}, 0, 0),
        ({"meta": {"n_ctx_train": 2048}}, 0, 2048),
        ({"meta": {"n_ctx_train": 2048, "n_ctx": 512}}, 0, 512),
        ({"meta": None}, 0, 0),
    ],
)
def test_the_context_is_what_the_remote_says_or_unknown(said: dict[str, Any], asked: int, context_tokens: int) -> None:
    with Server(about=said) as server:
        assert load(server, context_tokens=asked).context_tokens == context_tokens


def test_the_named_model_is_taken() -> None:
    with Server(models=["a", "m", "b"]) as server:
        assert load(server).source.startswith("m at")


def test_a_model_named_behind_the_url_is_taken_or_missed() -> None:
    with Server(models=["a", "b"]) as server:
        engine = RemoteEngine(remote_spec(f"{server.url}/v1#b"))
        assert engine.load(timed).source.startswith("b at")
        engine.close()
    with Server(models=["a"]) as server, pytest.raises(ModelError, match="no model 'b'"):
        RemoteEngine(remote_spec(f"{server.url}#b")).load(timed)


@pytest.mark.parametrize("models", [["a", "b"], []])
def test_a_model_that_is_not_there(models: list[str]) -> None:
    with Server(models=models) as server, pytest.raises(ModelError) as caught:
        load(server)
    assert "'m'" in caught.value.what
    assert all(name in caught.value.why for name in models)


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    engine = RemoteEngine(remote_spec(url, remote_retries=1))
    with pytest.raises(Unreachable, match="can't be reached"):
        engine.load(timed)
    engine.close()


def test_close_without_load() -> None:
    engine = RemoteEngine(remote_spec("http://127.0.0.1:1"))
    engine.close()
    engine.close()


def test_what_is_no_url() -> None:
    with pytest.raises(ModelError, match="isn't a URL"):
        RemoteEngine(remote_spec("http://host:notaport"))


def test_a_client_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with Server(good) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
        engine = RemoteEngine(remote_spec(server.url.replace("127.0.0.1", "127.0.0.2")))
        with pytest.raises(ModelError, match="broke down"):
            engine.load(timed)
    with pytest.raises(FreeholdError):
        engine.embed(["x"])


def test_user_and_password_are_not_shown() -> None:
    with Server(models=["a", "b"]) as server:
        url = server.url.replace("http://", "http://me:secret@")
        engine = RemoteEngine(remote_spec(url))
        with pytest.raises(ModelError) as caught:
            engine.load(timed)
    assert "secret" not in str(caught.value)


def test_a_key_that_is_none() -> None:
    with pytest.raises(ConfigError) as caught:
        RemoteEngine(remote_spec("http://127.0.0.1:1", remote_key="se\ncret"))
    assert "cret" not in str(caught.value)


# ---- the pure parts -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "base"),
    [
        ("http://host:8000", "http://host:8000/v1"),
        ("http://host:8000/", "http://host:8000/v1"),
        ("http://host:8000/v1", "http://host:8000/v1"),
        ("http://host:8000/v1/", "http://host:8000/v1"),
        ("host:8000", "http://host:8000/v1"),
        ("https://host/api/v1/chat/completions", "https://host/api/v1"),
        ("https://host/openai/deployments/x", "https://host/openai/deployments/x"),
    ],
)
def test_base_url(typed: str, base: str) -> None:
    assert base_url(typed) == base


@given(st.integers(0, 50), st.floats(0, 1))
def test_backoff_grows_within_limits(tried: int, chance: float) -> None:
    assert 0 < backoff_s(tried, None, chance) <= LONGEST_WAIT_S
    assert backoff_s(tried, None, chance) <= 2 * backoff_s(tried + 1, None, chance)
    assert backoff_s(tried, 7.5, chance) == 7.5


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [(None, None), ("", None), ("soon", None), ("2.5", 2.5), ("-1", 0.0), ("Thu, 01 Jan 1970 00:01:00 GMT", 50.0)],
)
def test_retry_after(header: str | None, wait_s: float | None) -> None:
    assert retry_after_s(header, 10.0) == wait_s


events = st.lists(
    st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8")), min_size=1, max_size=3), max_size=6
)


@given(events, st.sampled_from(["\n", "\r\n", "\r"]), st.booleans(), st.data())
def test_events_survive_any_cut(events: list[list[str]], end: str, comments: bool, data: st.DataObject) -> None:
    stream = ""
    for lines in events:
        stream += (f": note{end}{end}" if comments else "") + "".join(f"data: {line}{end}" for line in lines) + end
    raw = stream.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    parser = EventStream()
    got = [event for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True) for event in parser.feed(raw[a:b])]
    got += parser.close()
    assert [event.decode() for event in got] == ["\n".join(lines) for lines in events]


def test_an_event_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("freehold.engine.remote.sse.MAX_EVENT_BYTES", 1000)
    parser = EventStream()
    parser.feed(b"data: " + b"x" * 900 + b"\n")
    with pytest.raises(ValueError, match="1000 bytes"):
        parser.feed(b"data: " + b"x" * 900)


def test_it_says_that_it_takes_no_tokens_of_an_answer() -> None:
    with Server(good) as server, opened(server) as engine, pytest.raises(CannotResume):
        engine.add(chat(), 0, [Chunk("c", 0, 0, 1, "Hel")])
