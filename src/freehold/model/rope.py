"""Rotary position scaling, from config.json to GGUF: none, linear, yarn, or Llama 3's own.

transformers 5 writes `rope_parameters`, older versions `rope_theta` and `rope_scaling`; both are read.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from freehold.core import Json
from freehold.errors import ModelError
from freehold.model.gguf_format import Value

Array = np.ndarray[Any, np.dtype[Any]]

DEFAULT_THETA = 10_000.0


def rope_values(arch: str, config: Json, head_dim: int) -> tuple[dict[str, Value], Array | None]:
    """GGUF keys, and the frequency divisors (`rope_freqs.weight`, head_dim / 2 of them) that Llama 3 needs."""
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = float(scaling.get("rope_theta") or config.get("rope_theta") or DEFAULT_THETA)
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if float(scaling.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0) != 1.0:
        raise _unsupported("rotates only a part of each head")
    values: dict[str, Value] = {f"{arch}.rope.freq_base": theta, f"{arch}.rope.dimension_count": head_dim}
    try:
        if kind == "llama3":
            return values, llama3_divisors(scaling, theta, head_dim)
        if kind in ("linear", "yarn"):
            values[f"{arch}.rope.scaling.type"] = kind
            values[f"{arch}.rope.scaling.factor"] = float(scaling["factor"])
        if kind == "yarn":
            values |= _yarn(arch, scaling, int(config["max_position_embeddings"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            "The model's rope scaling can't be read.", f"config.json lacks or misstates {error}."
        ) from error
    if kind not in ("default", "linear", "yarn"):
        raise _unsupported(f"scales its positions by {kind!r}")
    return values, None


def llama3_divisors(scaling: Json, theta: float, head_dim: int) -> Array:
    """What each frequency is divided by: 1 for short waves, `factor` for long ones, a smooth step between.

    As transformers' `_compute_llama3_parameters` (Llama 3.1 model card).
    """
    factor, low, high = (float(scaling[key]) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    old_context = float(scaling["original_max_position_embeddings"])
    frequency = theta ** -(np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    wave = 2 * math.pi / frequency
    smooth = (old_context / wave - low) / (high - low)
    between = 1 / ((1 - smooth) / factor + smooth)
    divisors = np.where(wave < old_context / high, 1.0, np.where(wave > old_context / low, factor, between))
    return divisors.astype(np.float32)


def _yarn(arch: str, scaling: Json, context: int) -> dict[str, Value]:
    unsupported = [key for key in ("mscale", "mscale_all_dim", "attention_factor") if scaling.get(key)]
    if unsupported or scaling.get("truncate") is False:
        raise _unsupported(f"uses yarn with {', '.join(unsupported) or 'truncate=false'}")
    original = int(scaling.get("original_max_position_embeddings") or context)
    values: dict[str, Value] = {f"{arch}.rope.scaling.original_context_length": original}
    for key in ("beta_fast", "beta_slow"):
        if key in scaling:
            values[f"{arch}.rope.scaling.yarn_{key}"] = float(scaling[key])
    return values


def _unsupported(what: str) -> ModelError:
    return ModelError(
        f"This model {what}.",
        "That has no counterpart in the conversion to GGUF.",
        "Take a ready-made GGUF of this model.",
    )
