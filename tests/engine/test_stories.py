"""A trained Llama that others made: read, converted and run as numpy runs it, by every engine that can."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import stories
from conformance import Drive, text
from freehold.engine.base import Engine
from freehold.engine.choose import build, choose
from freehold.errors import ModelError
from freehold.model.convert import prepared
from freehold.model.encoder import Encoder
from freehold.model.gguf_read import describe
from freehold.model.source import Source, from_path
from specs import spec, timed

pytestmark = pytest.mark.skipif(not stories.FOLDER.is_dir(), reason=stories.MISSING)

BEGINNING = " Once upon a time, there was a little girl named Lily. She loved to play outside in the park."
"""What llama2.c's own tests expect of this model, greedily and from nothing."""
PROMPT = "Lily and Tom went to the park"


@pytest.fixture(scope="module")
def model() -> stories.Stories:
    return stories.read()


@pytest.fixture(scope="module")
def source(model: stories.Stories, tmp_path_factory: pytest.TempPathFactory) -> Source:
    folder = tmp_path_factory.mktemp("stories") / "stories260k"
    stories.write_hub_folder(model, folder)
    return from_path(folder)


@contextmanager
def loaded(source: Source, cache: Path, quantization: str) -> Iterator[Engine]:
    engine = build(spec("llamacpp", source, cache, threads=2, quantization=quantization))
    engine.load(timed)
    try:
        yield engine
    finally:
        engine.close()


def test_the_second_opinion_writes_what_the_models_maker_says(model: stories.Stories) -> None:
    assert stories.greedy(model, [stories.BOS], 60).startswith(BEGINNING)


def test_what_is_read_of_its_gguf(source: Source, cache: Path) -> None:
    path, _ = prepared(source, cache, "f32")
    info = describe(path)
    assert (info.architecture, info.tokenizer_model, info.parameters) == ("llama", "llama", 260_032)
    assert (info.layers, info.width, info.heads, info.kv_heads, info.context_tokens) == (5, 64, 8, 4, 512)
    assert (info.bos_id, info.stop_ids, info.add_bos) == (stories.BOS, (stories.EOS,), True)


def test_its_text_is_encoded_as_llama2c_does(source: Source, model: stories.Stories, cache: Path) -> None:
    encoder = Encoder.from_gguf(describe(prepared(source, cache, "f32")[0]))
    assert list(encoder.encode(PROMPT, bos=True)) == stories.encode(model, PROMPT)


@pytest.mark.parametrize("quantization", ["f32", "f16"])
def test_greedy_text_is_the_second_opinions(
    source: Source, model: stories.Stories, cache: Path, quantization: str
) -> None:
    with loaded(source, cache, quantization) as engine:
        drive = Drive(engine)
        alone = drive.ask(text((stories.BOS,), max_tokens=160))
        assert alone.text.lstrip(" ") == stories.greedy(model, [stories.BOS], 160).lstrip(" ")
        going_on = drive.ask(text(PROMPT, max_tokens=60))
        assert going_on.text == stories.greedy(model, stories.encode(model, PROMPT), 60)
        assert going_on.usage.prompt_tokens == len(stories.encode(model, PROMPT))


def test_eight_bits_begin_the_same_story(source: Source, cache: Path) -> None:
    with loaded(source, cache, "q8_0") as engine:
        assert engine.card.quantization == "q8_0"
        assert Drive(engine).ask(text((stories.BOS,), max_tokens=30)).text.strip().startswith(BEGINNING.strip()[:40])


def test_auto_takes_llamacpp_and_says_why(source: Source) -> None:
    choice = choose("auto", source)
    assert choice.engine == "llamacpp"
    assert "SentencePiece" in choice.reason


def test_openvino_refuses_it_by_name(source: Source, cache: Path) -> None:
    engine = build(spec("openvino", source, cache, threads=2))
    with pytest.raises(ModelError, match="can't run") as caught:
        engine.load(timed)
    assert "SentencePiece" in caught.value.why
    assert "llamacpp" in caught.value.next
