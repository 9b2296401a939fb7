"""Text into token ids: from a GGUF's metadata exactly what the checkpoint's own tokenizer gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

import model_checkpoints as made
from freehold.errors import ModelError
from freehold.model.convert import convert
from freehold.model.encoder import Encoder
from freehold.model.gguf_read import describe
from freehold.model.splits import DIGIT, LLAMA3, QWEN2, TEKKEN

TEXTS = st.text(st.characters(codec="utf-8") | st.sampled_from("thein 123'S\n\t<|_end>"), max_size=40)
MARKS = st.sampled_from(["", "<|im_end|>", "<tool_call>", "</s>", "\n\n", "12345", "I'LL the"])


def split(pattern: str) -> dict[str, Any]:
    steps = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
    ]
    return {"type": "Sequence", "pretokenizers": steps}


DIGITS = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    ],
}
KINDS: dict[str, Callable[[], dict[str, Any]]] = {
    "gpt-2": made.byte_level_tokenizer,
    "llama-bpe": lambda: made.byte_level_tokenizer(split(LLAMA3)),
    "qwen2": lambda: made.byte_level_tokenizer(split(QWEN2)),
    "tekken": lambda: made.byte_level_tokenizer(split(TEKKEN)),
    "smollm": lambda: made.byte_level_tokenizer(DIGITS),
    "default": made.sentence_piece_tokenizer,
}


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Encoder, Tokenizer]:
    folder = tmp_path_factory.mktemp("model")
    document = KINDS[request.param]()
    made.write_checkpoint(folder, tokenizer=document)
    convert(folder, folder / "x.gguf", "x", "q8_0")
    info = describe(folder / "x.gguf")
    assert info.tokenizer_pre == request.param
    if request.param in ("llama-bpe", "tekken"):
        document["model"]["ignore_merges"] = True  # their checkpoints say so
    return Encoder.from_gguf(info), Tokenizer.from_str(json.dumps(document))


@given(text=TEXTS, mark=MARKS, rest=TEXTS)
def test_it_agrees_with_the_reference(pair: tuple[Encoder, Tokenizer], text: str, mark: str, rest: str) -> None:
    encoder, reference = pair
    whole = text + mark + rest
    assert encoder.encode(whole) == reference.encode(whole, add_special_tokens=False).ids


def test_bos_is_put_first_only_where_wanted(tmp_path: Path) -> None:
    made.write_checkpoint(tmp_path, tokenizer=made.sentence_piece_tokenizer(), tokenizer_config={"bos_token": "<s>"})
    convert(tmp_path, tmp_path / "x.gguf", "x", "q8_0")
    encoder = Encoder.from_gguf(describe(tmp_path / "x.gguf"))
    plain = encoder.encode("hello")
    assert encoder.encode("hello", bos=True) == [1, *plain]
    assert encoder.encode("<s>hello", bos=True)[:1] == [1]
    assert encoder.encode("<s>hello", bos=True).count(1) == 1
    same = Encoder.from_tokenizer_json(tmp_path / "tokenizer.json", bos_id=1)
    assert same.encode("hello", bos=True) == [1, *plain]


def test_an_unknown_splitting_is_refused(tmp_path: Path) -> None:
    unheard = made.byte_level_tokenizer(split(DIGIT))
    made.write_checkpoint(tmp_path, tokenizer=unheard)
    with pytest.raises(ModelError, match=r"no name for here: the pattern is '\\\\p\{N\}'"):
        convert(tmp_path, tmp_path / "x.gguf", "x", "q8_0")
    prefixed = made.byte_level_tokenizer(
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    )
    made.write_checkpoint(tmp_path, tokenizer=prefixed)
    with pytest.raises(ModelError, match="a space before every text"):
        convert(tmp_path, tmp_path / "x.gguf", "x", "q8_0")


def test_broken_and_other_tokenizers_are_refused(tmp_path: Path) -> None:
    made.write_checkpoint(tmp_path)
    file = tmp_path / "tokenizer.json"
    for text, message in [
        ("{", "Can't read"),
        ("[]", "isn't a JSON object"),
        ("{}", "Can't make sense"),
        (json.dumps({"model": {"type": "Unigram", "vocab": []}}), "is of type 'Unigram'"),
        (
            json.dumps({"model": {"type": "BPE", "vocab": {"a": 99999}, "merges": [], "byte_fallback": True}}),
            "proportion",
        ),
    ]:
        file.write_text(text)
        with pytest.raises(ModelError, match=message):
            convert(tmp_path, tmp_path / "x.gguf", "x", "q8_0")
    file.write_text("{}")
    with pytest.raises(ModelError, match="Can't read"):
        Encoder.from_tokenizer_json(file)
    file.unlink()
    with pytest.raises(ModelError, match=r"has no tokenizer\.json"):
        convert(tmp_path, tmp_path / "x.gguf", "x", "q8_0")
