"""What a real engine must know of a model besides its weights: shape, stop tokens, vocabulary, chat template.

Read from a GGUF's metadata, or from the small files in a folder of OpenVINO IR.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from freehold.core import Json
from freehold.engine.base import EngineSpec
from freehold.errors import ModelError
from freehold.machine import memory_limit_bytes
from freehold.model.chatfiles import chat_template
from freehold.model.encoder import Encoder
from freehold.model.gguf_read import GgufInfo
from freehold.model.template import ChatTemplate
from freehold.model.tokenizer import read_json
from freehold.model.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Facts:
    """A model's shape and customs. `template` is None for a model that can't chat."""

    context_tokens: int
    layers: int
    kv_heads: int
    key_dim: int
    value_dim: int
    parameters: int
    weight_bytes: int
    quantization: str
    stop_ids: tuple[int, ...]
    """End-of-answer tokens; the first is eos."""
    vocabulary_tokens: int
    template: ChatTemplate | None = field(repr=False)


def of_gguf(info: GgufInfo, spec: EngineSpec) -> Facts:
    """Raises `ModelError` for a template that doesn't parse or can't be read."""
    text = _replacement(spec) or info.chat_template
    return Facts(
        context_tokens=info.context_tokens,
        layers=info.layers,
        kv_heads=info.kv_heads,
        key_dim=info.key_dim,
        value_dim=info.value_dim,
        parameters=info.parameters,
        weight_bytes=info.weight_bytes,
        quantization=info.quantization.lower(),
        stop_ids=info.stop_ids,
        vocabulary_tokens=len(info.tokens),
        template=ChatTemplate(text, info.text_of(info.bos_id), info.text_of(info.eos_id)) if text else None,
    )


def of_ir(folder: Path, spec: EngineSpec) -> tuple[Facts, Vocabulary, Encoder]:
    """From config.json, generation_config.json, tokenizer.json and tokenizer_config.json. Raises `ModelError`."""
    config = read_json(folder / "config.json", "It says what shape the model has.")
    vocabulary = Vocabulary.from_tokenizer_json(folder / "tokenizer.json")
    settings = _optional(folder / "tokenizer_config.json")
    stops = _ids(_optional(folder / "generation_config.json").get("eos_token_id")) or _ids(config.get("eos_token_id"))
    bos, eos = (_spelling(settings.get(f"{name}_token")) for name in ("bos", "eos"))
    text = _replacement(spec) or chat_template(folder, settings)
    weights = folder / "openvino_model.bin"
    try:
        heads = int(config["num_attention_heads"])
        head_dim = int(config.get("head_dim") or config["hidden_size"] // heads)
        facts = Facts(
            context_tokens=int(config["max_position_embeddings"]),
            layers=int(config["num_hidden_layers"]),
            kv_heads=int(config.get("num_key_value_heads") or heads),
            key_dim=head_dim,
            value_dim=head_dim,
            parameters=0,
            weight_bytes=weights.stat().st_size if weights.is_file() else 0,
            quantization="",
            stop_ids=tuple(stops),
            vocabulary_tokens=len(vocabulary),
            template=ChatTemplate(text, bos, eos) if text else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"Can't make sense of {folder / 'config.json'}.", f"{error!r}.", "Export it again.") from error
    bos_id = vocabulary.tokens.index(bos) if settings.get("add_bos_token") and bos in vocabulary.tokens else None
    return facts, vocabulary, Encoder.from_tokenizer_json(folder / "tokenizer.json", bos_id)


def kv_budget_bytes(spec: EngineSpec) -> int:
    """What the KV cache may take: as asked, else a quarter of memory divided among the workers."""
    if spec.kv_cache_bytes:
        return spec.kv_cache_bytes
    return memory_limit_bytes() // 4 // spec.workers


def _replacement(spec: EngineSpec) -> str:
    if not spec.chat_template:
        return ""
    try:
        return Path(spec.chat_template).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ModelError(f"Can't read the chat template {spec.chat_template}.", f"{error}.") from error


def _optional(path: Path) -> Json:
    return read_json(path) if path.is_file() else {}


def _ids(value: object) -> list[int]:
    many = value if isinstance(value, list) else [value]
    return [id for id in many if isinstance(id, int) and not isinstance(id, bool)]


def _spelling(token: object) -> str:
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else ""
