"""Reads a safetensors checkpoint, whole or in shards, as memory maps: a JSON header, then raw tensors.

Our own few lines, because numpy (and the safetensors package with it) has no bfloat16: it comes as uint16.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from freehold.errors import ModelError

Array = np.ndarray[Any, np.dtype[Any]]

DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
INDEX = "model.safetensors.index.json"
MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where one tensor lies. `dtype` is F32, F16 or BF16."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int

    def read(self) -> Array:
        """A read-only view of the file; bfloat16 as uint16."""
        mapped = np.memmap(self.file, dtype=DTYPES[self.dtype], mode="r", offset=self.offset, shape=(prod(self.shape),))
        return np.asarray(mapped).reshape(self.shape)


def shard_files(folder: Path) -> list[Path]:
    """The weight files of a folder: what the index names, else the one there is. Raises `ModelError`."""
    index = folder / INDEX
    if not index.is_file():
        found = sorted(folder.glob("*.safetensors"))
        whole = [path for path in found if path.name == "model.safetensors"]
        numbered = [path for path in found if "-of-" in path.name]
        return whole or numbered or found
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"Can't read {index}.", f"It isn't a safetensors index: {error}.", "Download it again."
        ) from error
    if outside := [name for name in names if not isinstance(name, str) or Path(name).name != name]:
        raise ModelError(
            f"{index} names {outside[0]!r}.", "A shard must lie beside its index.", "Get the model elsewhere."
        )
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise ModelError(
            f"{folder} lacks {missing[0]}" + (f" and {len(missing) - 1} other parts." if len(missing) > 1 else "."),
            f"{INDEX} names {len(names)} parts.",
            "Finish the download or copy the missing parts there.",
        )
    return [folder / name for name in names]


def read_checkpoint(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of the checkpoint by its name. Raises `ModelError` for files that are cut short or wrong."""
    tensors: dict[str, StoredTensor] = {}
    for file in shard_files(folder):
        tensors |= _read_file(file)
    if not tensors:
        raise ModelError(
            f"{folder} has no weights.", "It holds no *.safetensors file.", "Copy the model's weights there."
        )
    return tensors


def header_bytes(file: Path) -> bytes:
    """The file's JSON header, raw. Raises `ModelError`."""
    try:
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            room = file.stat().st_size - 8
            if not 0 < size <= min(room, MAX_HEADER_BYTES):
                raise _corrupt(file, f"a header of {size:,} bytes is announced and {max(room, 0):,} are there")
            return stream.read(size)
    except OSError as error:
        raise ModelError(f"Can't read {file}.", f"{error.strerror}.", "Check its permissions.") from error


def _read_file(file: Path) -> dict[str, StoredTensor]:
    raw = header_bytes(file)
    start, end = 8 + len(raw), file.stat().st_size
    try:
        entries = json.loads(raw)
        return {
            name: _stored(file, name, entry, start, end) for name, entry in entries.items() if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _corrupt(file, f"its header can't be read ({error})") from error


def _stored(file: Path, name: str, entry: Mapping[str, Any], start: int, end: int) -> StoredTensor:
    dtype, shape = str(entry["dtype"]), tuple(int(size) for size in entry["shape"])
    first, last = (int(offset) for offset in entry["data_offsets"])
    if dtype not in DTYPES:
        raise ModelError(
            f"Tensor {name} in {file.name} is of type {dtype}.",
            "Only F32, F16 and BF16 weights can be converted.",
            "Take the model's unquantised weights, or a ready-made GGUF of it.",
        )
    if last - first != prod(shape) * DTYPES[dtype].itemsize or first < 0:
        raise ValueError(f"the size of {name} doesn't fit its shape")
    if start + last > end:
        raise _corrupt(file, f"it is cut short: {start + last:,} bytes are needed and {end:,} are there")
    return StoredTensor(file, dtype, shape, start + first)


def _corrupt(file: Path, why: str) -> ModelError:
    return ModelError(
        f"{file} isn't a safetensors file that can be read.", f"The file is corrupt: {why}.", "Download it again."
    )
