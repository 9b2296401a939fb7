"""The `openvino` engine's own: its cache of converted models, its KV cache, what breaks a pipeline and what doesn't."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from conformance import Drive, chat, text
from freehold.engine.base import EngineSpec
from freehold.engine.openvino.engine import OpenVinoEngine
from freehold.engine.openvino.model import BATCHED_TOKENS, _convert, is_whole
from freehold.errors import InvalidRequest, UnsupportedParameter
from freehold.model.source import Source
from schemas import SCHEMAS
from specs import CONTEXT_TOKENS, STARTER, spec, timed

THE_STARTER = Source(kind="safetensors", path=str(STARTER), label="the built-in starter", name="starter")


def starter(cache: Path, **fields: Any) -> EngineSpec:
    return spec("openvino", THE_STARTER, cache, threads=2, **fields)


def opened(cache: Path, **fields: Any) -> OpenVinoEngine:
    engine = OpenVinoEngine(starter(cache, **fields))
    engine.load(timed)
    return engine


@pytest.fixture(scope="module")
def engine(cache: Path) -> Iterator[OpenVinoEngine]:
    engine = opened(cache)
    yield engine
    engine.close()


@pytest.fixture
def drive(engine: OpenVinoEngine) -> Drive:
    return Drive(engine)


# ---- privacy --------------------------------------------------------------------------------------

WATCHED = """
import socket, sys
from pathlib import Path
asked = []
socket.getaddrinfo = lambda *given, **named: asked.append(given) or []
socket.socket.connect = lambda self, address: asked.append(address)
from freehold.engine.openvino.engine import OpenVinoEngine
import openvino, openvino_genai, openvino.tools.ovc, threading
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join(2)
print(asked, "openvino.tools.ovc.telemetry_stub" in sys.modules, sorted(path.name for path in Path.home().iterdir()))
"""


def test_importing_openvino_tells_nobody(tmp_path: Path) -> None:
    env = {**os.environ, "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run([sys.executable, "-c", WATCHED], capture_output=True, text=True, check=True, env=env)
    assert ran.stdout.strip() == "[] True []"


# ---- the cache of converted models ----------------------------------------------------------------


def folder_of(cache: Path) -> Path:
    (folder,) = (path for path in (cache / "openvino").iterdir() if (path / "complete.json").is_file())
    return folder


def test_a_damaged_cache_is_made_again(tmp_path: Path) -> None:
    engine = opened(tmp_path)
    before = Drive(engine).ask(chat(ignore_eos=True)).usage
    engine.close()
    folder = folder_of(tmp_path)
    assert is_whole(folder)
    left = tmp_path / "openvino" / "making-left-by-a-killed-process"
    left.mkdir()
    os.utime(left, (time.time() - 1e6, time.time() - 1e6))
    weights = folder / "openvino_model.bin"
    weights.chmod(0o644)
    with weights.open("r+b") as file:
        file.truncate(weights.stat().st_size // 2)
    assert not is_whole(folder)
    engine = opened(tmp_path)
    assert Drive(engine).ask(chat(ignore_eos=True)).usage == before
    engine.close()
    assert is_whole(folder)
    assert not left.exists()


def test_a_whole_conversion_is_left_alone(cache: Path, engine: OpenVinoEngine) -> None:
    folder = folder_of(cache)
    before = folder.stat().st_ino
    (gguf,) = (cache / "gguf").glob("*.gguf")
    _convert(gguf, folder)  # as a worker does that waited for another's conversion
    assert folder.stat().st_ino == before


@pytest.mark.parametrize("damage", ["flip", "remove", "add", "manifest"])
def test_damage_is_seen(tmp_path: Path, cache: Path, engine: OpenVinoEngine, damage: str) -> None:
    whole = folder_of(cache)
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in whole.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    assert is_whole(folder)
    graph = folder / "openvino_model.xml"
    match damage:
        case "flip":
            graph.write_bytes(graph.read_bytes().replace(b"1", b"2", 1))
        case "remove":
            graph.unlink()
        case "add":
            (folder / "more.xml").write_text("<net/>")
        case "manifest":
            (folder / "complete.json").write_text("{")
    assert not is_whole(folder)


def test_ir_folder_is_a_source(tmp_path: Path, cache: Path, engine: OpenVinoEngine) -> None:
    for file in [*folder_of(cache).glob("openvino_*"), *STARTER.glob("*.json"), *STARTER.glob("*.jinja")]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    source = Source(kind="ir", path=str(tmp_path), label="an IR folder", name="starter")
    from_ir = OpenVinoEngine(spec("openvino", source, cache, threads=2))
    card = from_ir.load(timed)
    assert card.kv_bytes_per_token == engine.card.kv_bytes_per_token
    assert Drive(from_ir).ask(chat(ignore_eos=True)).text == Drive(engine).ask(chat(ignore_eos=True)).text
    from_ir.close()


# ---- the KV cache ---------------------------------------------------------------------------------


def test_far_more_answers_than_the_cache_holds_all_finish(cache: Path) -> None:
    each = 800
    engine = opened(cache, max_batch=64, kv_cache_bytes=2 * CONTEXT_TOKENS * each)
    drive = Drive(engine)
    answers = [
        drive.add(chat(f"Question {i}, asked at some length.", max_tokens=200, ignore_eos=True)) for i in range(64)
    ]
    drive.finish()
    assert {(answer.finish, answer.tokens) for answer in answers} == {("length", 200)}
    engine.close()


def test_a_small_cache_makes_the_context_small(cache: Path) -> None:
    engine = opened(cache, kv_cache_bytes=200_000)
    assert engine.card.context_tokens < CONTEXT_TOKENS
    answer = Drive(engine).ask(text((20,) * 40, max_tokens=None, ignore_eos=True))
    assert answer.finish == "length"
    assert answer.tokens == engine.card.context_tokens - 40
    engine.close()


def test_an_aborted_answer_gives_its_place_back_by_the_next_step(cache: Path) -> None:
    engine = opened(cache, max_batch=1)
    drive = Drive(engine)
    first = drive.add(chat(id="first", max_tokens=300, ignore_eos=True))
    second = drive.add(chat(max_tokens=3, ignore_eos=True))
    drive.until(lambda: first.tokens >= 2)
    engine.abort("first")
    drive.step()
    assert second.tokens == 1
    engine.abort(next(id for id, _ in drive.answers if id != "first"))
    drive.step()
    assert engine.stats().kv_usage == 0
    engine.close()


def test_prompt_tokens_are_counted_as_the_scheduler_reads_them(drive: Drive) -> None:
    prompts = [tuple(range(20 + i, 320 + i)) for i in (0, 300)]
    answers = [drive.add(text(prompt, max_tokens=4, ignore_eos=True)) for prompt in prompts]
    steps = []
    while not all(answer.ended for answer in answers):
        steps.append((drive.step(), [answer.tokens for answer in answers]))
    read = [step.prefill_tokens or 0 for step, _ in steps]
    assert sum(read) == 600
    assert max(read) <= BATCHED_TOKENS
    assert [first for _, (first, _) in steps][:2] == [0, 1]
    assert [second for _, (_, second) in steps][:3] == [0, 0, 1]
    assert steps[0][0].context_tokens == BATCHED_TOKENS


# ---- what breaks a pipeline -----------------------------------------------------------------------


def test_what_it_cannot_do_is_refused_by_name(drive: Drive) -> None:
    for asked, name in (
        ({"logit_bias": {1: 1.0}}, "logit_bias"),
        ({"logprobs": True, "top_logprobs": 2}, "top_logprobs"),
    ):
        with pytest.raises(UnsupportedParameter) as caught:
            drive.add(chat(**asked))
        assert caught.value.param == name
    drive.answers.clear()


@pytest.mark.parametrize("ids", [(), (-1,), (4096,), (1 << 40,)])
def test_token_ids_that_are_none(drive: Drive, ids: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        drive.engine.add(text(ids))
    assert caught.value.param == "prompt"


@pytest.mark.parametrize("prompt", ["a\x00b", "\ud800", " ", "\u200b" * 50, "🙂" * 100, "<|end|>" * 9, "<|nope|>"])
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


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": [1, 12, 123, 1234, 12345, 22, 223, 2234, 13, 134, 1345]},
        {"anyOf": [{"const": text} for text in ("a", "ab", "abba", "bab", "babb", "b")]},
        {"type": "integer", "minimum": 12, "maximum": 12345},
        {"type": "integer", "minimum": -50_000, "maximum": 70_000},
    ],
)
def test_values_that_begin_alike_are_not_mixed(drive: Drive, schema: dict[str, Any]) -> None:
    answers = [drive.add(chat(json_schema=schema, temperature=2.0, seed=seed, max_tokens=40)) for seed in range(20)]
    drive.finish()
    for answer in answers:
        jsonschema.validate(json.loads(answer.text), schema)


def test_a_step_that_raises_fails_what_ran_and_the_engine_lives(engine: OpenVinoEngine, drive: Drive) -> None:
    from openvino_genai import StructuredOutputConfig

    alone = drive.ask(chat(max_tokens=8, ignore_eos=True)).text
    innocent = drive.add(chat(max_tokens=100, ignore_eos=True))
    guilty = drive.add(chat(json_schema={"type": "object"}))
    # Past the check, a schema that the library's grammar compiler chokes on.
    engine._waiting[-1].config.structured_output_config = StructuredOutputConfig(json_schema='{"type": "bogus"}')
    drive.until(lambda: innocent.ended and guilty.ended)
    for answer in (innocent, guilty):
        assert answer.failure is not None
        assert answer.failure.code == "engine_failed"
        assert "bogus" in answer.failure.why
    assert drive.ask(chat(max_tokens=8, ignore_eos=True)).text == alone
