"""Text to token ids, exactly as the model was trained, from a GGUF's metadata or a tokenizer.json.

For engines that can't: openvino-genai's own GGUF tokenizer knows two ways of splitting (`smollm`, and `qwen2`'s for
all others), so it misreads every Llama 3, GPT-2 and Mistral tokenizer, the starter's too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from freehold.errors import ModelError
from freehold.model.gguf_format import CONTROL, USER_DEFINED
from freehold.model.gguf_parse import read_directory
from freehold.model.gguf_read import GgufInfo
from freehold.model.splits import STEPS, WHOLE_WORDS_FIRST

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPACE = "\u2581"


class Encoder:
    """A tokenizer, one direction. `Vocabulary` is the other."""

    def __init__(self, tokenizer: Tokenizer, bos_id: int | None = None) -> None:
        self._tokenizer = tokenizer
        self._bos = [] if bos_id is None else [bos_id]

    @classmethod
    def from_gguf(cls, info: GgufInfo) -> Self:
        """Reads merges or scores from `info.path`. Raises `ModelError` for a kind or a splitting that isn't known."""
        values, _, _ = read_directory(info.path, skipped=())
        if info.tokenizer_model == "gpt2":
            merges = values.get("tokenizer.ggml.merges", [])
            tokenizer = _byte_level(info, [str(merge) for merge in merges] if isinstance(merges, list) else [])
        elif info.tokenizer_model == "llama":
            scores = values.get("tokenizer.ggml.scores", [])
            tokenizer = _sentence_piece(info, [float(score) for score in scores] if isinstance(scores, list) else [])
        else:
            raise _unknown(info, f"of kind {info.tokenizer_model!r}")
        _add_special(tokenizer, info)
        return cls(tokenizer, info.bos_id if info.add_bos else None)

    @classmethod
    def from_tokenizer_json(cls, path: Path | str, bos_id: int | None = None) -> Self:
        """From Hugging Face's file (OpenVINO IR folders have one); `bos_id` where plain texts begin with one."""
        from tokenizers import Tokenizer

        try:
            return cls(Tokenizer.from_file(str(path)), bos_id)
        except Exception as error:  # the library raises bare Exception
            raise ModelError(f"Can't read {path}.", f"{error}.", "Download it again.") from error

    def encode(self, text: str, bos: bool = False) -> list[int]:
        """Ids of `text`; special tokens spelt out in it become themselves. `bos` puts bos first where the model
        wants it: for plain prompts, not for a rendered chat template, which writes its own."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return self._bos + ids if bos and ids[:1] != self._bos else ids


def _byte_level(info: GgufInfo, merges: Sequence[str]) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    if info.tokenizer_pre not in STEPS:
        raise _unknown(info, f"splitting text by {info.tokenizer_pre or 'an unnamed rule'}")
    vocabulary = {token: id for id, token in enumerate(info.tokens)}
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    whole = info.tokenizer_pre in WHOLE_WORDS_FIRST
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=whole))
    splits = [pre_tokenizers.Split(Regex(step), "isolated") for step in STEPS[info.tokenizer_pre]]
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, to_bytes])
    return tokenizer


def _sentence_piece(info: GgufInfo, scores: Sequence[float]) -> Tokenizer:
    from tokenizers import Tokenizer, models, normalizers

    vocabulary = {token: id for id, token in enumerate(info.tokens)}
    unknown = info.scalars.get("tokenizer.ggml.unknown_token_id", 0)
    model = models.BPE(
        vocab=vocabulary,
        merges=_merges_of(vocabulary, scores),
        byte_fallback=True,
        fuse_unk=True,
        unk_token=info.text_of(unknown if isinstance(unknown, int) else 0),
    )
    tokenizer = Tokenizer(model)
    steps: list[normalizers.Normalizer] = [normalizers.Prepend(SPACE)] if info.add_space_prefix else []
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])
    return tokenizer


def _merges_of(vocabulary: dict[str, int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """SentencePiece merges any two pieces whose whole is one, the best-scored whole first."""
    found = []
    for token, id in vocabulary.items():
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in vocabulary and right in vocabulary and id < len(scores):
                found.append((-scores[id], vocabulary[left], vocabulary[right], left, right))
    return [(left, right) for _, _, _, left, right in sorted(found)]


def _add_special(tokenizer: Tokenizer, info: GgufInfo) -> None:
    from tokenizers import AddedToken

    for wanted, special in ((CONTROL, True), (USER_DEFINED, False)):
        chosen = [token for token, kind in zip(info.tokens, info.token_types, strict=True) if kind == wanted and token]
        tokenizer.add_tokens([AddedToken(token, normalized=False, special=special) for token in chosen])


def _unknown(info: GgufInfo, what: str) -> ModelError:
    return ModelError(
        f"{info.path.name} has a tokenizer {what}.",
        f"Known here are {', '.join(STEPS)} and SentencePiece.",
        "Run it with --engine llamacpp, which brings its own tokenizers.",
    )
