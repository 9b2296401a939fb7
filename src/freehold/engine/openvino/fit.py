"""Which models OpenVINO's GGUF reader reads right, told from metadata alone: no library is imported for it.

Its reader fails on some models, and misreads others without a word: it leaves out biases of a Llama and the
scaling of rotary positions. What isn't known to be right is refused here, and `--engine auto` takes another.
"""

from __future__ import annotations

from pathlib import Path

from freehold.core import Json
from freehold.errors import ModelError
from freehold.model.gguf_parse import TensorEntry, read_directory
from freehold.model.gguf_read import GgufInfo
from freehold.model.splits import STEPS
from freehold.model.tokenizer import read_json

ARCHITECTURES = ("llama", "qwen2", "qwen3")
WEIGHTS = ("F16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K")
"""Of matrices; norms and biases may be F32 too."""
_QUANTIZATIONS = ("q8_0", "f16")
_QWEN2_BIASES = ("attn_q.bias", "attn_k.bias", "attn_v.bias")
_BIASES = "OpenVINO's GGUF reader leaves out the biases that this model has."
_ROPE = "OpenVINO's GGUF reader ignores the scaled rotary positions that this model has."
_PIECES = "OpenVINO's GGUF reader knows byte-level BPE only, not SentencePiece."


def why_not(info: GgufInfo) -> str:
    """Why OpenVINO's reader would fail on this GGUF, or misread it without saying so; empty if it is fine."""
    if info.architecture not in ARCHITECTURES:
        return f"OpenVINO's GGUF reader knows {', '.join(ARCHITECTURES)}, not {info.architecture}."
    _, tensors, _ = read_directory(info.path)
    return _why_not_weights(info.architecture, tensors) or _why_not_rope(info, tensors) or _why_not_tokenizer(info)


def why_not_folder(folder: Path, quantization: str) -> str:
    """The same of safetensors not converted yet, from their small files; unreadable ones are for `load` to refuse."""
    if quantization not in _QUANTIZATIONS:
        return f"OpenVINO's GGUF reader reads matrices of {' or '.join(_QUANTIZATIONS)}, not {quantization}."
    try:
        config, tokenizer = read_json(folder / "config.json"), read_json(folder / "tokenizer.json")
    except ModelError:
        return ""
    if _scaled(config):
        return _ROPE
    if str(config.get("model_type", "")) != "qwen2" and (config.get("attention_bias") or config.get("mlp_bias")):
        return _BIASES
    model = tokenizer.get("model")
    if isinstance(model, dict) and model.get("byte_fallback"):
        return _PIECES
    return ""


def _why_not_weights(architecture: str, tensors: list[TensorEntry]) -> str:
    odd = {tensor.type for tensor in tensors if len(tensor.shape) > 1} - set(WEIGHTS)
    odd |= {tensor.type for tensor in tensors if len(tensor.shape) == 1} - {*WEIGHTS, "F32"}
    if odd:
        return f"OpenVINO's GGUF reader doesn't read weights of type {', '.join(sorted(odd))}."
    known = _QWEN2_BIASES if architecture == "qwen2" else ()
    if any(tensor.name.endswith(".bias") and not tensor.name.endswith(known) for tensor in tensors):
        return _BIASES
    return ""


def _why_not_rope(info: GgufInfo, tensors: list[TensorEntry]) -> str:
    rope = f"{info.architecture}.rope."
    scaled = info.scalars.get(f"{rope}scaling.type", "none") != "none"
    factors = [info.scalars.get(rope + key, 1.0) for key in ("scaling.factor", "scale_linear")]
    if scaled or any(factor not in (0.0, 1.0) for factor in factors):
        return _ROPE
    return _ROPE if any(tensor.name.startswith(("rope_freqs", "rope_factors")) for tensor in tensors) else ""


def _why_not_tokenizer(info: GgufInfo) -> str:
    if info.tokenizer_model != "gpt2":
        return (
            _PIECES
            if info.tokenizer_model == "llama"
            else f"The model's tokenizer, {info.tokenizer_model!r}, isn't known."
        )
    if info.tokenizer_pre not in STEPS:
        return f"The model's tokenizer splits text by {info.tokenizer_pre or 'an unnamed rule'!r}, which isn't known."
    if info.eos_id is None or not info.stop_ids:
        return "The model's metadata names no token that ends an answer, which the GGUF reader needs."
    return ""


def _scaled(config: Json) -> bool:
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = (scaling.get("rope_type") or scaling.get("type") or "default") if isinstance(scaling, dict) else "odd"
    return kind != "default"
