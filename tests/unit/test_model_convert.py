"""Checkpoints become GGUFs that an independent reader (the gguf package) finds to hold the same numbers."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize, quantize

import model_checkpoints as made
from freehold.errors import ModelError
from freehold.model.convert import convert, prepared
from freehold.model.families import FAMILIES, gguf_name
from freehold.model.gguf_read import describe
from freehold.model.rope import llama3_divisors
from freehold.model.source import Source


def config_of(family: str, **changes: Any) -> dict[str, Any]:
    """Qwen2's heads are always width / heads."""
    return made.config(family, **({"head_dim": 16} if family == "Qwen2ForCausalLM" else {}), **changes)


def source(folder: Path) -> Source:
    return Source(kind="safetensors", path=str(folder), label=str(folder), name="tiny")


def read(path: Path) -> tuple[dict[str, Any], dict[str, gguf.ReaderTensor]]:
    reader = gguf.GGUFReader(path)
    return {name: field.contents() for name, field in reader.fields.items()}, {t.name: t for t in reader.tensors}


def converted(tmp_path: Path, quantization: str = "f32", **how: Any) -> tuple[Any, Any, Any]:
    weights = made.write_checkpoint(tmp_path / "model", **how)
    convert(tmp_path / "model", tmp_path / "out.gguf", "tiny", quantization)
    values, tensors = read(tmp_path / "out.gguf")
    return weights, values, tensors


def interleaved(matrix: made.Array, heads: int) -> made.Array:
    """llama.cpp's own way of saying it, on the whole matrix."""
    rows = matrix.shape[0] // heads // 2
    return matrix.reshape(heads, 2, rows, *matrix.shape[1:]).swapaxes(1, 2).reshape(matrix.shape)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shards", [1, 3])
def test_every_tensor_arrives_under_its_gguf_name(tmp_path: Path, family: str, shards: int) -> None:
    settings = config_of(family)
    weights, values, tensors = converted(tmp_path, settings=settings, shards=shards)
    assert set(tensors) == {gguf_name(name) for name in weights}
    for name, expected in weights.items():
        if FAMILIES[family].rearranged and ("q_proj" in name or "k_proj" in name):
            expected = interleaved(expected, 4 if "q_proj" in name else 2)
        np.testing.assert_array_equal(tensors[gguf_name(name)].data, expected, err_msg=name)
    arch = FAMILIES[family].arch
    assert values["general.architecture"] == arch
    assert values[f"{arch}.attention.head_count_kv"] == 2
    assert values[f"{arch}.attention.key_length"] == settings["head_dim"]
    assert values[f"{arch}.context_length"] == 128
    assert values[f"{arch}.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-5)


def test_tied_embeddings_are_written_once(tmp_path: Path) -> None:
    _, _, tensors = converted(tmp_path, settings=made.config(tie_word_embeddings=True))
    assert "output.weight" not in tensors
    assert "token_embd.weight" in tensors


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("quantization", ["f32", "f16", "bf16", "q8_0"])
def test_each_type_is_rounded_as_the_reference_does(tmp_path: Path, dtype: str, quantization: str) -> None:
    weights, values, tensors = converted(tmp_path, quantization, dtype=dtype)
    stored = weights["lm_head.weight"]
    if dtype == "F16":
        stored = stored.astype(np.float16).astype(np.float32)
    if dtype == "BF16":
        stored = (made.bf16_bits(stored).astype(np.uint32) << 16).view(np.float32)
    kind = gguf.GGMLQuantizationType[quantization.upper()]
    tensor = tensors["output.weight"]
    assert tensor.tensor_type == kind
    reference = quantize(stored, kind)
    np.testing.assert_array_equal(np.asarray(tensor.data).view(np.uint8), reference.view(np.uint8))
    scale = np.abs(stored).max()
    allowed = {"f32": 0, "f16": scale / 2**11, "bf16": scale / 2**8, "q8_0": scale / 127 * 0.51}[quantization]
    assert np.abs(dequantize(tensor.data, kind) - stored).max() <= allowed + 1e-4 * scale * (quantization == "q8_0")
    assert tensors["output_norm.weight"].tensor_type == gguf.GGMLQuantizationType.F32
    assert values["general.file_type"] == {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7}[quantization]


def test_rows_that_blocks_do_not_divide_stay_f16_and_are_reported(tmp_path: Path) -> None:
    made.write_checkpoint(tmp_path / "model", made.config(intermediate_size=100))
    heard: list[tuple[str, int, int]] = []
    path, _ = prepared(source(tmp_path / "model"), tmp_path, "q8_0", lambda *said: heard.append(said))
    tensors = read(path)[1]
    assert tensors["blk.0.ffn_down.weight"].tensor_type == gguf.GGMLQuantizationType.F16
    assert tensors["blk.0.ffn_up.weight"].tensor_type == gguf.GGMLQuantizationType.Q8_0
    assert heard[0][0].startswith("2 tensors (")
    assert "100 in blk.0.ffn_down.weight" in heard[0][0]
    assert heard[-1] == ("converting tiny to q8_0", heard[-1][2], describe(path).weight_bytes)


def test_the_tokenizer_arrives(tmp_path: Path) -> None:
    _, values, _ = converted(tmp_path)
    assert values["tokenizer.ggml.model"] == "gpt2"
    assert values["tokenizer.ggml.pre"] == "gpt-2"
    assert values["tokenizer.ggml.merges"] == made.MERGES
    assert values["tokenizer.ggml.tokens"][264:] == [
        *made.SPECIAL,
        "<tool_call>",
        *(f"[PAD{i}]" for i in range(268, 288)),
    ]
    assert values["tokenizer.ggml.token_type"][264:268] == [3, 3, 3, 4]
    assert set(values["tokenizer.ggml.token_type"][268:]) == {5}
    assert values["tokenizer.ggml.bos_token_id"] == 264
    assert values["tokenizer.ggml.eos_token_id"] == 266
    assert values["tokenizer.ggml.add_bos_token"] is False
    assert values["tokenizer.chat_template"] == made.TEMPLATE


def test_a_sentence_piece_tokenizer_arrives(tmp_path: Path) -> None:
    _, values, _ = converted(
        tmp_path, tokenizer=made.sentence_piece_tokenizer(), tokenizer_config={"eos_token": "</s>"}
    )
    scores = dict(zip(values["tokenizer.ggml.tokens"], values["tokenizer.ggml.scores"], strict=True))
    assert values["tokenizer.ggml.model"] == "llama"
    assert scores["he"] > scores["llo"] > scores["▁hello"] > scores["a"]
    assert values["tokenizer.ggml.token_type"][:4] == [3, 3, 3, 6] or values["tokenizer.ggml.token_type"][:4] == [
        2,
        3,
        3,
        6,
    ]
    assert values["tokenizer.ggml.add_bos_token"] is True
    assert values["tokenizer.ggml.add_space_prefix"] is True


def test_a_file_beside_wins_and_further_ends_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    made.write_checkpoint(folder)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [266, 265]}))
    convert(folder, tmp_path / "out.gguf", "tiny", "f16")
    info = describe(tmp_path / "out.gguf")
    assert info.chat_template == "{{ messages }}"
    assert info.stop_ids == (266, 265)


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


