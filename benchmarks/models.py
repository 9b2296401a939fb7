"""Models to measure with: a GGUF of about 135M parameters with random weights, made on the spot.

The shape is SmolLM-135M's (576 wide, 30 layers, 9 query and 3 KV heads, FFN 1536, 49,152 tokens, tied). Random
weights cost the same arithmetic as trained ones; the text is nonsense. The vocabulary is the starter's, padded.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import gguf
import numpy as np
from gguf.quants import quantize

WIDTH, LAYERS, HEADS, KV_HEADS, FFN, VOCABULARY, CONTEXT = 576, 30, 9, 3, 1536, 49_152, 2048


def random_gguf(folder: Path) -> Path:
    """Path of the Q8_0 file below `folder`, written on first use (about 145 MB)."""
    path = folder / "random-135m-q8_0.gguf"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    writer = gguf.GGUFWriter(str(part), "llama")
    _describe(writer)
    _vocabulary(writer)
    _tensors(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.rename(path)
    return path


def _describe(writer: gguf.GGUFWriter) -> None:
    writer.add_name("random-135m")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)


def _vocabulary(writer: gguf.GGUFWriter) -> None:
    starter = resources.files("freehold") / "starter" / "tokenizer.json"
    told = json.loads(starter.read_text(encoding="utf-8"))
    ids: dict[str, int] = dict(told["model"]["vocab"]) | {t["content"]: t["id"] for t in told["added_tokens"]}
    special = {t["id"] for t in told["added_tokens"] if t["special"]}
    tokens = [f"pad{i}" for i in range(VOCABULARY)]
    for token, id in ids.items():
        tokens[id] = token
    types = [gguf.TokenType.CONTROL if i in special else gguf.TokenType.NORMAL for i in range(VOCABULARY)]
    merges = [m if isinstance(m, str) else " ".join(m) for m in told["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(ids["<|end|>"])
    writer.add_bos_token_id(ids["<|endoftext|>"])
    writer.add_add_bos_token(False)


def _tensors(writer: gguf.GGUFWriter) -> None:
    random = np.random.default_rng(0)
    kind = gguf.GGMLQuantizationType.Q8_0

    def matrix(name: str, rows: int, columns: int) -> None:
        values = random.standard_normal((rows, columns), dtype=np.float32) * columns**-0.5
        writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)

    kv_width = WIDTH // HEADS * KV_HEADS
    matrix("token_embd.weight", VOCABULARY, WIDTH)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}{norm}.weight", np.ones(WIDTH, np.float32))
        matrix(f"{block}attn_q.weight", WIDTH, WIDTH)
        matrix(f"{block}attn_k.weight", kv_width, WIDTH)
        matrix(f"{block}attn_v.weight", kv_width, WIDTH)
        matrix(f"{block}attn_output.weight", WIDTH, WIDTH)
        matrix(f"{block}ffn_gate.weight", FFN, WIDTH)
        matrix(f"{block}ffn_up.weight", FFN, WIDTH)
        matrix(f"{block}ffn_down.weight", WIDTH, FFN)
