"""Which ids begin, end and pad, whether bos is added, and the chat template: what lies around a tokenizer.json.

`tokenizer_config.json` names tokens, `generation_config.json` and `config.json` give ids; they may disagree, and
then the tokenizer's word counts, the others' ends of answer being added to it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from freehold.core import Json
from freehold.errors import ModelError
from freehold.model.gguf_format import Value
from freehold.model.tokenizer import TokenizerFile, pre_tokenizer_name, read_json, read_tokenizer


def tokenizer_values(folder: Path, config: Json, rows: int) -> dict[str, Value]:
    """Everything under `tokenizer.` for the GGUF of `folder`; `rows` are the embedding's. Raises `ModelError`."""
    found = read_tokenizer(folder / "tokenizer.json")
    if len(found.tokens) > rows:
        raise ModelError(
            f"The tokenizer in {folder} has {len(found.tokens):,} tokens and the model {rows:,} rows.",
            "Some tokens would have no embedding.",
            "The two don't belong together: copy both from the same model.",
        )
    settings = _optional(folder / "tokenizer_config.json")
    values: dict[str, Value] = {"tokenizer.ggml.model": found.model}
    if found.model == "gpt2":
        values["tokenizer.ggml.pre"] = pre_tokenizer_name(found.document, folder / "tokenizer.json")
    else:
        values["tokenizer.ggml.pre"] = "default"
        values["tokenizer.ggml.scores"] = found.scores + [0.0] * (rows - len(found.tokens))
        values["tokenizer.ggml.add_space_prefix"] = found.add_space_prefix
    unused = range(len(found.tokens), rows)
    values["tokenizer.ggml.tokens"] = found.tokens + [f"[PAD{id}]" for id in unused]
    values["tokenizer.ggml.token_type"] = found.types + [5] * len(unused)
    if found.merges:
        values["tokenizer.ggml.merges"] = found.merges
    values |= _ids(found, settings, config, _optional(folder / "generation_config.json"))
    values["tokenizer.ggml.add_bos_token"] = _adds(settings, "add_bos_token", found.begins_with)
    values["tokenizer.ggml.add_eos_token"] = _adds(settings, "add_eos_token", found.ends_with)
    if template := chat_template(folder, settings):
        values["tokenizer.chat_template"] = template
    return values


def chat_template(folder: Path, settings: Json | None = None) -> str:
    """The template of a model folder: chat_template.jinja, chat_template.json or tokenizer_config.json; else ''."""
    settings = _optional(folder / "tokenizer_config.json") if settings is None else settings
    file = folder / "chat_template.jinja"
    if file.is_file():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ModelError(f"Can't read {file}.", f"{error}.", "Download it again.") from error
    template = _optional(folder / "chat_template.json").get("chat_template") or settings.get("chat_template")
    if isinstance(template, list):  # several, by name
        by_name = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = by_name.get("default") or next(iter(by_name.values()), "")
    return template if isinstance(template, str) else ""


def _ids(found: TokenizerFile, settings: Json, config: Json, generation: Json) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for key, gguf_key in (("bos", "bos"), ("pad", "padding"), ("unk", "unknown")):
        named = found.id_of(_spelling(settings.get(f"{key}_token")))
        choices = [named, *_numbers(config.get(f"{key}_token_id"))]
        if (id := next((id for id in choices if id is not None), None)) is not None:
            values[f"tokenizer.ggml.{gguf_key}_token_id"] = id
    ends = [found.id_of(_spelling(settings.get("eos_token")))]
    ends += [*_numbers(generation.get("eos_token_id")), *_numbers(config.get("eos_token_id"))]
    unique = list(dict.fromkeys(id for id in ends if id is not None))
    for gguf_key, id in zip(("eos", "eot", "eom"), unique, strict=False):
        values[f"tokenizer.ggml.{gguf_key}_token_id"] = id
    size = len(found.tokens)
    return {key: id for key, id in values.items() if isinstance(id, int) and 0 <= id < size}


def _adds(settings: Json, key: str, by_template: str) -> bool:
    flag = settings.get(key)
    return flag if isinstance(flag, bool) else bool(by_template)


def _spelling(token: Any) -> str:
    """Tokens are named plainly, or as {"content": ...}."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else ""


def _numbers(value: Any) -> list[int]:
    many = value if isinstance(value, list) else [value]
    return [id for id in many if isinstance(id, int) and not isinstance(id, bool)]


def _optional(path: Path) -> Json:
    return read_json(path) if path.is_file() else {}
