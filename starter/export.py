"""Writes and reads the checkpoint directory: the files that transformers and its relatives expect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from starter.chat import END, PAD, SPECIAL, TEMPLATE
from starter.model import Shape, Starter


def config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.eps,
        "rope_theta": shape.theta,
        "rope_scaling": None,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
        "pretraining_tp": 1,
        "use_cache": True,
        "bos_token_id": PAD,
        "eos_token_id": END,
        "pad_token_id": PAD,
        "torch_dtype": "float16",
    }


def tokenizer_config(shape: Shape) -> dict[str, Any]:
    """No token is put in front of a text: the model was trained without one."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": shape.context,
        "bos_token": "<|endoftext|>",
        "eos_token": "<|end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "additional_special_tokens": [token for token in SPECIAL if token not in ("<|endoftext|>", "<|end|>")],
        "chat_template": TEMPLATE,
    }


def write(model: Starter, tokenizer: Tokenizer, folder: Path) -> None:
    """The whole directory, weights as float16. The tied head is not stored twice."""
    folder.mkdir(parents=True, exist_ok=True)
    generation = {"bos_token_id": PAD, "eos_token_id": END, "pad_token_id": PAD, "do_sample": False}
    generation["max_new_tokens"] = 128
    documents = {
        "config.json": config(model.shape),
        "generation_config.json": generation,
        "tokenizer_config.json": tokenizer_config(model.shape),
    }
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    tokenizer.save(str(folder / "tokenizer.json"))
    weights = {name: w.detach().cpu().half().contiguous() for name, w in model.named_parameters()}
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})


def read(folder: Path, device: torch.device | None = None) -> tuple[Starter, Tokenizer]:
    """The model in float32, whatever the file holds, and its tokenizer."""
    fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    shape = Shape(
        vocab=fields["vocab_size"],
        hidden=fields["hidden_size"],
        ffn=fields["intermediate_size"],
        layers=fields["num_hidden_layers"],
        heads=fields["num_attention_heads"],
        kv_heads=fields["num_key_value_heads"],
        context=fields["max_position_embeddings"],
        theta=fields["rope_theta"],
        eps=fields["rms_norm_eps"],
    )
    model = Starter(shape)
    weights = load_file(str(folder / "model.safetensors"))
    model.load_state_dict({name: weight.float() for name, weight in weights.items()})
    model.to(device or torch.device("cpu")).eval()
    return model, Tokenizer.from_file(str(folder / "tokenizer.json"))
