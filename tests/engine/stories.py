"""A small trained model of the Llama family, karpathy's stories260K in llama2.c's binary format, read from that format
alone: as a folder such as the hub has, and run in plain numpy as the second opinion on what it writes.

The files lie beside the repository (`../shared/data/stories260k`) where there is a copy of them.
"""

from __future__ import annotations

import itertools
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "stories260k"
MISSING = f"No real trained Llama is tried: {FOLDER} isn't there (stories260K.bin and tok512.bin of llama2.c)."
BOS, EOS = 1, 2
EPSILON = 1e-5


@dataclass(frozen=True, slots=True)
class Stories:
    """Weights as llama2.c has them (heads rotated by neighbours), pieces of the vocabulary and their scores."""

    width: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    context: int
    weights: dict[str, Array]
    pieces: list[str]
    scores: list[float]

    @property
    def head_dim(self) -> int:
        return self.width // self.heads


def read(folder: Path = FOLDER) -> Stories:
    raw = (folder / "stories260K.bin").read_bytes()
    width, inner, layers, heads, kv_heads, vocabulary, context = struct.unpack("<7i", raw[:28])
    numbers = np.frombuffer(raw, "<f4", offset=28)
    keys = kv_heads * width // heads
    shapes = {
        "embedding": (vocabulary, width), "attention_norm": (layers, width), "q": (layers, width, width),
        "k": (layers, keys, width), "v": (layers, keys, width), "o": (layers, width, width),
        "ffn_norm": (layers, width), "gate": (layers, inner, width), "down": (layers, width, inner),
        "up": (layers, inner, width), "norm": (width,),
    }  # fmt: skip
    weights, at = {}, 0
    for name, shape in shapes.items():
        weights[name] = numbers[at : at + int(np.prod(shape))].reshape(shape)
        at += weights[name].size
    pieces, scores = _vocabulary((folder / "tok512.bin").read_bytes(), vocabulary)
    return Stories(width, inner, layers, heads, kv_heads, context, weights, pieces, scores)


def _vocabulary(raw: bytes, count: int) -> tuple[list[str], list[float]]:
    pieces, scores, at = [], [], 4
    for _ in range(count):
        score, size = struct.unpack_from("<fi", raw, at)
        pieces.append(raw[at + 8 : at + 8 + size].decode())
        scores.append(score)
        at += 8 + size
    return pieces, scores


# ---- the second opinion -------------------------------------------------------------------------


def encode(model: Stories, text: str) -> list[int]:
    """llama2.c's way: a space before the text, its characters, then the best-scored pair again and again."""
    ids = [model.pieces.index(character) for character in " " + text]
    while True:
        pairs = [(i, model.pieces[a] + model.pieces[b]) for i, (a, b) in enumerate(itertools.pairwise(ids))]
        known = [(model.scores[model.pieces.index(pair)], -i, pair) for i, pair in pairs if pair in model.pieces]
        if not known:
            return [BOS, *ids]
        _, at, pair = max(known)
        ids[-at : -at + 2] = [model.pieces.index(pair)]


def greedy(model: Stories, prompt: list[int], count: int) -> str:
    """The text of `count` tokens after `prompt`."""
    ids = list(prompt)
    cache: list[list[tuple[Array, Array]]] = [[] for _ in range(model.layers)]
    for at in range(len(prompt) + count - 1):
        logits = _forward(model, ids[at], at, cache)
        if at + 1 == len(ids):
            ids.append(int(logits.argmax()))
    return "".join(model.pieces[id].replace("<0x0A>", "\n") for id in ids[len(prompt) :])


