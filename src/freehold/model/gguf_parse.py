"""The bytes of a GGUF's head: every metadata value and the directory of tensors, weights untouched.

A parser of our own: the `gguf` package makes numpy views of every string, seconds for a large vocabulary.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Collection
from dataclasses import dataclass
from math import prod
from pathlib import Path

from freehold.errors import ModelError
from freehold.model.gguf_format import ALIGNMENT, ARRAY, MAGIC, SCALARS, STRING, TENSOR_TYPES, U32, U64, Value, padded

SKIPPED_ARRAYS = {"tokenizer.ggml.merges", "tokenizer.ggml.scores"}
"""Long, and nobody here needs them."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of the file's directory; `shape` in GGUF's order (row length first)."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    nbytes: int


def read_directory(
    path: Path, skipped: Collection[str] = SKIPPED_ARRAYS
) -> tuple[dict[str, Value], list[TensorEntry], int]:
    """All metadata (lists named in `skipped` stay empty), all tensors, and where their data begins.

    Raises `ModelError`.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            cursor = _Cursor(data)
            if data[:4] != MAGIC:
                raise ValueError("it doesn't begin with the letters GGUF")
            cursor.at = 4
            if (version := cursor.u32()) not in (2, 3):
                raise ValueError(f"format version {version} isn't 2 or 3")
            tensor_count, value_count = cursor.u64(), cursor.u64()
            values = {}
            for _ in range(value_count):
                key = cursor.text()
                values[key] = cursor.value(cursor.u32(), skip=key in skipped)
            tensors = [_tensor(cursor) for _ in range(tensor_count)]
            alignment = values.get("general.alignment", ALIGNMENT)
            start = padded(cursor.at, alignment if isinstance(alignment, int) and alignment > 0 else ALIGNMENT)
            end = max((start + t.offset + t.nbytes for t in tensors), default=start)
            if tensors and end > len(data):
                raise ValueError(f"{end:,} bytes are announced and {len(data):,} are there: it is cut short")
            return values, tensors, start
    except FileNotFoundError:
        raise ModelError(f"There is no file {path}.", next="Check the path.") from None
    except OSError as error:
        raise ModelError(f"Can't read {path}.", f"{error.strerror}.", "Check the path and its permissions.") from error
    except (struct.error, ValueError, IndexError, OverflowError) as error:
        raise corrupt(path, "it ends in the middle" if isinstance(error, struct.error) else str(error)) from error


class _Cursor:
    """A place in the file, moved by reading."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.size = len(data)
        self.at = 0

    def u32(self) -> int:
        (number,) = U32.unpack_from(self.data, self.at)
        self.at += 4
        return int(number)

    def u64(self) -> int:
        (number,) = U64.unpack_from(self.data, self.at)
        self.at += 8
        return int(number)

    def text(self) -> str:
        start = self.at + 8
        self.at = start + self.u64()
        if self.at > self.size:
            raise ValueError("a text in it runs past its end")
        return self.data[start : self.at].decode("utf-8", "replace")

    def value(self, kind: int, skip: bool = False) -> Value:
        if kind == STRING:
            return self.text()
        if kind == ARRAY:
            return self.array(skip)
        code = struct.Struct("<" + self._code(kind))
        (number,) = code.unpack_from(self.data, self.at)
        self.at += code.size
        return number  # type: ignore[no-any-return]

    def array(self, skip: bool) -> Value:
        kind, count = self.u32(), self.u64()
        if count > self.size - self.at:
            raise ValueError(f"a list in it claims {count:,} entries")
        if kind == STRING:
            return self.texts(count, skip)
        size = count * struct.calcsize("<" + self._code(kind))
        self.at += size
        if skip:
            return []
        return list(struct.unpack_from(f"<{count}{SCALARS[kind]}", self.data, self.at - size))

    def texts(self, count: int, skip: bool) -> list[str]:
        """The one long loop: a vocabulary has 150,000 texts."""
        data, at, read = self.data, self.at, U64.unpack_from
        found: list[bytes] = []
        for _ in range(count):
            (length,) = read(data, at)
            start = at + 8
            at = start + length
            if not skip:
                found.append(data[start:at])
        if at > self.size:
            raise ValueError("a text in it runs past its end")
        self.at = at
        together = (
            b"\0".join(found).decode("utf-8", "replace").split("\0") if found else []
        )  # thrice as fast as one by one
        return together if len(together) == len(found) else [text.decode("utf-8", "replace") for text in found]

    def _code(self, kind: int) -> str:
        if kind not in SCALARS:
            raise ValueError(f"a value in it has the unknown type {kind}")
        return SCALARS[kind]


def _tensor(cursor: _Cursor) -> TensorEntry:
    name = cursor.text()
    dimensions = cursor.u32()
    if not 0 < dimensions <= 4:
        raise ValueError(f"tensor {name!r} has {dimensions} dimensions")
    shape = tuple(cursor.u64() for _ in range(dimensions))
    kind, offset = cursor.u32(), cursor.u64()
    if kind not in TENSOR_TYPES:
        raise ValueError(f"tensor {name!r} has the unknown type {kind}")
    label, block, size = TENSOR_TYPES[kind]
    return TensorEntry(name, shape, label, offset, prod(shape) // block * size)


def corrupt(path: Path, why: str) -> ModelError:
    """The error for a file whose bytes make no sense."""
    return ModelError(
        f"{path} isn't a GGUF that can be read.", f"The file is corrupt: {why}.", "Download or convert it again."
    )
