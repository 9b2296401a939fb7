"""What OpenVINO's GGUF reader would fail on or misread, and that `auto` then takes llama.cpp."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import model_checkpoints as made
from freehold.engine.choose import choose
from freehold.engine.openvino.fit import why_not, why_not_folder
from freehold.engine.openvino.said import said
from freehold.model.convert import convert
from freehold.model.gguf_read import GgufInfo, describe
from freehold.model.gguf_write import Tensor, write_gguf
from freehold.model.source import Source

BOTH: dict[str, str | None] = {"openvino": "1", "llamacpp": "1", "remote": "", "sim": ""}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}  # fmt: skip


def converted(folder: Path, quantization: str = "f16", tokenizer: dict[str, Any] | None = None, **config: Any) -> Path:
    made.write_checkpoint(folder / "model", made.config(**config), tokenizer=tokenizer)
    convert(folder / "model", folder / "model.gguf", "m", quantization)
    return folder / "model.gguf"


def changed(info: GgufInfo, **fields: Any) -> GgufInfo:
    return dataclasses.replace(info, **fields)


@pytest.mark.parametrize("quantization", ["q8_0", "f16"])
def test_what_is_read_right(tmp_path: Path, quantization: str) -> None:
    assert why_not(describe(converted(tmp_path, quantization))) == ""
    assert why_not_folder(tmp_path / "model", quantization) == ""


@pytest.mark.parametrize("quantization", ["f32", "bf16"])
def test_matrices_of_types_that_it_misses(tmp_path: Path, quantization: str) -> None:
    assert quantization.upper() in why_not(describe(converted(tmp_path, quantization)))
    source = Source(kind="safetensors", path=str(tmp_path / "model"), label="m", name="m")
    assert choose("auto", source, BOTH).engine == "openvino"
    choice = choose("auto", source, BOTH, quantization)
    assert (choice.engine, quantization in choice.reason) == ("llamacpp", True)


@pytest.mark.parametrize(
    ("config", "words"),
    [({"rope_scaling": LLAMA3}, "rotary"), ({"rope_parameters": {"rope_type": "linear", "factor": 2.0}}, "rotary")],
)
def test_scaled_positions(tmp_path: Path, config: dict[str, Any], words: str) -> None:
    path = converted(tmp_path, **config)
    assert words in why_not(describe(path))
    assert words in why_not_folder(tmp_path / "model", "q8_0")
    assert choose("auto", Source(kind="gguf", path=str(path), label="m", name="m"), BOTH).engine == "llamacpp"


def test_biases_of_a_llama(tmp_path: Path) -> None:
    info = describe(converted(tmp_path))
    bias = Tensor("blk.0.attn_q.bias", (4,), "F32", lambda: [np.zeros(4, np.float32)])
    write_gguf(tmp_path / "biased.gguf", {"general.architecture": "llama"}, [bias])
    assert "biases" in why_not(changed(info, path=tmp_path / "biased.gguf"))
    assert "biases" not in why_not(changed(info, path=tmp_path / "biased.gguf", architecture="qwen2"))
    made.write_checkpoint(tmp_path / "b", made.config(attention_bias=True))
    assert "biases" in why_not_folder(tmp_path / "b", "q8_0")


def test_tokenizers(tmp_path: Path) -> None:
    info = describe(converted(tmp_path))
    assert "mystery" in why_not(changed(info, tokenizer_pre="mystery"))
    assert "unnamed" in why_not(changed(info, tokenizer_pre=""))
    assert "ends an answer" in why_not(changed(info, eos_id=None))
    assert "bert" in why_not(changed(info, tokenizer_model="bert"))
    assert "mamba" in why_not(changed(info, architecture="mamba"))
    pieces = converted(tmp_path / "pieces", tokenizer=made.sentence_piece_tokenizer(), bos_token_id=1, eos_token_id=2)
    assert "SentencePiece" in why_not(describe(pieces))
    assert "SentencePiece" in why_not_folder(tmp_path / "pieces" / "model", "q8_0")


def test_a_folder_that_cannot_be_read_is_left_to_load(tmp_path: Path) -> None:
    assert why_not_folder(tmp_path, "q8_0") == ""


def test_looking_imports_no_inference_library() -> None:
    code = (
        "import sys\nfrom freehold.engine.openvino.fit import why_not\n"
        "print([m for m in ('openvino', 'openvino_genai', 'tokenizers') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("Exception from src/cpp/core.cpp:126:\nCheck 'x' failed at src/a.cpp:12:\nNo such node", "No such node"),
        ('[12:00:00] /home/agent/json_schema.cc:12: Unsupported type "bogus"', 'Unsupported type "bogus"'),
        ("Exception from src/a.cpp:1:\n", "only RuntimeError"),
        ("", "only RuntimeError"),
    ],
)
def test_the_library_s_words_without_its_paths(words: str, told: str) -> None:
    assert said(RuntimeError(words)) == told