def test_llama3_scaling_is_written_as_divisors(tmp_path: Path) -> None:
    parameters = {"rope_type": "llama3", "rope_theta": 500000.0, **LLAMA3}
    _, values, tensors = converted(tmp_path, settings=made.config(rope_parameters=parameters))
    np.testing.assert_array_equal(tensors["rope_freqs.weight"].data, llama3_divisors(LLAMA3, 500000.0, 32))
    assert values["llama.rope.freq_base"] == 500000.0


def test_llama3_divisors_by_the_model_card() -> None:
    """The readable form: keep short waves, stretch long ones, blend between."""
    for index, divisor in enumerate(llama3_divisors(LLAMA3, 500000.0, 128)):
        wave = 2 * np.pi * 500000.0 ** (2 * index / 128)
        if wave < 8192 / 4:
            expected = 1.0
        elif wave > 8192:
            expected = 8.0
        else:
            smooth = (8192 / wave - 1) / (4 - 1)
            expected = 1 / ((1 - smooth) / 8 + smooth)
        assert divisor == pytest.approx(expected, rel=1e-6)


def test_linear_and_yarn_scaling_are_written_as_keys(tmp_path: Path) -> None:
    _, values, _ = converted(tmp_path / "a", settings=made.config(rope_scaling={"type": "linear", "factor": 4.0}))
    assert values["llama.rope.scaling.type"] == "linear"
    assert values["llama.rope.scaling.factor"] == 4.0
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
    _, values, _ = converted(tmp_path / "b", settings=made.config("Qwen3ForCausalLM", rope_scaling=yarn))
    assert values["qwen3.rope.scaling.type"] == "yarn"
    assert values["qwen3.rope.scaling.original_context_length"] == 32


def test_a_sliding_window_cuts_the_context(tmp_path: Path) -> None:
    _, values, _ = converted(tmp_path / "a", settings=made.config("MistralForCausalLM", sliding_window=64))
    assert values["llama.context_length"] == 64
    unused = config_of("Qwen2ForCausalLM", sliding_window=64, use_sliding_window=False)
    _, values, _ = converted(tmp_path / "b", settings=unused)
    assert values["qwen2.context_length"] == 128


