"""The `llamacpp` engine's own: alternatives, logit bias, its private port, embeddings, errors of the server."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from conformance import Drive, chat, text
from freehold.engine.llamacpp.engine import MOST_TOP_LOGPROBS, LlamaCppEngine
from freehold.engine.llamacpp.reply import failure_of
from freehold.errors import InvalidRequest, ModelError, UnsupportedParameter
from freehold.model.source import Source
from schemas import SCHEMAS
from specs import CONTEXT_TOKENS, STARTER, spec, timed

THE_STARTER = Source(kind="safetensors", path=str(STARTER), label="the built-in starter", name="starter")


def opened(cache: Path, source: Source = THE_STARTER, **fields: Any) -> LlamaCppEngine:
    engine = LlamaCppEngine(spec("llamacpp", source, cache, threads=2, **fields))
    engine.load(timed)
    return engine


@pytest.fixture(scope="module")
def engine(cache: Path) -> Iterator[LlamaCppEngine]:
    engine = opened(cache)
    yield engine
    engine.close()


@pytest.fixture
def drive(engine: LlamaCppEngine) -> Drive:
    return Drive(engine)


def test_alternatives_come_with_the_chosen_token(drive: Drive) -> None:
    answer = drive.ask(chat(logprobs=True, top_logprobs=5, max_tokens=6, ignore_eos=True))
    for one in answer.logprobs:
        assert len(one.top) == 5
        assert one.top[0][1] == pytest.approx(one.logprob)
    assert engine_refuses(drive, logprobs=True, top_logprobs=MOST_TOP_LOGPROBS + 1) == "top_logprobs"


def engine_refuses(drive: Drive, **asked: Any) -> str | None:
    with pytest.raises(InvalidRequest) as caught:
        drive.engine.add(chat(**asked))
    return caught.value.param


def test_logit_bias_forces_and_forbids(drive: Drive) -> None:
    def biased(bias: dict[int, float]) -> str:
        return drive.ask(text("Hello", logit_bias=bias, max_tokens=4, ignore_eos=True)).text

    one, other = biased({300: 100.0}), biased({301: 100.0})
    assert one == one[: len(one) // 4] * 4 != other
    assert biased({300: 100.0, 301: 200.0}) == other
    assert biased({300: 100.0, 301: -100.0}) == one
    assert engine_refuses(drive, logit_bias={4096: 1.0}) == "logit_bias"


def test_min_tokens_is_refused_by_name(drive: Drive) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        drive.engine.add(chat(min_tokens=3))
    assert caught.value.param == "min_tokens"


def test_hidden_figures_are_none_and_the_cache_is_told(drive: Drive) -> None:
    prompt = tuple(range(20, 220))
    drive.ask(text(prompt, max_tokens=2, ignore_eos=True))
    answer = drive.add(text(prompt, max_tokens=2, ignore_eos=True))
    while not answer.ended:
        step = drive.step()
        assert step.prefill_tokens is None
        assert step.context_tokens is None
    assert answer.usage.cached_tokens >= 100


def test_its_port_is_closed_to_others(engine: LlamaCppEngine) -> None:
    assert engine._server is not None
    address = engine._server._server.listening_address
    assert address.startswith("http://127.0.0.1:")
    for path in ("/v1/models", "/tokenize", "/completion", "/slots", "/metrics"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(urllib.request.Request(address + path, data=b'{"content": "x", "prompt": "x"}'))
        caught.value.close()
        assert caught.value.code in (401, 403, 404, 405, 501)


@pytest.mark.parametrize("ids", [(), (-1,), (4096,)])
def test_token_ids_that_are_none(drive: Drive, ids: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest):
        drive.engine.add(text(ids))


@pytest.mark.parametrize("prompt", ["a\x00b", "\ud800", " ", "🙂" * 100, "<|end|>" * 9, "<|nope|>"])
def test_odd_prompts_are_answered_or_refused(drive: Drive, prompt: str) -> None:
    try:
        assert drive.ask(text(prompt, max_tokens=3, ignore_eos=True)).tokens == 3
    except InvalidRequest:
        drive.answers.clear()


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS.keys())
def test_large_and_odd_schemas_are_followed(drive: Drive, schema: dict[str, Any]) -> None:
    answer = drive.ask(chat(json_schema=schema, temperature=1.0, seed=1, max_tokens=100))
    assert answer.finish in ("stop", "length"), answer.failure
    if answer.finish == "stop":
        jsonschema.validate(json.loads(answer.text), schema or {"type": "object"})


def test_embeddings_are_vectors_of_length_one(engine: LlamaCppEngine) -> None:
    (first, second), tokens = engine.embed(["The quiet harbour", "A broken machine and more"])
    assert len(first) == len(second) == 256
    assert sum(value * value for value in first) == pytest.approx(1.0, abs=1e-3)
    assert tokens > 6
    for wrong in ("", "word " * CONTEXT_TOKENS):
        with pytest.raises(InvalidRequest) as caught:
            engine.embed([wrong])
        assert caught.value.param == "input"


def test_many_more_answers_than_slots_all_finish(cache: Path) -> None:
    engine = opened(cache, max_batch=4)
    drive = Drive(engine)
    answers = [drive.add(chat(f"Question {i}", max_tokens=20, ignore_eos=True)) for i in range(40)]
    drive.finish()
    assert {(answer.finish, answer.tokens) for answer in answers} == {("length", 20)}
    engine.close()


def test_a_broken_file_is_a_model_error(tmp_path: Path, cache: Path, engine: LlamaCppEngine) -> None:
    (whole,) = (cache / "gguf").glob("*.gguf")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    source = Source(kind="gguf", path=str(broken), label="half a file", name="broken")
    with pytest.raises(ModelError):
        opened(cache, source)
    with pytest.raises(ModelError, match="can't run"):
        opened(cache, Source(kind="ir", path=str(tmp_path), label="an IR folder", name="ir"))


def test_the_server_s_errors_become_ours() -> None:
    too_long = {"code": 400, "type": "exceed_context_size_error", "message": "890 tokens over 512"}
    assert failure_of(too_long).code == "context_length_exceeded"
    assert failure_of({"code": 400, "type": "invalid_request_error", "message": "no"}).code == "invalid_request"
    assert failure_of({"code": 500, "message": "lost"}).code == "engine_failed"
    assert failure_of("words").code == "engine_failed"