def _forward(model: Stories, id: int, at: int, cache: list[list[tuple[Array, Array]]]) -> Array:
    w, dim = model.weights, model.head_dim
    x = w["embedding"][id]
    for layer in range(model.layers):
        h = _normed(x, w["attention_norm"][layer])
        q = _rotated((w["q"][layer] @ h).reshape(model.heads, dim), at)
        k = _rotated((w["k"][layer] @ h).reshape(model.kv_heads, dim), at)
        cache[layer].append((k, (w["v"][layer] @ h).reshape(model.kv_heads, dim)))
        keys, values = (np.stack([pair[i] for pair in cache[layer]]) for i in (0, 1))
        each = model.heads // model.kv_heads
        seen = [_attended(q[head], keys[:, head // each], values[:, head // each]) for head in range(model.heads)]
        x = x + w["o"][layer] @ np.concatenate(seen)
        h = _normed(x, w["ffn_norm"][layer])
        gate = w["gate"][layer] @ h
        x = x + w["down"][layer] @ (gate / (1 + np.exp(-gate)) * (w["up"][layer] @ h))
    return np.asarray(w["embedding"] @ _normed(x, w["norm"]))


def _normed(x: Array, weight: Array) -> Array:
    return np.asarray(x / np.sqrt((x * x).mean() + EPSILON) * weight)


def _rotated(heads: Array, at: int) -> Array:
    """Each pair of neighbours turned by its angle (RoPE, base 10,000)."""
    pairs = heads.reshape(len(heads), -1, 2)
    angle = at * 10_000.0 ** (-np.arange(pairs.shape[1]) / pairs.shape[1])
    cos, sin = np.cos(angle), np.sin(angle)
    left, right = pairs[..., 0], pairs[..., 1]
    return np.stack((left * cos - right * sin, left * sin + right * cos), axis=-1).reshape(heads.shape)


def _attended(query: Array, keys: Array, values: Array) -> Array:
    scores = np.exp((scores := keys @ query / np.sqrt(len(query))) - scores.max())
    return np.asarray(scores @ values / scores.sum())


# ---- as the hub has it --------------------------------------------------------------------------


def write_hub_folder(model: Stories, folder: Path) -> None:
    """The same model as safetensors, config.json and tokenizer.json."""
    folder.mkdir(parents=True)
    settings = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": model.width,
        "intermediate_size": model.inner, "num_hidden_layers": model.layers, "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads, "vocab_size": len(model.pieces), "rms_norm_eps": EPSILON,
        "max_position_embeddings": model.context, "rope_theta": 10_000.0, "tie_word_embeddings": True,
        "hidden_act": "silu", "bos_token_id": BOS, "eos_token_id": EOS,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "tokenizer.json").write_text(json.dumps(_tokenizer(model)))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
    _save(folder / "model.safetensors", _hub_tensors(model))


def _hub_tensors(model: Stories) -> dict[str, Array]:
    w = model.weights
    tensors = {"model.embed_tokens.weight": w["embedding"], "model.norm.weight": w["norm"]}
    names = {
        "attention_norm": "input_layernorm", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm", "gate": "mlp.gate_proj", "down": "mlp.down_proj", "up": "mlp.up_proj",
    }  # fmt: skip
    for layer in range(model.layers):
        at = f"model.layers.{layer}."
        tensors |= {f"{at}{name}.weight": w[own][layer] for own, name in names.items()}
        for own, heads in (("q", model.heads), ("k", model.kv_heads)):
            # The hub's Llamas rotate halves of a head: even rows first, then odd ones.
            rows = w[own][layer].reshape(heads, model.head_dim // 2, 2, model.width).swapaxes(1, 2)
            tensors[f"{at}self_attn.{own}_proj.weight"] = rows.reshape(-1, model.width)
    return tensors


def _tokenizer(model: Stories) -> dict[str, Any]:
    pieces = ["<unk>", "<s>", "</s>", *(piece.replace(" ", "▁") for piece in model.pieces[3:])]
    known = set(pieces)
    best_first = sorted(range(259, len(pieces)), key=lambda id: -model.scores[id])
    whole = [pieces[id] for id in best_first]
    merges = [
        [piece[:cut], piece[cut:]]
        for piece in whole
        for cut in range(1, len(piece))
        if {piece[:cut], piece[cut:]} <= known
    ]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    bos = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    prefix = {"type": "Prepend", "prepend": "▁"}
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    back = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    return {
        "version": "1.0",
        "added_tokens": [{"id": id, "content": pieces[id], "special": True, **flags} for id in range(3)],
        "normalizer": {"type": "Sequence", "normalizers": [prefix, spaces]},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing", "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [BOS], "tokens": ["<s>"]}},
        },
        "decoder": {"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "BPE", "unk_token": "<unk>", "byte_fallback": True, "fuse_unk": True,
            "vocab": {piece: id for id, piece in enumerate(pieces)}, "merges": merges,
        },
    }  # fmt: skip


def _save(path: Path, tensors: dict[str, Array]) -> None:
    header, body = {}, b""
    for name, tensor in tensors.items():
        raw = tensor.astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
