"""The model families that can be converted, and how each one's tensors and settings are called in GGUF.

Llama and Mistral need the rows of Q and K rearranged: Hugging Face rotates halves of a head, GGUF's `llama`
rotates neighbours. Qwen2 (biases) and Qwen3 (norms on Q and K) keep Hugging Face's order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from freehold.core import Json
from freehold.errors import ModelError
from freehold.model.gguf_format import Value
from freehold.model.rope import rope_values
from freehold.model.safetensors import StoredTensor

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Family:
    arch: str
    """GGUF's `general.architecture`."""
    rearranged: bool
    """Rows of Q and K change order."""
    fixed_head: bool = False
    """Engines take the head's size for width / heads."""


FAMILIES = {
    "LlamaForCausalLM": Family("llama", rearranged=True),
    "MistralForCausalLM": Family("llama", rearranged=True),
    "Qwen2ForCausalLM": Family("qwen2", rearranged=False, fixed_head=True),
    "Qwen3ForCausalLM": Family("qwen3", rearranged=False),
}

OUTER = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
INNER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)")
IGNORED = re.compile(r".*rotary_emb\.inv_freq")


@dataclass(frozen=True, slots=True)
class Planned:
    """One tensor on its way: its GGUF name, where it lies, and the new order of its rows if that changes."""

    name: str
    stored: StoredTensor
    order: Array | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What the GGUF of a checkpoint will hold."""

    arch: str
    values: dict[str, Value]
    tensors: list[Planned]
    rope_divisors: Array | None
    remarks: list[str]


def plan(config: Json, stored: Mapping[str, StoredTensor]) -> Plan:
    """Raises `ModelError` for a family, a setting or a tensor that isn't known, or one that is missing."""
    family = _family(config)
    try:
        shape = _Shape(config)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError("config.json can't be read.", f"It lacks or misstates {error}.", "Copy it again.") from error
    if family.fixed_head and shape.head_dim * shape.heads != shape.width:
        raise ModelError(
            f"This model's heads are {shape.head_dim} wide.",
            f"In GGUF a {family.arch} model's are always {shape.width // shape.heads}, its width over its heads.",
        )
    rope, divisors = rope_values(family.arch, config, shape.head_dim)
    context, remarks = _context(config)
    tensors = _tensors(family, shape, config, stored)
    arch = family.arch
    values: dict[str, Value] = {
        f"{arch}.context_length": context,
        f"{arch}.embedding_length": shape.width,
        f"{arch}.block_count": shape.layers,
        f"{arch}.feed_forward_length": shape.inner,
        f"{arch}.attention.head_count": shape.heads,
        f"{arch}.attention.head_count_kv": shape.kv_heads,
        f"{arch}.attention.key_length": shape.head_dim,
        f"{arch}.attention.value_length": shape.head_dim,
        f"{arch}.attention.layer_norm_rms_epsilon": float(config.get("rms_norm_eps", 1e-6)),
        f"{arch}.vocab_size": shape.rows,
        **rope,
    }
    return Plan(arch, values, tensors, divisors, remarks)


