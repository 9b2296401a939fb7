"""Converted models compute what transformers computes: log-probabilities of whole distributions compared.

Each family is made small and random by transformers, saved, converted without torch, and run by llama.cpp and by
OpenVINO. Weights are drawn wide (std 0.35): with the usual 0.02 a model hardly attends, and a wrong rotation, bias
or norm would pass. `test_a_wrong_order_would_be_noticed` shows that these ones don't let it pass.

Tolerances, in nats at the worst token: llama.cpp on F32 weights sums in another order and rounds exp, seen up to
2e-4, allowed 2e-3; OpenVINO reads F16 weights, which are given to transformers as well, allowed 2e-2.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import model_checkpoints as made
import numpy as np
import pytest
import torch
import transformers

from freehold.model import families
from freehold.model.convert import convert

pytestmark = pytest.mark.torch

LLAMA_CPP_NATS = 2e-4
PROMPTS = [[5], [100, 7, 7, 250], list(range(3, 90, 2)), list(range(250, 8, -3)) * 2]
SIZES = {
    "vocab_size": made.ROWS,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 512,
    "initializer_range": 0.35,
    "attn_implementation": "eager",
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"rope_theta": 10000.0}),
    "llama-tied": ("Llama", {"tie_word_embeddings": True}),
    "llama-head-dim": ("Llama", {"head_dim": 16, "num_key_value_heads": 4}),
    "llama-3.1": ("Llama", {"rope_parameters": {**LLAMA3, "rope_theta": 500000.0, "original_max_position_embeddings": 64}}),
    "llama-linear": ("Llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}}),
    "mistral": ("Mistral", {"sliding_window": None}),
    "mistral-window": ("Mistral", {"sliding_window": 256}),
    "qwen2": ("Qwen2", {"head_dim": 16}),
    "qwen2-tied": ("Qwen2", {"head_dim": 16, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {}),
    "qwen3-yarn": (
        "Qwen3",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "factor": 4.0,
                "rope_theta": 10000.0,
                "original_max_position_embeddings": 128,
            }
        },
    ),
}


def checkpoint(folder: Path, case: str, dtype: str) -> Any:
    """A random model, saved in `dtype`; the numbers that were saved are what is given back, in f32."""
    family, changes = CASES[case]
    torch.manual_seed(len(case))
    settings = getattr(transformers, f"{family}Config")(**{**SIZES, **changes})
    model = getattr(transformers, f"{family}ForCausalLM")(settings).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 1:  # norms are ones and biases zeros otherwise, and a lost one wouldn't show
                weight.copy_(torch.rand_like(weight) + (0.5 if "norm" in name else -0.5))
    made.write_checkpoint(folder, made.config())
    (folder / "model.safetensors").unlink()
    model = model.to(getattr(torch, dtype))
    model.save_pretrained(folder)
    return model.float()


def expected(model: Any, prompt: list[int]) -> np.ndarray:
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0, -1]
    return torch.log_softmax(logits.double(), -1).numpy()


def llama_cpp(path: Path, prompts: list[list[int]]) -> list[np.ndarray]:
    """The whole next-token distribution after each prompt."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.warmup = 512, 1, False
    params.cpuparams.n_threads = 2
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(params)
    found = []
    for prompt in prompts:
        # The answer is forced to a printable token (an end or half a character has no log-probabilities); the
        # distribution reported is the model's own, before any bias.
        forced = {"temperature": 0.0, "logit_bias": [[ord("A"), 1000.0]]}
        asked = {"prompt": prompt, "n_predict": 1, "n_probs": made.ROWS, "cache_prompt": False} | forced
        answer = server.handle_completions(asked)
        top = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        by_id = np.full(made.ROWS, np.nan)
        for entry in top:
            by_id[entry["id"]] = entry["logprob"]
        assert not np.isnan(by_id).any(), "llama.cpp left out a token"
        found.append(by_id)
    return found


@pytest.mark.parametrize("case", CASES)
def test_llama_cpp_agrees_with_transformers(case: str, tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model", case, "float32")
    convert(tmp_path / "model", tmp_path / "out.gguf", case, "f32")
    for prompt, found in zip(PROMPTS, llama_cpp(tmp_path / "out.gguf", PROMPTS), strict=True):
        np.testing.assert_allclose(found, expected(model, prompt), atol=LLAMA_CPP_NATS, rtol=0)


@pytest.mark.parametrize("case", ["llama", "qwen3"])
def test_bfloat16_and_half_are_read_right(case: str, tmp_path: Path) -> None:
    for dtype, quantization in (("bfloat16", "bf16"), ("bfloat16", "f32"), ("float16", "f16")):
        folder = tmp_path / quantization
        model = checkpoint(folder, case, dtype)
        convert(folder, folder / "out.gguf", case, quantization)
        for prompt, found in zip(PROMPTS, llama_cpp(folder / "out.gguf", PROMPTS), strict=True):
            drift = np.abs(found - expected(model, prompt)).max()
            assert drift < {"f32": LLAMA_CPP_NATS, "f16": 5e-2, "bf16": 0.5}[quantization], quantization


def test_a_wrong_order_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = checkpoint(tmp_path / "model", "llama", "float32")
    plain = dataclasses.replace(families.FAMILIES["LlamaForCausalLM"], rearranged=False)
    monkeypatch.setitem(families.FAMILIES, "LlamaForCausalLM", plain)
    convert(tmp_path / "model", tmp_path / "wrong.gguf", "wrong", "f32")
    found = llama_cpp(tmp_path / "wrong.gguf", PROMPTS[1:])
    assert all(np.abs(got - expected(model, prompt)).max() > 0.1 for got, prompt in zip(found, PROMPTS[1:], strict=True))