def test_a_second_time_is_cached_until_an_input_changes(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    made.write_checkpoint(folder)
    first, was_cached = prepared(source(folder), tmp_path)
    assert not was_cached
    assert prepared(source(folder), tmp_path) == (first, True)
    assert prepared(source(folder), tmp_path, "f16") != (first, True)
    os.utime(folder / "model.safetensors", (1, 1))
    again, was_cached = prepared(source(folder), tmp_path)
    assert again != first
    assert not was_cached
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert prepared(source(folder), tmp_path)[1] is False
    assert not list((tmp_path / "gguf").glob(".*"))


def test_many_who_start_together_convert_once(tmp_path: Path) -> None:
    made.write_checkpoint(tmp_path / "model")
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: prepared(source(tmp_path / "model"), tmp_path), range(4)))
    assert len({path for path, _ in results}) == 1
    assert sorted(was_cached for _, was_cached in results) == [False, True, True, True]


def test_a_gguf_is_its_own_and_others_have_none(tmp_path: Path) -> None:
    own = Source(kind="gguf", path=str(tmp_path / "x.gguf"), label="x", name="x")
    assert prepared(own, tmp_path) == (tmp_path / "x.gguf", True)
    with pytest.raises(ModelError, match="no GGUF of x"):
        prepared(Source(kind="ir", path="x", label="x", name="x"), tmp_path)
    with pytest.raises(ModelError, match="can't be converted to 'q3'"):
        prepared(source(tmp_path), tmp_path, "q3")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["GPTNeoXForCausalLM"]}, "Known are LlamaForCausalLM, MistralForCausalLM"),
        ({"architectures": None}, "none named"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised already"),
        ({"hidden_act": "gelu"}, "activation is 'gelu'"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "scales its positions by 'longrope'"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "mscale": 0.7}}, "yarn with mscale"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "lacks or misstates 'factor'"),
        ({"partial_rotary_factor": 0.5}, "only a part of each head"),
        ({"hidden_size": None}, "config.json can't be read"),
        ({"intermediate_size": 128}, "has the shape"),
        ({"num_hidden_layers": 3}, "lacks 9 tensors"),
        ({"num_hidden_layers": 1}, "config.json means 1 layers"),
        ({"vocab_size": 5}, "has the shape"),
        ({"architectures": ["Qwen2ForCausalLM"]}, "model's are always 16"),
    ],
)
def test_what_cannot_be_converted_is_said(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = tmp_path / "model"
    made.write_checkpoint(folder)
    (folder / "config.json").write_text(json.dumps(made.config(**changes)))
    with pytest.raises(ModelError) as raised:
        prepared(source(folder), tmp_path)
    assert message in str(raised.value)
    assert not list(tmp_path.glob("gguf/*.gguf"))


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    weights = made.write_checkpoint(folder)
    weights["lm_head.weight"][3, 3] = np.nan
    made.save(folder / "model.safetensors", weights)
    with pytest.raises(ModelError, match=r"output.weight holds NaN"):
        prepared(source(folder), tmp_path)
    weights["lm_head.weight"][3, 3] = 1e5
    made.save(folder / "model.safetensors", weights)
    with pytest.raises(ModelError, match=r"f16 ends at 65504"):
        prepared(source(folder), tmp_path, "f16")
    prepared(source(folder), tmp_path, "bf16")
    assert not list(tmp_path.glob("gguf/.*"))


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    settings = made.config(vocab_size=256)
    made.write_checkpoint(tmp_path / "model", settings)
    with pytest.raises(ModelError, match="268 tokens and the model 256 rows"):
        prepared(source(tmp_path / "model"), tmp_path)


def test_drafts_of_killed_conversions_are_swept(tmp_path: Path) -> None:
    made.write_checkpoint(tmp_path / "model")
    path, _ = prepared(source(tmp_path / "model"), tmp_path)
    path.unlink()
    nobody = 1 << 30
    own = path.with_name(f".{path.name}.{nobody}.part")
    old, fresh = (path.with_name(f".{name}.gguf.{nobody}.part") for name in ("old", "fresh"))
    alive = path.with_name(f".{path.name}.{os.getppid()}.part")
    for draft in (own, old, fresh, alive):
        draft.touch()
    os.utime(old, (1, 1))
    assert prepared(source(tmp_path / "model"), tmp_path) == (path, False)
    assert [draft.exists() for draft in (own, old, fresh, alive)] == [False, False, True, True]