class _Shape:
    """The sizes in a config.json."""

    def __init__(self, config: Json) -> None:
        self.width = int(config["hidden_size"])
        self.layers = int(config["num_hidden_layers"])
        self.inner = int(config["intermediate_size"])
        self.heads = int(config["num_attention_heads"])
        self.kv_heads = int(config.get("num_key_value_heads") or self.heads)
        self.head_dim = int(config.get("head_dim") or self.width // self.heads)
        self.rows = int(config["vocab_size"])

    def expected(self, name: str, kind: str) -> tuple[int, ...]:
        """The shape a tensor must have, by its GGUF name without number and ending."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        out, into = {
            "token_embd": (self.rows, self.width),
            "output": (self.rows, self.width),
            "attn_q": (queries, self.width),
            "attn_k": (keys, self.width),
            "attn_v": (keys, self.width),
            "attn_output": (self.width, queries),
            "ffn_gate": (self.inner, self.width),
            "ffn_up": (self.inner, self.width),
            "ffn_down": (self.width, self.inner),
            "attn_q_norm": (self.head_dim, 0),
            "attn_k_norm": (self.head_dim, 0),
        }.get(name, (self.width, 0))
        return (out, into) if into and kind == "weight" else (out,)


def _family(config: Json) -> Family:
    names = config.get("architectures") or ["(none named)"]
    name = str(names[0])
    if name not in FAMILIES:
        raise ModelError(
            f"A model of architecture {name} can't be converted.",
            f"Known are {', '.join(FAMILIES)}.",
            "Take a ready-made GGUF of it, or its OpenVINO IR.",
        )
    if "quantization_config" in config:
        raise ModelError(
            "This checkpoint is quantised already.",
            "Only plain F32, F16 and BF16 weights can be converted.",
            "Take the unquantised model, or a ready-made GGUF.",
        )
    if (activation := config.get("hidden_act", "silu")) != "silu":
        raise ModelError(f"This model's activation is {activation!r}.", f"In GGUF a {name} always has silu.")
    return FAMILIES[name]


def _context(config: Json) -> tuple[int, list[str]]:
    """Within a sliding window full attention gives the same result, so a longer context is cut to the window."""
    context = int(config.get("max_position_embeddings") or 2048)
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    if isinstance(window, int) and 0 < window < context:
        return window, [f"The context is cut from {context:,} to the sliding window, {window:,} tokens."]
    return context, []


def _tensors(family: Family, shape: _Shape, config: Json, stored: Mapping[str, StoredTensor]) -> list[Planned]:
    tied = bool(config.get("tie_word_embeddings"))
    planned = []
    for hf_name, tensor in stored.items():
        if IGNORED.fullmatch(hf_name) or (tied and hf_name == "lm_head.weight"):
            continue
        name = gguf_name(hf_name)
        part, kind = name.split(".")[-2:]
        if tensor.shape != (expected := shape.expected(part, kind)):
            raise ModelError(
                f"Tensor {hf_name} has the shape {list(tensor.shape)}.",
                f"config.json means {list(expected)}.",
                "The two don't belong together: copy both from the same model.",
            )
        planned.append(Planned(name, tensor, _order(family, shape, part)))
    _complete(family, shape, tied, {tensor.name for tensor in planned})
    return sorted(planned, key=lambda tensor: _place(tensor.name))


def gguf_name(hf_name: str) -> str:
    """`model.layers.3.mlp.up_proj.weight` -> `blk.3.ffn_up.weight`. Raises `ModelError`."""
    if hf_name in OUTER:
        return OUTER[hf_name]
    match = LAYER.fullmatch(hf_name)
    if match and match[2] in INNER:
        return f"blk.{int(match[1])}.{INNER[match[2]]}.{match[3]}"
    raise ModelError(
        f"The checkpoint holds an unknown tensor, {hf_name}.",
        "The model differs from the plain architecture that its config.json names.",
        "Take a ready-made GGUF of it.",
    )


def _order(family: Family, shape: _Shape, part: str) -> Array | None:
    heads = {"attn_q": shape.heads, "attn_k": shape.kv_heads}.get(part)
    return interleaved(heads, shape.head_dim) if family.rearranged and heads else None


def interleaved(heads: int, head_dim: int) -> Array:
    """Row order from halves (0, 1, ... d/2, d/2+1, ...) to neighbours (0, d/2, 1, d/2+1, ...), head by head."""
    return np.arange(heads * head_dim).reshape(heads, 2, head_dim // 2).swapaxes(1, 2).reshape(-1)


def _complete(family: Family, shape: _Shape, tied: bool, names: set[str]) -> None:
    needed = {"token_embd.weight", "output_norm.weight"} | (set() if tied else {"output.weight"})
    parts = [part for part in INNER.values() if family.arch == "qwen3" or not part.endswith(("q_norm", "k_norm"))]
    needed |= {f"blk.{layer}.{part}.weight" for layer in range(shape.layers) for part in parts}
    if missing := sorted(needed - names):
        raise ModelError(
            f"The checkpoint lacks {len(missing)} tensors, {missing[0]} among them.",
            "Some of its files are missing, or it belongs to another config.json.",
            "Finish the download or copy the whole folder.",
        )
    surplus = sorted(name for name in names if name.startswith("blk.") and int(name.split(".")[1]) >= shape.layers)
    if surplus:
        raise ModelError(f"The checkpoint holds {surplus[0]}.", f"config.json means {shape.layers} layers.")


def _place(name: str) -> tuple[int, str]:
    parts = name.split(".")
    return (int(parts[1]) if parts[0] == "blk" else -1, name)
