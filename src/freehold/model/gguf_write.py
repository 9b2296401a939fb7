"""Writes a GGUF as a stream: metadata and directory first, then one tensor after another, then its real name.

Nothing is kept in memory but the head; a file under its final name is always whole.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from freehold.model.gguf_format import (
    ARRAY,
    BOOL,
    FLOAT32,
    INT32,
    MAGIC,
    SCALARS,
    STRING,
    TENSOR_TYPE_IDS,
    TENSOR_TYPES,
    U32,
    U64,
    UINT32,
    VERSION,
    Scalar,
    Value,
    padded,
)

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor to write. `shape` is numpy's (rows first); `chunks()` gives its encoded bytes in order."""

    name: str
    shape: tuple[int, ...]
    type: str
    chunks: Callable[[], Iterable[Array]]

    @property
    def nbytes(self) -> int:
        _, block, size = TENSOR_TYPES[TENSOR_TYPE_IDS[self.type]]
        return prod(self.shape) // block * size


def write_gguf(
    path: Path, values: Mapping[str, Value], tensors: Sequence[Tensor], wrote: Callable[[int], None] = lambda _: None
) -> None:
    """Write to a temporary file beside `path`, then rename. `wrote(bytes)` hears of each chunk."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with draft.open("wb") as file:
            file.write(_head(values, tensors))
            for tensor in tensors:
                begin = file.tell()
                for chunk in tensor.chunks():
                    file.write(np.ascontiguousarray(chunk).data)
                    wrote(chunk.nbytes)
                size = file.tell() - begin
                assert size == tensor.nbytes, f"{tensor.name}: {size} bytes instead of {tensor.nbytes}"
                file.write(bytes(padded(size) - size))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _head(values: Mapping[str, Value], tensors: Sequence[Tensor]) -> bytes:
    parts = [MAGIC, U32.pack(VERSION), U64.pack(len(tensors)), U64.pack(len(values))]
    for key, value in values.items():
        parts += [_text(key), _value(value)]
    offset = 0
    for tensor in tensors:
        parts += [_text(tensor.name), U32.pack(len(tensor.shape))]
        parts += [U64.pack(size) for size in reversed(tensor.shape)]
        parts += [U32.pack(TENSOR_TYPE_IDS[tensor.type]), U64.pack(offset)]
        offset += padded(tensor.nbytes)
    head = b"".join(parts)
    return head.ljust(padded(len(head)), b"\0")


def _text(text: str) -> bytes:
    raw = text.encode()
    return U64.pack(len(raw)) + raw


def _value(value: Value) -> bytes:
    if not isinstance(value, list):
        kind = _kind(value)
        return U32.pack(kind) + _packed(kind, value)
    kind = _kind(value[0]) if value else STRING
    if kind == UINT32:
        kind = INT32  # lists of ids and types are signed by custom
    if kind == STRING:
        body = b"".join(_text(item) for item in value if isinstance(item, str))
    else:
        body = struct.pack(f"<{len(value)}{SCALARS[kind]}", *value)
    return U32.pack(ARRAY) + U32.pack(kind) + U64.pack(len(value)) + body


def _kind(value: Scalar) -> int:
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, int):
        return UINT32 if value >= 0 else INT32
    return FLOAT32 if isinstance(value, float) else STRING


def _packed(kind: int, value: Scalar) -> bytes:
    return _text(value) if isinstance(value, str) else struct.pack("<" + SCALARS[kind], value)
