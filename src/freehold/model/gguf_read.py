"""What is in a GGUF, read from its metadata alone: shape, sizes, vocabulary, chat template, stop tokens.

The bytes are taken apart in `gguf_parse.py`; this file gives them meaning.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from freehold.errors import ModelError
from freehold.model.gguf_format import CONTROL, NORMAL, USER_DEFINED, Scalar, Value
from freehold.model.gguf_parse import TensorEntry, corrupt, read_directory

STOP_SPELLINGS = frozenset(
    ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "[EOS]")
)
"""Control tokens that end an answer even where the metadata forgets to say so (llama.cpp knows the same)."""


@dataclass(frozen=True, slots=True)
class GgufInfo:
    """A GGUF's metadata. Ids that the file doesn't name are None; texts it doesn't have are empty."""

    path: Path
    architecture: str
    name: str
    quantization: str
    """Of most weights: `Q8_0`, `F16`, `Q4_K`."""
    parameters: int
    weight_bytes: int
    context_tokens: int
    layers: int
    width: int
    """Of the residual stream."""
    heads: int
    kv_heads: int
    """Of the layer that has most."""
    key_dim: int
    value_dim: int
    kv_bytes_per_token: int
    """Keys and values of every layer in f16."""
    tokenizer_model: str
    """`gpt2` (byte-level BPE) or `llama` (SentencePiece); others are possible."""
    tokenizer_pre: str
    tokens: list[str] = field(repr=False)
    token_types: list[int] = field(repr=False)
    bos_id: int | None
    eos_id: int | None
    pad_id: int | None
    stop_ids: tuple[int, ...]
    """Every token that ends an answer: eos, eot, eom, and control tokens known to mean it."""
    add_bos: bool
    """The tokenizer puts bos before a plain text."""
    add_space_prefix: bool
    """SentencePiece: the tokenizer puts a space before a text, which decoding takes away again."""
    chat_template: str = field(repr=False)
    scalars: dict[str, Scalar] = field(repr=False)
    """Every metadata key whose value isn't an array."""

    def text_of(self, id: int | None) -> str:
        """The token's own spelling (`<|im_end|>`), as chat templates want bos and eos; empty for None."""
        return "" if id is None or not 0 <= id < len(self.tokens) else self.tokens[id]


def describe(path: Path | str) -> GgufInfo:
    """Read the metadata of the GGUF at `path` without touching its weights. Raises `ModelError`."""
    path = Path(path)
    values, tensors, _ = read_directory(path)
    if (parts := values.get("split.count", 1)) not in (0, 1):
        raise ModelError(
            f"{path.name} is one of {parts} parts of a split GGUF.",
            "Engines want one file.",
            "Join the parts: llama-gguf-split --merge FIRST_PART JOINED.gguf.",
        )
    try:
        return _info(path, values, tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise corrupt(path, f"its metadata lacks or misstates {error}") from error


def _info(path: Path, values: dict[str, Value], tensors: list[TensorEntry]) -> GgufInfo:
    arch = _text(values, "general.architecture")
    if not arch or not tensors:
        raise ValueError("the architecture" if tensors else "the weights")
    layers, width = _int(values, f"{arch}.block_count"), _int(values, f"{arch}.embedding_length")
    heads = _int(values, f"{arch}.attention.head_count")
    if layers > len(tensors):
        raise ValueError(f"{layers} layers with {len(tensors)} tensors")
    kv_heads = _per_layer(values.get(f"{arch}.attention.head_count_kv", heads), layers)
    key_dim = _int(values, f"{arch}.attention.key_length", width // max(heads, 1))
    value_dim = _int(values, f"{arch}.attention.value_length", key_dim)
    weights = Counter[str]()
    for tensor in tensors:
        weights[tensor.type] += prod(tensor.shape)
    tokens = _texts(values, "tokenizer.ggml.tokens")
    types = _ints(values, "tokenizer.ggml.token_type") or [NORMAL] * len(tokens)
    if len(types) != len(tokens):
        raise ValueError("as many token types as tokens")
    model = _text(values, "tokenizer.ggml.model")
    return GgufInfo(
        path=path,
        architecture=arch,
        name=_text(values, "general.name"),
        quantization=weights.most_common(1)[0][0],
        parameters=sum(weights.values()),
        weight_bytes=sum(tensor.nbytes for tensor in tensors),
        context_tokens=_int(values, f"{arch}.context_length"),
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=max(kv_heads),
        key_dim=key_dim,
        value_dim=value_dim,
        kv_bytes_per_token=2 * sum(kv_heads) * (key_dim + value_dim),
        tokenizer_model=model,
        tokenizer_pre=_text(values, "tokenizer.ggml.pre"),
        tokens=tokens,
        token_types=types,
        bos_id=_id(values, "bos"),
        eos_id=_id(values, "eos"),
        pad_id=_id(values, "padding"),
        stop_ids=_stop_ids(values, tokens, types),
        add_bos=bool(values.get("tokenizer.ggml.add_bos_token", model == "llama")),
        add_space_prefix=bool(values.get("tokenizer.ggml.add_space_prefix", model == "llama")),
        chat_template=_text(values, "tokenizer.chat_template"),
        scalars={key: value for key, value in values.items() if not isinstance(value, list)},
    )


def _stop_ids(values: dict[str, Value], tokens: list[str], types: list[int]) -> tuple[int, ...]:
    named = [id for key in ("eos", "eot", "eom") if (id := _id(values, key)) is not None]
    special = [id for id, kind in enumerate(types) if kind in (CONTROL, USER_DEFINED)]
    spelt = [id for id in special if tokens[id] in STOP_SPELLINGS]
    return tuple(dict.fromkeys(named + spelt))


def _id(values: dict[str, Value], key: str) -> int | None:
    value = values.get(f"tokenizer.ggml.{key}_token_id")
    return value if isinstance(value, int) else None


def _int(values: dict[str, Value], key: str, default: int | None = None) -> int:
    value = values.get(key, default)
    if isinstance(value, list) and value:  # some architectures give one figure a layer
        value = max(value)
    if not isinstance(value, int):
        raise KeyError(key)
    return value


def _text(values: dict[str, Value], key: str) -> str:
    value = values.get(key, "")
    return value if isinstance(value, str) else ""


def _texts(values: dict[str, Value], key: str) -> list[str]:
    return _list(values, key, str)


def _ints(values: dict[str, Value], key: str) -> list[int]:
    return _list(values, key, int)


def _list(values: dict[str, Value], key: str, kind: type) -> list[Any]:
    found = values.get(key, [])
    if not isinstance(found, list) or not isinstance(found[0] if found else kind(), kind):
        raise KeyError(key)
    return found


def _per_layer(value: Value, layers: int) -> list[int]:
    figures = value if isinstance(value, list) else [value] * layers
    return [int(figure) for figure in figures] or [0]
