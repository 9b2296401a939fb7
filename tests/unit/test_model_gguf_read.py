"""What `describe` says of a GGUF, and that no broken file gets past it as anything but a `ModelError`."""

from __future__ import annotations

import contextlib
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import model_checkpoints as made
from freehold.errors import ModelError
from freehold.model.convert import convert
from freehold.model.gguf_format import TENSOR_TYPES
from freehold.model.gguf_read import describe
from freehold.model.gguf_write import Tensor, write_gguf


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gguf")
    made.write_checkpoint(folder / "model")
    convert(folder / "model", folder / "tiny.gguf", "tiny", "q8_0")
    return folder / "tiny.gguf"


def test_the_tensor_types_are_ggmls() -> None:
    theirs = {int(kind): (kind.name, *sizes) for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    assert {kind: theirs[kind] for kind in TENSOR_TYPES} == TENSOR_TYPES


def test_shape_and_sizes(path: Path) -> None:
    info = describe(path)
    reader = gguf.GGUFReader(path)
    assert (info.architecture, info.name, info.quantization) == ("llama", "tiny", "Q8_0")
    assert info.parameters == sum(int(tensor.n_elements) for tensor in reader.tensors)
    assert info.weight_bytes == sum(int(tensor.n_bytes) for tensor in reader.tensors)
    assert (info.layers, info.width, info.heads, info.kv_heads) == (2, 64, 4, 2)
    assert (info.key_dim, info.value_dim, info.context_tokens) == (32, 32, 128)
    assert info.kv_bytes_per_token == 2 * 2 * (32 + 32) * 2  # layers, heads, keys and values, f16


def test_tokenizer_and_template(path: Path) -> None:
    info = describe(path)
    assert (info.tokenizer_model, info.tokenizer_pre) == ("gpt2", "gpt-2")
    assert info.tokens[264:268] == [*made.SPECIAL, "<tool_call>"]
    assert (info.bos_id, info.eos_id, info.pad_id, info.stop_ids) == (264, 266, None, (266,))
    assert info.text_of(info.eos_id) == "<|im_end|>"
    assert info.text_of(None) == ""
    assert info.add_bos is False
    assert info.chat_template == made.TEMPLATE
    assert info.scalars["llama.block_count"] == 2


def test_a_file_by_the_reference_writer_reads_the_same(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "theirs.gguf", "llama")
    writer.add_block_count(1)
    writer.add_embedding_length(32)
    writer.add_head_count(4)
    writer.add_head_count_kv([2])
    writer.add_context_length(77)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["<unk>", "\0zero\0", "</s>", "<|im_end|>", "é"])
    writer.add_token_types([2, 1, 3, 3, 1])
    writer.add_eos_token_id(2)
    writer.add_float64("some.float", 0.5)
    writer.add_tensor("token_embd.weight", np.ones((5, 32), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    info = describe(tmp_path / "theirs.gguf")
    assert info.tokens == ["<unk>", "\0zero\0", "</s>", "<|im_end|>", "é"]
    assert (info.stop_ids, info.kv_heads, info.context_tokens) == ((2, 3), 2, 77)
    assert (info.quantization, info.add_bos, info.key_dim) == ("F16", True, 8)
    assert info.scalars["some.float"] == 0.5


@settings(deadline=None)
@given(data=st.data())
def test_any_cut_is_noticed(path: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    raw = path.read_bytes()
    cut = data.draw(st.integers(0, len(raw) - 64) | st.integers(0, 2000))
    broken = tmp_path_factory.mktemp("cut") / "broken.gguf"
    broken.write_bytes(raw[:cut])
    with pytest.raises(ModelError, match=r"broken\.gguf isn't a GGUF"):
        describe(broken)


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_any_wrong_bytes_are_noticed_or_harmless(
    path: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    raw = bytearray(path.read_bytes())
    place = data.draw(st.integers(4, 1500) | st.integers(4, 15_000))
    new = data.draw(st.binary(min_size=1, max_size=8))
    raw[place : place + len(new)] = new
    broken = tmp_path_factory.mktemp("flip") / "broken.gguf"
    broken.write_bytes(raw)
    with contextlib.suppress(ModelError):
        describe(broken)


def test_other_files_and_parts_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no file"):
        describe(tmp_path / "none.gguf")
    with pytest.raises(ModelError, match="Can't read"):
        describe(tmp_path)
    (tmp_path / "empty.gguf").touch()
    with pytest.raises(ModelError, match="isn't a GGUF that can be read"):
        describe(tmp_path / "empty.gguf")
    part = Tensor("a", (1, 4), "F32", lambda: [np.zeros((1, 4), np.float32)])
    write_gguf(tmp_path / "part.gguf", {"general.architecture": "llama", "split.count": 3}, [part])
    with pytest.raises(ModelError, match="one of 3 parts"):
        describe(tmp_path / "part.gguf")


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def chunks() -> list[np.ndarray]:
        raise ModelError("broken weights")

    with pytest.raises(ModelError):
        write_gguf(tmp_path / "x.gguf", {"general.architecture": "llama"}, [Tensor("a", (1, 4), "F32", chunks)])
    assert list(tmp_path.iterdir()) == []
