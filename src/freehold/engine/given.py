"""What was given of an answer before its worker was lost, and where the engine that goes on with it stands.

An engine reads prompt and given tokens, and goes on. Text that was made but not shown (a possible stop string, half
a character) stands in its state again. Where that can't be, as the log-probabilities of such tokens are lost and a
grammar can't stand inside a character, these tokens are made once more, without being counted twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from freehold.core import Chunk
from freehold.errors import CannotResume

_MIX = 0x9E37_79B9_7F4A_7C15


class Given(NamedTuple):
    """Of one choice."""

    tokens: int
    text: str
    """What was shown."""
    logprobs: int
    """How many tokens' log-probabilities were told."""
    ids: tuple[int, ...]
    """As many as `tokens`, unless the engine hides some."""


def given_of(chunks: Sequence[Chunk]) -> Given:
    return Given(
        sum(chunk.tokens for chunk in chunks),
        "".join(chunk.text for chunk in chunks),
        sum(len(chunk.logprobs or ()) for chunk in chunks),
        tuple(id for chunk in chunks for id in chunk.ids),
    )


class Place(NamedTuple):
    """Where an engine goes on."""

    ids: tuple[int, ...]
    """The given tokens that it reads."""
    text: str
    """Their text, shown or not, as far as its characters are whole."""


START = Place((), "")


def place(given: Given, bytes_of: Callable[[Sequence[int]], bytes], *, logprobs: bool, whole: bool) -> Place:
    """With `logprobs` no token is read whose log-probability wasn't told, with `whole` none that ends inside a
    character. Raises `CannotResume` if the tokens aren't known, or have another text than was shown."""
    if len(given.ids) != given.tokens:
        raise CannotResume("The answer can't be gone on with.", "Not all of its tokens are known.")
    read = min(given.tokens, given.logprobs) if logprobs else given.tokens
    while whole and read and not _ends_whole(bytes_of(given.ids[:read])):
        read -= 1
    ids = given.ids[:read]
    text = _whole_text(bytes_of(ids))
    if not text.startswith(given.text) or (logprobs and read < given.logprobs):
        raise CannotResume("The answer can't be gone on with.", "Its tokens don't stand where its text stands.")
    return Place(ids, text)


def fresh_seed(seed: int, tokens: int) -> int:
    """A seed for the rest of an answer: the draws that made its beginning must not be drawn again."""
    return seed + tokens * _MIX


def _ends_whole(data: bytes) -> bool:
    """False if the last character isn't complete yet; bytes that can't become one are no reason to wait."""
    return not _open_bytes(data)


def _whole_text(data: bytes) -> str:
    return data[: len(data) - _open_bytes(data)].decode("utf-8", "replace")


def _open_bytes(data: bytes) -> int:
    """How many bytes at the end begin a character that is still to be completed."""
    for back in range(1, min(3, len(data)) + 1):
        lead = data[-back]
        if lead >= 0xC0:
            wanted = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            return back if lead < 0xF8 and back < wanted else 0
        if lead < 0x80:
            return 0
    return 0
