"""What a run is trained on and measured with, the tokenizer, and the two streams of training steps."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from starter import data
from starter.chat import CLASSIFY, PAD, PREFIX, SERVE, Row, Turn, encode, train_tokenizer
from starter.learn import Step


@dataclass(frozen=True, slots=True)
class Corpus:
    """`every_message` is `messages` and `held_messages` in the order of the file."""

    every_message: list[data.Labelled]
    messages: list[data.Labelled]
    held_messages: list[data.Labelled]
    dialogues: list[list[Turn]]
    held_dialogues: list[list[Turn]]


@dataclass(frozen=True, slots=True)
class Mixture:
    """What a step of the second phase is made of; chats are counted, losses weighted."""

    tokens: int = 4096
    damage: float = 0.8
    user_weight: float = 0.2
    dialogues: int = 4
    tool_calls: int = 2
    others_weight: float = 0.3
    invented: bool = False
    """Tools with names put together anew, instead of a few fixed ones."""


def read_corpus(banking: Path, dialogues: Path, share: float, seed: int, limit: int | None) -> Corpus:
    """Both files; the first hundredth of the dialogues is never trained on."""
    every = data.read_messages(banking / "train.csv")
    trained, held = data.holdout(every, share, seed)
    talks = data.read_dialogues(dialogues, limit)
    cut = len(talks) // 100 + 1
    return Corpus(every, trained, held, talks[cut:], talks[:cut])


def fit_tokenizer(corpus: Corpus, vocab_size: int, rng: random.Random) -> Tokenizer:
    """Instructions and tools are counted as often as they occur, so that they take few tokens."""
    messages = corpus.every_message
    spoken = (turn.text for dialogue in corpus.dialogues for turn in dialogue)
    written = (text for item in messages for text in (item.text, item.label))
    fixed = [CLASSIFY, SERVE, PREFIX] * len(messages)
    calls = (turn.text for item in messages[::4] for turn in data.tool_chat(item, rng, 0.0))
    return train_tokenizer([*spoken, *written, *fixed, *calls], vocab_size)


def talk_steps(rows: Sequence[Row], passes: float, tokens: int, rng: random.Random) -> Iterator[Step]:
    """Phase 1: whole dialogues; one in ten is packed with others to the full context."""
    for turn in range(math.ceil(passes)):
        order = list(rows)
        rng.shuffle(order)
        cut = len(order) // 10
        packed = data.pack(order[:cut], PAD, 1024)
        groups = list(data.batches([*packed, *order[cut:]], tokens, rng))
        for at, group in enumerate(groups):
            yield Step([(1.0, group)], (turn + at / len(groups)) / passes)


def label_steps(
    tokenizer: Tokenizer, corpus: Corpus, passes: int, mixture: Mixture, rng: random.Random
) -> Iterator[Step]:
    """Phase 2: each step has labelled messages and, with a smaller weight, dialogues and tool calls."""
    for turn in range(passes):
        chats = data.label_chats(corpus.messages, rng, mixture.damage, mixture.user_weight)
        groups = list(data.batches(encode(tokenizer, chats), mixture.tokens, rng))
        for at, group in enumerate(groups):
            kept = [data.opening(rng.choice(corpus.dialogues), rng) for _ in range(mixture.dialogues)]
            calls = [
                data.tool_chat(rng.choice(corpus.messages), rng, mixture.damage, invented=mixture.invented)
                for _ in range(mixture.tool_calls)
            ]
            others = encode(tokenizer, [*kept, *calls])
            done = (turn + at / len(groups)) / passes
            yield Step([(1.0, group), (mixture.others_weight, others)], done)
