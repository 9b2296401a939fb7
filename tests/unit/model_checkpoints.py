"""Tiny checkpoints as the hub has them, written byte by byte: weights, config.json, tokenizer.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from freehold.model.vocabulary import byte_alphabet

Array = np.ndarray[Any, np.dtype[Any]]

SPECIAL = ["<s>", "<|im_start|>", "<|im_end|>"]
WORDS = ["th", "the", "Ġ", "Ġt", "Ġthe", "in", "ing", "12", "123"]
MERGES = ["t h", "th e", "Ġ t", "Ġ the", "i n", "in g", "1 2", "12 3"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ROWS = 288
"""Of the embedding: more than there are tokens, as many models have it."""


def added(id: int, content: str, special: bool = True) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": id, "content": content, **flags, "special": special}


def byte_level_tokenizer(pre_tokenizer: dict[str, Any] | None = None) -> dict[str, Any]:
    tokens = [*byte_alphabet(), *(word for word in WORDS if word not in byte_alphabet())]
    return {
        "version": "1.0",
        "added_tokens": [
            *(added(len(tokens) + i, text) for i, text in enumerate(SPECIAL)),
            added(len(tokens) + len(SPECIAL), "<tool_call>", special=False),
        ],
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer
        or {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": True,
        },
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": {token: i for i, token in enumerate(tokens)}, "merges": MERGES},
    }


def sentence_piece_tokenizer() -> dict[str, Any]:
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    letters = ["▁", "a", "b", "c", "h", "e", "l", "o", "é", "日"]
    merged = ["he", "ll", "llo", "hello", "▁hello", "▁a"]
    return {
        "version": "1.0",
        "added_tokens": [added(id, pieces[id]) for id in range(3)],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {piece: i for i, piece in enumerate([*pieces, *letters, *merged])},
            "merges": ["h e", "l l", "ll o", "he llo", "▁ hello", "▁ a"],
        },
    }


def config(family: str = "LlamaForCausalLM", **changes: Any) -> dict[str, Any]:
    return {
        "architectures": [family],
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "vocab_size": ROWS,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "bos_token_id": 264,
        "eos_token_id": 266,
    } | changes


def weights(settings: dict[str, Any], seed: int = 0) -> dict[str, Array]:
    """Random float32 tensors under Hugging Face's names, shaped as `settings` says."""
    rng = np.random.default_rng(seed)
    width, inner, head = settings["hidden_size"], settings["intermediate_size"], settings["head_dim"]
    queries, keys = settings["num_attention_heads"] * head, settings["num_key_value_heads"] * head
    family = settings["architectures"][0]
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (settings["vocab_size"], width),
        "model.norm.weight": (width,),
    }
    if not settings["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (settings["vocab_size"], width)
    for layer in range(settings["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        shapes |= {
            at + "input_layernorm.weight": (width,),
            at + "post_attention_layernorm.weight": (width,),
            at + "self_attn.q_proj.weight": (queries, width),
            at + "self_attn.k_proj.weight": (keys, width),
            at + "self_attn.v_proj.weight": (keys, width),
            at + "self_attn.o_proj.weight": (width, queries),
            at + "mlp.gate_proj.weight": (inner, width),
            at + "mlp.up_proj.weight": (inner, width),
            at + "mlp.down_proj.weight": (width, inner),
        }
        if family == "Qwen2ForCausalLM":
            shapes |= {
                at + f"self_attn.{part}_proj.bias": (n,) for part, n in (("q", queries), ("k", keys), ("v", keys))
            }
        if family == "Qwen3ForCausalLM":
            shapes |= {at + f"self_attn.{part}_norm.weight": (head,) for part in "qk"}
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def bf16_bits(values: Array) -> Array:
    """Truncated to bfloat16, as uint16."""
    return (np.ascontiguousarray(values).view(np.uint32) >> 16).astype(np.uint16)


def save(path: Path, tensors: dict[str, Array], dtype: str = "F32") -> None:
    """One safetensors file."""
    stored = {"F32": lambda a: a.astype("<f4"), "F16": lambda a: a.astype("<f2"), "BF16": bf16_bits}[dtype]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, tensor in tensors.items():
        raw = stored(tensor).tobytes()
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def write_checkpoint(
    folder: Path,
    settings: dict[str, Any] | None = None,
    *,
    dtype: str = "F32",
    shards: int = 1,
    tokenizer: dict[str, Any] | None = None,
    tokenizer_config: dict[str, Any] | None = None,
) -> dict[str, Array]:
    """A whole model folder; gives the float32 weights it was made of."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = settings or config()
    tensors = weights(settings)
    if shards == 1:
        save(folder / "model.safetensors", tensors, dtype)
    else:
        names = {name: f"model-{1 + i % shards:05d}-of-{shards:05d}.safetensors" for i, name in enumerate(tensors)}
        for file in set(names.values()):
            save(folder / file, {name: tensors[name] for name in tensors if names[name] == file}, dtype)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer or byte_level_tokenizer()))
    chat = {"bos_token": "<s>", "eos_token": {"content": "<|im_end|>"}, "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(chat if tokenizer_config is None else tokenizer_config))
    return tensors
