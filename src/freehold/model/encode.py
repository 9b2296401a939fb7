"""Weights as GGUF wants them: f32, f16, bf16 or Q8_0, a few rows at a time so that memory stays small.

Q8_0 (ggml): blocks of 32 weights, each an f16 scale d = max|w| / 127 and 32 signed bytes round(w / d).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from freehold.errors import ModelError
from freehold.model.safetensors import StoredTensor

Array = np.ndarray[Any, np.dtype[Any]]

BLOCK = 32
CHUNK_WEIGHTS = 1 << 18
"""Weights encoded at once: 1 MiB in f32, which stays in the processor's cache."""
F16_MAX = 65504.0


def encoded(name: str, tensor: StoredTensor, kind: str, order: Array | None = None) -> Iterator[Array]:
    """The tensor's bytes as GGUF type `kind` (F32, F16, BF16, Q8_0), rows rearranged by `order`.

    Raises `ModelError` for weights that are not finite, or too large for f16.
    """
    weights = tensor.read()
    rows = weights.reshape(-1, weights.shape[-1]) if weights.ndim > 1 else weights.reshape(1, -1)
    if weights.ndim == 1 and order is not None:
        rows, order = rows[:, order], None
    step = max(1, CHUNK_WEIGHTS // rows.shape[1])
    for begin in range(0, rows.shape[0], step):
        chunk = rows[begin : begin + step] if order is None else rows[order[begin : begin + step]]
        if tensor.dtype == kind:
            yield chunk.view(np.uint8) if chunk.flags.c_contiguous else np.ascontiguousarray(chunk).view(np.uint8)
        else:
            yield _encode(name, to_f32(chunk, tensor.dtype), kind)


def to_f32(raw: Array, dtype: str) -> Array:
    """Numbers of a stored type as float32."""
    if dtype == "BF16":
        wide = raw.astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    return raw.astype(np.float32, copy=False)


def _encode(name: str, weights: Array, kind: str) -> Array:
    if kind == "Q8_0":
        return q8_0(name, weights)
    if kind == "BF16":
        return bf16(weights).view(np.uint8)
    if kind == "F16":
        if (largest := float(np.abs(weights).max(initial=0.0))) > F16_MAX:
            raise ModelError(
                f"Tensor {name} holds {largest:.4g}.",
                "f16 ends at 65504.",
                "Convert with --set model.quantization=bf16.",
            )
        return weights.astype("<f2").view(np.uint8)
    return weights.astype("<f4", copy=False).view(np.uint8)


def bf16(weights: Array) -> Array:
    """float32 to bfloat16 bits, rounded to nearest even; a NaN stays one."""
    bits = weights.view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    return np.where(np.isnan(weights), (bits >> 16) | 64, rounded).astype("<u2")


def q8_0(name: str, weights: Array) -> Array:
    """Rows of float32 (length a multiple of 32) to Q8_0 blocks, one row of bytes a row of weights."""
    blocks = weights.reshape(-1, BLOCK)
    largest = np.maximum(blocks.max(axis=1), -blocks.min(axis=1))
    if not np.isfinite(largest).all():
        raise ModelError(
            f"Tensor {name} holds NaN or infinity.", "The checkpoint is broken.", "Download or train it again."
        )
    scale = largest / np.float32(127)
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale > 0)
    out = np.empty((len(blocks), 2 + BLOCK), np.uint8)
    out[:, :2] = scale.astype("<f2").reshape(-1, 1).view(np.uint8)
    steps = blocks * inverse[:, None]
    steps += np.copysign(np.float32(0.5), steps)  # the cast below cuts off: together, halves go away from zero
    out[:, 2:] = steps.astype(np.int8).view(np.uint8)
    return out.reshape(weights.shape[0], -1)
