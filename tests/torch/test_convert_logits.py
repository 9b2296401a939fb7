"""Converted models compute what transformers computes: log-probabilities of whole distributions compared.

Each family is made small and random by transformers, saved, converted without torch, and run by llama.cpp and by
OpenVINO. Weights are drawn wide (std 0.35): with the usual 0.02 a model hardly attends, and a wrong rotation, bias
or norm would pass. `test_a_wrong_order_would_be_noticed` shows that these ones don't let it pass.

Tolerances are in nats at the worst token of the vocabulary. Everything runs in f32 (KV cache too, llama.cpp's flash
attention off since it rounds to f16), so only the order of sums differs: 3e-5 seen, 2e-4 allowed. With f16 or bf16
weights llama.cpp rounds the activations to the same type: 5e-2 and 0.5 allowed.
"""

from __future__ import annotations

import dataclasses
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import model_checkpoints as made
from freehold.model import families
from freehold.model.convert import convert
from freehold.model.encoder import Encoder
from freehold.model.gguf_read import describe
from freehold.model.template import ChatTemplate

pytestmark = pytest.mark.torch

F32_NATS = 2e-4
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
    "llama-biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-3.1": (
        "Llama",
        {"rope_parameters": {**LLAMA3, "rope_theta": 500000.0, "original_max_position_embeddings": 64}},
    ),
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
MISREAD = ["llama-3.1", "llama-linear", "qwen3-yarn", "llama-biases"]
"""OpenVINO's GGUF reader leaves out scaled positions, and biases of the llama architecture, without a word."""


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
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    kind = type(model)
    return kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def expected(model: Any, prompt: list[int]) -> np.ndarray:
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0, -1]
    return torch.log_softmax(logits.double(), -1).numpy()


def llama_cpp(path: Path, prompts: list[list[int]], rows: int = made.ROWS) -> list[np.ndarray]:
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
        asked = {"prompt": prompt, "n_predict": 1, "n_probs": rows, "cache_prompt": False} | forced
        answer = server.handle_completions(asked)
        top = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        by_id = np.full(rows, np.nan)
        for entry in top:
            by_id[entry["id"]] = entry["logprob"]
        assert not np.isnan(by_id).any(), "llama.cpp left out a token"
        found.append(by_id)
    return found


def openvino(path: Path, prompts: list[list[int]]) -> list[tuple[int, float]]:
    """The likeliest next token after each prompt, and its log-probability: all that OpenVINO tells."""
    from freehold.engine.openvino import hush

    hush()
    import openvino
    import openvino_genai

    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size = 1
    exact = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
    pipeline = openvino_genai.ContinuousBatchingPipeline(str(path), scheduler, "CPU", exact)
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens, config.logprobs, config.ignore_eos = 1, 1, True
    found = []
    for number, prompt in enumerate(prompts):
        handle = pipeline.add_request(number, openvino.Tensor(np.array([prompt], np.int64)), config)
        while pipeline.has_non_finished_requests():
            pipeline.step()
        output = handle.read_all()[0]
        found.append((output.generated_ids[0], output.generated_log_probs[0]))
    return found


@pytest.mark.parametrize("case", CASES)
def test_llama_cpp_agrees_with_transformers(case: str, tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model", case, "float32")
    convert(tmp_path / "model", tmp_path / "out.gguf", case, "f32")
    for prompt, found in zip(PROMPTS, llama_cpp(tmp_path / "out.gguf", PROMPTS), strict=True):
        np.testing.assert_allclose(found, expected(model, prompt), atol=F32_NATS, rtol=0)


@pytest.mark.parametrize("case", [case for case in CASES if case not in MISREAD])
def test_openvino_agrees_with_transformers(case: str, tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model", case, "float16")
    convert(tmp_path / "model", tmp_path / "out.gguf", case, "f16")
    for prompt, (token, logprob) in zip(PROMPTS, openvino(tmp_path / "out.gguf", PROMPTS), strict=True):
        wanted = expected(model, prompt)
        assert token == wanted.argmax()
        assert logprob == pytest.approx(wanted[token], abs=F32_NATS)


@pytest.mark.parametrize("case", MISREAD)
def test_openvino_still_misreads_some(case: str, tmp_path: Path) -> None:
    """Why the engine refuses these. When this fails OpenVINO has learnt it, and the refusal can go."""
    model = checkpoint(tmp_path / "model", case, "float16")
    convert(tmp_path / "model", tmp_path / "out.gguf", case, "f16")
    told = zip(PROMPTS, openvino(tmp_path / "out.gguf", PROMPTS), strict=True)
    assert max(abs(logprob - expected(model, prompt)[token]) for prompt, (token, logprob) in told) > 0.1


@pytest.mark.parametrize("case", ["llama", "qwen3"])
def test_bfloat16_and_half_are_read_right(case: str, tmp_path: Path) -> None:
    for dtype, quantization in (("bfloat16", "bf16"), ("bfloat16", "f32"), ("float16", "f16")):
        folder = tmp_path / quantization
        model = checkpoint(folder, case, dtype)
        convert(folder, folder / "out.gguf", case, quantization)
        for prompt, found in zip(PROMPTS, llama_cpp(folder / "out.gguf", PROMPTS), strict=True):
            drift = np.abs(found - expected(model, prompt)).max()
            assert drift < {"f32": F32_NATS, "f16": 5e-2, "bf16": 0.5}[quantization], quantization


def test_a_wrong_order_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = checkpoint(tmp_path / "model", "llama", "float32")
    plain = dataclasses.replace(families.FAMILIES["LlamaForCausalLM"], rearranged=False)
    monkeypatch.setitem(families.FAMILIES, "LlamaForCausalLM", plain)
    convert(tmp_path / "model", tmp_path / "wrong.gguf", "wrong", "f32")
    found = llama_cpp(tmp_path / "wrong.gguf", PROMPTS[1:])
    assert all(
        np.abs(got - expected(model, prompt)).max() > 0.1 for got, prompt in zip(found, PROMPTS[1:], strict=True)
    )


def test_the_starter_agrees_with_transformers(tmp_path: Path) -> None:
    """On its own prompt: exactly in f32; in Q8_0, which people run, nearly so."""
    starter = files("freehold") / "starter"
    model = transformers.AutoModelForCausalLM.from_pretrained(str(starter), dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(starter))
    messages = [{"role": "user", "content": "I lost my card on 2 May, what now?"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    for quantization in ("f32", "q8_0"):
        convert(Path(str(starter)), tmp_path / f"{quantization}.gguf", "starter", quantization)
    info = describe(tmp_path / "q8_0.gguf")
    assert ChatTemplate(info.chat_template).render(messages) == text
    prompt = Encoder.from_gguf(info).encode(text)
    assert prompt == tokenizer(text, add_special_tokens=False).input_ids
    wanted = expected(model, prompt)
    (exact,) = llama_cpp(tmp_path / "f32.gguf", [prompt], len(info.tokens))
    np.testing.assert_allclose(exact, wanted, atol=F32_NATS, rtol=0)
    (rounded,) = llama_cpp(tmp_path / "q8_0.gguf", [prompt], len(info.tokens))
    assert np.sum(np.exp(wanted) * (wanted - rounded)) < 0.01, "KL from f32 to Q8_0, nats"
