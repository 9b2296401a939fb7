"""A model to measure with: about 135M parameters with random weights, made on the spot.

The shape is SmolLM-135M's (576 wide, 30 layers, 9 query and 3 KV heads, FFN 1536, 49,152 tokens, tied). Random
weights cost the same arithmetic as trained ones; the text is nonsense. The vocabulary is the starter's, padded.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WIDTH, LAYERS, HEADS, KV_HEADS, FFN, VOCABULARY, CONTEXT = 576, 30, 9, 3, 1536, 49_152, 2048
NAME = "random-135m"
_SMALL = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")


def random_checkpoint(folder: Path) -> Path:
    """A directory of safetensors (bf16) below `folder`, as a model hub would give it; written on first use (270 MB)."""
    path = folder / NAME
    if path.exists():
        return path
    part = folder / f"{NAME}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    starter = resources.files("freehold") / "starter"
    for name in _SMALL:
        (part / name).write_bytes((starter / name).read_bytes())
    (part / "config.json").write_text(json.dumps(json.loads((starter / "config.json").read_text()) | _shape()))
    _write_weights(part / "model.safetensors")
    part.rename(path)
    return path


def _shape() -> dict[str, object]:
    return {
        "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "intermediate_size": FFN, "vocab_size": VOCABULARY,
        "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": WIDTH // HEADS,
        "max_position_embeddings": CONTEXT, "torch_dtype": "bfloat16",
    }  # fmt: skip


def _shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "model.embed_tokens.weight", (VOCABULARY, WIDTH)
    yield "model.norm.weight", (WIDTH,)
    kv_width = WIDTH // HEADS * KV_HEADS
    for layer in range(LAYERS):
        block = f"model.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield f"{block}{norm}.weight", (WIDTH,)
        for name, rows in (("q", WIDTH), ("k", kv_width), ("v", kv_width), ("o", WIDTH)):
            yield f"{block}self_attn.{name}_proj.weight", (rows, WIDTH)
        for name, shape in (("gate", (FFN, WIDTH)), ("up", (FFN, WIDTH)), ("down", (WIDTH, FFN))):
            yield f"{block}mlp.{name}_proj.weight", shape


def _write_weights(path: Path) -> None:
    """The safetensors format: length of the header, header, tensors end to end."""
    header, end = {}, 0
    for name, shape in _shapes():
        begin, end = end, end + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    told = json.dumps(header).encode()
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(len(told).to_bytes(8, "little") + told)
        for _, shape in _shapes():
            file.write(_bf16(_values(random, shape)).tobytes())


def _values(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    return random.standard_normal(shape, dtype=np.float32) * np.float32(shape[-1] ** -0.5)


def _bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper half of each float32."""
    return (values.view(np.uint32) >> 16).astype(np.uint16)
