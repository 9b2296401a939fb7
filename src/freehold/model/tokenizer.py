"""Hugging Face's tokenizer.json as GGUF metadata: tokens, types, merges or scores, and which pre-tokenizer.

Byte-level BPE becomes `gpt2`, BPE with byte fallback (SentencePiece) becomes `llama`; nothing else is taken.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from freehold.core import Json
from freehold.errors import ModelError
from freehold.model.gguf_format import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED
from freehold.model.splits import PATTERNS


@dataclass(frozen=True, slots=True)
class TokenizerFile:
    """A tokenizer.json, in GGUF's terms."""

    model: Literal["gpt2", "llama"]
    tokens: list[str] = field(repr=False)
    types: list[int] = field(repr=False)
    merges: list[str] = field(repr=False)
    scores: list[float] = field(repr=False)
    """SentencePiece only: minus the merge's rank, so that earlier merges win."""
    add_space_prefix: bool
    begins_with: str
    """The special token that the post-processor puts first, usually bos."""
    ends_with: str
    document: Json = field(repr=False)

    def id_of(self, token: str) -> int | None:
        """None for the empty text and for an unknown token."""
        return self.tokens.index(token) if token and token in self.tokens else None


def read_tokenizer(path: Path) -> TokenizerFile:
    """Raises `ModelError` when there is none, or it is of another kind."""
    document = read_json(path, "Freehold needs the tokenizer in this form; tokenizer.model alone won't do.")
    try:
        return _read(path, document)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ModelError(
            f"Can't make sense of {path}.", f"{type(error).__name__}: {error}.", "Download it again."
        ) from error


def read_json(path: Path, why_needed: str = "") -> Json:
    """A JSON object from a file. Raises `ModelError`."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path.parent} has no {path.name}.", why_needed, "Copy the model's whole folder.") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"Can't read {path}.", f"{error}.", "Download it again.") from error
    if not isinstance(found, dict):
        raise ModelError(f"Can't read {path}.", "It isn't a JSON object.", "Download it again.")
    return found


def _read(path: Path, document: Json) -> TokenizerFile:
    model = document["model"]
    kinds = {node["type"] for key in ("pre_tokenizer", "decoder") for node in _nodes(document.get(key))}
    byte_level = "ByteLevel" in kinds
    if model.get("type", "BPE") != "BPE" or "merges" not in model or not (byte_level or model.get("byte_fallback")):
        raise ModelError(
            f"The tokenizer in {path} is of type {model.get('type')!r}.",
            "Only byte-level BPE and SentencePiece BPE with byte fallback can be read.",
            "Take a GGUF of this model, or a model of the Llama, Qwen or Mistral families.",
        )
    tokens, types = _tokens(document, byte_level)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    first, last = _template_ends(document.get("post_processor"))
    return TokenizerFile(
        model="gpt2" if byte_level else "llama",
        tokens=tokens,
        types=types,
        merges=merges if byte_level else [],
        scores=[] if byte_level else _scores(model["merges"], tokens, types),
        add_space_prefix=not byte_level and _prefixes_space(document),
        begins_with=first,
        ends_with=last,
        document=document,
    )


def _tokens(document: Json, byte_level: bool) -> tuple[list[str], list[int]]:
    vocabulary: dict[str, int] = document["model"]["vocab"]
    added = {int(token["id"]): token for token in document.get("added_tokens", [])}
    size = 1 + max([*vocabulary.values(), *added])
    if size > 10 * (len(vocabulary) + len(added)):
        raise ValueError(f"token id {size - 1} is out of all proportion")
    tokens = [f"[PAD{id}]" for id in range(size)]
    types = [UNUSED] * size
    for token, id in vocabulary.items():
        tokens[id] = token
        types[id] = BYTE if not byte_level and _is_byte(token) else NORMAL
    for id, token in added.items():
        tokens[id] = token["content"]
        types[id] = CONTROL if token.get("special") else USER_DEFINED
    unknown = document["model"].get("unk_token")
    if not byte_level and unknown in vocabulary:
        types[vocabulary[unknown]] = UNKNOWN
    return tokens, types


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def _scores(merges: list[Any], tokens: list[str], types: list[int]) -> list[float]:
    rank: dict[str, int] = {}
    for merge in merges:
        rank.setdefault("".join(merge.split(" ") if isinstance(merge, str) else merge), len(rank))
    last = float(-len(rank) - 1)
    return [
        float(-rank[token]) if token in rank else (last if kind == NORMAL else 0.0)
        for token, kind in zip(tokens, types, strict=True)
    ]


def _prefixes_space(document: Json) -> bool:
    for node in (*_nodes(document.get("normalizer")), *_nodes(document.get("pre_tokenizer"))):
        if node["type"] == "Prepend":
            return True
        if node["type"] == "Metaspace" and node.get("prepend_scheme", "always") != "never":
            return bool(node.get("add_prefix_space", True))
    return False


def _template_ends(processor: Json | None) -> tuple[str, str]:
    for node in _nodes(processor):
        if node["type"] == "TemplateProcessing":
            single = node["single"]
            names = [part["SpecialToken"]["id"] if "SpecialToken" in part else "" for part in single]
            return names[0], names[-1] if len(names) > 1 else ""
    return "", ""


def pre_tokenizer_name(document: Json, path: Path) -> str:
    """GGUF's name for the way a byte-level tokenizer splits text. Raises `ModelError` for one that has none."""
    every = _nodes(document.get("pre_tokenizer"))
    nodes = [node for node in every if node["type"] != "ByteLevel" or node.get("use_regex", True)]
    kinds = [node["type"] for node in nodes]
    if any(node.get("add_prefix_space") for node in every):
        raise _unknown_split(path, "it puts a space before every text")
    if kinds == ["ByteLevel"]:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and nodes[0].get("individual_digits"):
        return "smollm"
    if kinds == ["Split"]:
        pattern = nodes[0]["pattern"].get("Regex", "")
        if pattern in PATTERNS:
            return PATTERNS[pattern]
        raise _unknown_split(path, f"the pattern is {pattern!r}")
    raise _unknown_split(path, " then ".join(kinds) or "it splits by nothing")


def _unknown_split(path: Path, why: str) -> ModelError:
    known = ", ".join([*PATTERNS.values(), "smollm"])
    return ModelError(
        f"The tokenizer in {path} splits text in a way that GGUF has no name for here: {why}.",
        f"Known are {known}.",
        "Take a ready-made GGUF of this model.",
    )


def _nodes(tree: Json | None) -> list[Json]:
    """The steps of a normalizer, pre-tokenizer, decoder or post-processor, sequences laid flat."""
    if not tree:
        return []
    if tree["type"] != "Sequence":
        return [tree]
    lists = (tree.get(key) for key in ("normalizers", "pretokenizers", "decoders", "processors"))
    steps: list[Json] = next((steps for steps in lists if steps), [])
    return [node for step in steps for node in _nodes(step)]
