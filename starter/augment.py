"""Small damage to a customer's message, so that the label is learnt from meaning and not from one word.

People type in lower case, forget punctuation, leave words out and misspell; so does this. All pure
functions of the text and a random generator.
"""

from __future__ import annotations

import random

_PUNCTUATION = str.maketrans("", "", ".,?!;:\"'")


def damage(text: str, rng: random.Random, strength: float = 1.0) -> str:
    """The message with a few of the changes below; `strength` 0 returns it untouched."""
    if rng.random() > 0.85 * strength:
        return text
    if rng.random() < 0.4:
        text = text.lower()
    if rng.random() < 0.3:
        text = text.translate(_PUNCTUATION)
    words = text.split()
    if rng.random() < 0.5:
        words = drop_words(words, rng, 0.12)
    if rng.random() < 0.15:
        words = swap_words(words, rng)
    if rng.random() < 0.3:
        words = [misspell(word, rng) if rng.random() < 0.1 else word for word in words]
    return " ".join(words)


def drop_words(words: list[str], rng: random.Random, share: float) -> list[str]:
    """Leave out words at random, but never from a message of three words or fewer."""
    if len(words) <= 3:
        return words
    kept = [word for word in words if rng.random() >= share]
    return kept if len(kept) >= 3 else words


def swap_words(words: list[str], rng: random.Random) -> list[str]:
    """Exchange two neighbours."""
    if len(words) < 4:
        return words
    at = rng.randrange(len(words) - 1)
    return [*words[:at], words[at + 1], words[at], *words[at + 2 :]]


def misspell(word: str, rng: random.Random) -> str:
    """Drop, double or exchange one inner letter of a word of four letters or more."""
    if len(word) < 4:
        return word
    at = rng.randrange(1, len(word) - 2)
    kind = rng.randrange(3)
    if kind == 0:
        return word[:at] + word[at + 1 :]
    if kind == 1:
        return word[:at] + word[at] + word[at:]
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
