"""Broken checkpoints are refused in words, whatever is wrong with their bytes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import model_checkpoints as made
from freehold.errors import ModelError
from freehold.model.safetensors import read_checkpoint

TENSORS = {"a": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.ones(5, np.float32)}


def test_values_come_back(tmp_path: Path) -> None:
    made.save(tmp_path / "model.safetensors", TENSORS)
    found = read_checkpoint(tmp_path)
    np.testing.assert_array_equal(found["a"].read(), TENSORS["a"])
    np.testing.assert_array_equal(found["b"].read(), TENSORS["b"])


@given(cut=st.integers(0, 200))
def test_any_cut_is_noticed(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    folder = tmp_path_factory.mktemp("cut")
    made.save(folder / "model.safetensors", TENSORS)
    raw = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(raw[: min(cut, len(raw) - 1)])
    with pytest.raises(ModelError):
        read_checkpoint(folder)


@given(place=st.integers(8, 150), byte=st.integers(0, 255))
def test_any_wrong_byte_of_the_header_is_noticed_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    folder = tmp_path_factory.mktemp("flip")
    made.save(folder / "model.safetensors", TENSORS)
    raw = bytearray((folder / "model.safetensors").read_bytes())
    raw[place] = byte
    (folder / "model.safetensors").write_bytes(raw)
    try:
        for tensor in read_checkpoint(folder).values():
            tensor.read()
    except ModelError:
        pass


def test_missing_and_wandering_shards_are_refused(tmp_path: Path) -> None:
    made.save(tmp_path / "model-00001-of-00002.safetensors", TENSORS)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "gone.safetensors"}}))
    with pytest.raises(ModelError, match=r"lacks gone.safetensors"):
        read_checkpoint(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    with pytest.raises(ModelError, match="beside its index"):
        read_checkpoint(tmp_path)
    index.write_text("[1]")
    with pytest.raises(ModelError, match="isn't a safetensors index"):
        read_checkpoint(tmp_path)


def test_other_number_types_are_named(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(ModelError, match="is of type F8_E4M3"):
        read_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="has no weights"):
        read_checkpoint(tmp_path)
