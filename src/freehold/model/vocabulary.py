"""Token ids to text: each id's bytes, and a stream that gives text as soon as its characters are whole.

The stream runs once a token for every answer, so its common case is one list look-up.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from freehold.errors import ModelError
from freehold.model.gguf_format import BYTE, CONTROL, UNKNOWN, UNUSED, USER_DEFINED
from freehold.model.gguf_read import GgufInfo
from freehold.model.tokenizer import read_tokenizer

SPACE = "\u2581"
"""SentencePiece writes a space as this."""
SHOWN_SPACE = "\u0120"
"""And GPT-2's byte alphabet so."""


class Vocabulary:
    """The bytes of every token. Control tokens are empty: they never show in an answer."""

    def __init__(self, tokens: Sequence[str], types: Sequence[int], model: str, leading_space: bool = False) -> None:
        """`tokens` and GGUF token `types` by id; `model` is `gpt2` (byte-level) or `llama` (SentencePiece).

        `leading_space`: the tokenizer puts a space before a text, which `decode(..., at_start=True)` takes away.
        """
        if model not in ("gpt2", "llama"):
            raise ModelError(
                f"The model's tokenizer is of kind {model!r}.",
                "Freehold turns token ids into text for byte-level BPE (gpt2) and SentencePiece (llama).",
                "Take a model with one of these.",
            )
        self.tokens = tokens
        self.pieces: list[bytes] = _byte_level(tokens, types) if model == "gpt2" else _sentence_piece(tokens, types)
        """By token id."""
        self.whole: list[str | None] = [_text_or_none(piece) for piece in self.pieces]
        """By token id: the text of pieces that are whole characters."""
        self.leading_space = leading_space and model == "llama"

    @classmethod
    def from_gguf(cls, info: GgufInfo) -> Self:
        """Raises `ModelError` for a kind of tokenizer that isn't known."""
        return cls(info.tokens, info.token_types, info.tokenizer_model, info.add_space_prefix)

    @classmethod
    def from_tokenizer_json(cls, path: Path | str) -> Self:
        """From Hugging Face's `tokenizer.json` (as OpenVINO IR folders have it). Raises `ModelError`."""
        found = read_tokenizer(Path(path))
        return cls(found.tokens, found.types, found.model, found.add_space_prefix)

    def __len__(self) -> int:
        return len(self.pieces)

    def decode(self, ids: Iterable[int], at_start: bool = False) -> str:
        """The text of `ids`; bytes that are no UTF-8 become U+FFFD. The slow twin of `TextStream`."""
        whole = self.bytes_of(ids)
        if at_start and self.leading_space:
            whole = whole.removeprefix(b" ")
        return whole.decode("utf-8", "replace")

    def bytes_of(self, ids: Iterable[int]) -> bytes:
        size = len(self.pieces)
        return b"".join(self.pieces[id] for id in ids if id < size)

    def label(self, id: int) -> str:
        """How to show one token by itself (log-probabilities): control tokens by their spelling."""
        if id >= len(self.pieces):
            return ""
        piece = self.pieces[id]
        return piece.decode("utf-8", "replace") if piece else self.tokens[id]


class TextStream:
    """Incremental `decode`: feed ids one by one, join what comes back."""

    __slots__ = ("_decoder", "_open", "_pieces", "_start", "_whole")

    def __init__(self, vocabulary: Vocabulary, at_start: bool = False) -> None:
        """`at_start`: the ids begin a text of their own (SentencePiece drops one space); an answer to a
        prompt goes on, so leave it False."""
        self._whole = vocabulary.whole
        self._pieces = vocabulary.pieces
        self._decoder: codecs.IncrementalDecoder | None = None
        self._start = at_start and vocabulary.leading_space
        self._open = self._start
        """The quick look-up won't do: a character is unfinished, or the first space is still to come."""

    def feed(self, id: int) -> str:
        """The text that became complete with this token; empty while a character is unfinished."""
        if not self._open:
            try:
                text = self._whole[id]
            except IndexError:  # models have more rows than tokens; such an id has no text
                return ""
            if text is not None:
                return text
        return self._feed_bytes(self._pieces[id] if id < len(self._pieces) else b"")

    def end(self) -> str:
        """What is left: U+FFFD for a character that never became whole, else nothing."""
        return self._decoder.decode(b"", True) if self._decoder else ""

    def _feed_bytes(self, piece: bytes) -> str:
        if self._start and piece:
            piece = piece.removeprefix(b" ")
            self._start = False
        if self._decoder is None:
            self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text = self._decoder.decode(piece)
        self._open = self._start or bool(self._decoder.getstate()[0])
        return text


def _text_or_none(piece: bytes) -> str | None:
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _byte(token: str) -> bytes:
    try:
        return bytes.fromhex(token.removeprefix("<0x").removesuffix(">"))
    except ValueError:
        return token.encode()


def _sentence_piece(tokens: Sequence[str], types: Sequence[int]) -> list[bytes]:
    pieces = []
    for token, kind in zip(tokens, types, strict=True):
        if kind in (CONTROL, UNKNOWN, UNUSED):
            pieces.append(b"")
        elif kind == BYTE:
            pieces.append(_byte(token))
        else:
            pieces.append(token.replace(SPACE, " ").encode())
    return pieces


def _byte_level(tokens: Sequence[str], types: Sequence[int]) -> list[bytes]:
    table = {ord(shown): byte for byte, shown in enumerate(byte_alphabet())}
    pieces = []
    for token, kind in zip(tokens, types, strict=True):
        if kind in (CONTROL, UNKNOWN, UNUSED):
            pieces.append(b"")
        elif kind == USER_DEFINED or token.isascii():  # printable ASCII stands for itself
            pieces.append(token.encode())
        elif token[0] == SHOWN_SPACE and token[1:].isascii():
            pieces.append(b" " + token[1:].encode())
        else:
            try:
                pieces.append(token.translate(table).encode("latin-1"))
            except UnicodeEncodeError:  # not in the alphabet: taken as it stands
                pieces.append(token.encode())
    return pieces


def byte_alphabet() -> list[str]:
    """GPT-2's printable stand-in for each byte: itself where printable, else U+0100 and on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    shown, spare = [], 0x100
    for byte in range(256):
        shown.append(chr(byte if byte in printable else spare))
        spare += byte not in printable
    return shown
