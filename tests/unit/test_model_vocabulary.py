"""Text out of token ids: joined pieces equal the whole, however the ids and bytes fall."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

import model_checkpoints as made
from freehold.errors import ModelError
from freehold.model.convert import convert
from freehold.model.gguf_read import describe
from freehold.model.vocabulary import TextStream, Vocabulary, byte_alphabet

BYTES = Vocabulary(byte_alphabet(), [1] * 256, "gpt2")
PIECES = made.sentence_piece_tokenizer()["model"]["vocab"]
SENTENCE = Vocabulary(list(PIECES), [2, 3, 3, *[6] * 256, *[1] * (len(PIECES) - 259)], "llama", leading_space=True)


def streamed(vocabulary: Vocabulary, ids: list[int], at_start: bool = False) -> str:
    stream = TextStream(vocabulary, at_start)
    return "".join([stream.feed(id) for id in ids]) + stream.end()


@given(st.binary(max_size=40))
def test_any_bytes_stream_as_they_decode(raw: bytes) -> None:
    assert streamed(BYTES, list(raw)) == raw.decode("utf-8", "replace") == BYTES.decode(raw)


@given(st.text(max_size=20))
def test_a_character_comes_with_its_last_byte(text: str) -> None:
    stream = TextStream(BYTES)
    for character in text.encode("utf-8", "ignore").decode():
        *first, last = character.encode()
        assert [stream.feed(byte) for byte in first] == [""] * len(first)
        assert stream.feed(last) == character
    assert stream.end() == ""


@given(st.lists(st.integers(0, len(PIECES) + 5), max_size=30), st.booleans())
def test_sentence_pieces_stream_as_they_decode(ids: list[int], at_start: bool) -> None:
    assert streamed(SENTENCE, ids, at_start) == SENTENCE.decode(ids, at_start)


def test_the_first_space_goes_only_at_the_start() -> None:
    hello = [PIECES["▁hello"], PIECES["▁a"]]
    assert streamed(SENTENCE, hello) == " hello a"
    assert streamed(SENTENCE, hello, at_start=True) == "hello a"
    assert streamed(SENTENCE, [1, *hello], at_start=True) == "hello a"
    assert streamed(SENTENCE, [PIECES["a"], *hello], at_start=True) == "a hello a"


def test_control_tokens_show_nothing_but_have_a_label(tmp_path: Path) -> None:
    made.write_checkpoint(tmp_path / "model")
    convert(tmp_path / "model", tmp_path / "x.gguf", "x", "q8_0")
    vocabulary = Vocabulary.from_gguf(describe(tmp_path / "x.gguf"))
    assert len(vocabulary) == made.ROWS
    assert vocabulary.decode([266, 267, 264, 280]) == "<tool_call>"
    assert [vocabulary.label(id) for id in (266, 267, 9999)] == ["<|im_end|>", "<tool_call>", ""]
    assert vocabulary.label(byte_alphabet().index(chr(0x120))) == " "
    assert vocabulary.label(0xC3) == "\ufffd"


@given(st.text(max_size=30))
def test_it_undoes_the_reference_tokenizer(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    ids = BYTE_LEVEL.encode(text, add_special_tokens=False).ids
    assert FROM_JSON.decode(ids) == text
    assert streamed(FROM_JSON, ids) == text


@given(st.text(st.sampled_from("abcdehlo é日xyz"), max_size=30))
def test_it_undoes_the_reference_sentence_piece(text: str) -> None:
    ids = SENTENCE_REFERENCE.encode(text, add_special_tokens=False).ids
    assert streamed(SENTENCE, ids, at_start=True) == text == SENTENCE_REFERENCE.decode(ids)


def test_from_a_tokenizer_json(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(made.sentence_piece_tokenizer()))
    vocabulary = Vocabulary.from_tokenizer_json(tmp_path / "tokenizer.json")
    assert vocabulary.decode([PIECES["▁hello"], 259], at_start=True) == "hello "
    assert vocabulary.pieces == SENTENCE.pieces


def test_other_kinds_are_refused() -> None:
    with pytest.raises(ModelError, match="of kind 'bert'"):
        Vocabulary([], [], "bert")


def test_odd_tokens_are_taken_as_they_stand() -> None:
    vocabulary = Vocabulary(["日", "ĠĠ", "<0xZZ>"], [1, 1, 1], "gpt2")
    assert vocabulary.pieces == ["日".encode(), b"  ", b"<0xZZ>"]
    assert Vocabulary(["<0xZZ>"], [6], "llama").pieces == [b"<0xZZ>"]


BYTE_LEVEL = Tokenizer.from_str(json.dumps(made.byte_level_tokenizer()))
SENTENCE_REFERENCE = Tokenizer.from_str(json.dumps(made.sentence_piece_tokenizer()))
_DOCUMENT = made.byte_level_tokenizer()
_ADDED = {token["id"]: token["content"] for token in _DOCUMENT["added_tokens"]}
FROM_JSON = Vocabulary([*_DOCUMENT["model"]["vocab"], *_ADDED.values()], [1] * 264 + [3, 3, 3, 4], "gpt2")
