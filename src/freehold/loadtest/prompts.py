"""Prompts of a wanted length, made of common words; what a trace shares between prompts is shared here too.

The server's tokenizer is not known: `Scale` says how many tokens a word is there, measured by a few prompts. Texts
are cut from one long line of words, so that a prompt of thousands of tokens costs no more than a copy; each begins with
words of its own, or a prefix cache would answer for the model.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from freehold.core import Record
from freehold.errors import UsageError
from freehold.loadtest.arrivals import dice
from freehold.loadtest.formats.mooncake import BLOCK_TOKENS
from freehold.loadtest.target import Ask, Prompts
from freehold.loadtest.trace import Trace

COMMON = """
time year people way day man thing woman life child world school state family student group country problem
hand part place case week company system program question work night point home water room mother area money
story fact month lot right study book eye job word business issue side kind head house service friend father
power hour game line end member law car city name team minute idea body back parent face others level office
door health person art war history party result change morning reason research girl guy moment air teacher
force education foot boy age policy music market sense nation plan college interest death course someone
experience behind reach local remain effect use class control field pass rate road tax
"""
WORDS = tuple(COMMON.split())
POOL_WORDS = 1 << 16
OWN_WORDS = 4
"""So many words at the start of a prompt belong to it alone: enough for hundreds of millions of prompts."""


class Scale(Record, frozen=True):
    """A prompt of w words is `base_tokens + w * tokens_per_word` tokens for this server's model."""

    base_tokens: float = 0.0
    """The chat template's own."""
    tokens_per_word: float = 1.0

    def words(self, tokens: float) -> int:
        return max(1, round((tokens - self.base_tokens) / self.tokens_per_word))


class Pool:
    """One long line of words, and where each begins."""

    def __init__(self, seed: int) -> None:
        picks = dice(seed, "prompts").integers(len(WORDS), size=POOL_WORDS)
        words = [WORDS[pick] for pick in picks.tolist()]
        self._line = " ".join(words * 2)
        lengths = np.array([len(word) + 1 for word in words * 2])
        self._starts = np.concatenate(([0], np.cumsum(lengths))).tolist()

    def text(self, number: int, words: int) -> str:
        """Some `words` words that only `number` begins with."""
        own = []
        left = number
        for _ in range(OWN_WORDS):
            left, pick = divmod(left, len(WORDS))
            own.append(WORDS[pick])
        return " ".join((" ".join(own[:words]), self.run(number * 40_503, words - OWN_WORDS))).rstrip()

    def run(self, at: int, words: int) -> str:
        """`words` words from a place in the line; the same for the same place."""
        parts = []
        at %= POOL_WORDS
        while words > 0:
            count = min(words, POOL_WORDS)
            parts.append(self._line[self._starts[at] : self._starts[at + count] - 1])
            words -= count
        return " ".join(parts)


def of_trace(trace: Trace, scale: Scale, *, seed: int = 0, longest: int | None = None) -> Prompts:
    """Prompts and answer limits of a trace's rows; blocks with the same hash become the same text. Request numbers
    beyond its end begin it again. `longest` cuts prompts to what a context takes."""
    pool = Pool(seed)
    inputs, outputs = trace.input_tokens.tolist(), trace.output_tokens.tolist()

    def ask(number: int) -> Ask:
        row = number % len(trace)
        tokens = inputs[row] if longest is None else min(inputs[row], longest)
        words = scale.words(tokens)
        text = ""
        if trace.blocks and trace.blocks[row]:
            text = _of_blocks(pool, trace.blocks[row], words, scale)
        headers = {}
        if trace.priorities and trace.priorities[row]:
            headers["x-freehold-priority"] = str(trace.priorities[row])
        if trace.deadlines_s and (deadline_s := trace.deadlines_s[row]) is not None:
            headers["x-freehold-deadline-ms"] = str(max(1, round(1e3 * deadline_s)))
        return Ask(
            text=text or pool.text(number, words),
            output_tokens=max(1, outputs[row]),
            group=trace.groups[row] if trace.groups else "",
            headers=headers,
        )

    return ask


def _of_blocks(pool: Pool, blocks: tuple[int, ...], words: int, scale: Scale) -> str:
    """Each block's own text, as many words as a block has tokens; the last one cut."""
    each = max(1, round(BLOCK_TOKENS / scale.tokens_per_word))
    parts = []
    for block in blocks:
        parts.append(pool.text(block, min(each, words)))
        words -= each
        if words <= 0:
            break
    else:
        parts.append(pool.run(blocks[-1], words))
    return " ".join(parts)


def of_length(
    input_tokens: int,
    output_tokens: int | None,
    scale: Scale,
    *,
    shared_tokens: int = 0,
    spread: float = 0.0,
    seed: int = 0,
) -> Prompts:
    """Prompts of about `input_tokens`, the first `shared_tokens` the same in all; both lengths vary by ± `spread` of
    themselves."""
    if input_tokens < 1 or (output_tokens is not None and output_tokens < 1) or not 0 <= spread < 1:
        raise UsageError("Lengths must be 1 token or more, and their spread from 0 to below 1.")
    if not 0 <= shared_tokens < input_tokens:
        raise UsageError("The shared part of a prompt must be shorter than the prompt.")
    pool = Pool(seed)
    shared = pool.run(7, round(shared_tokens / scale.tokens_per_word))
    vary = _variation(spread, seed)

    def ask(number: int) -> Ask:
        factor = vary(number)
        words = scale.words(max(1.0, input_tokens * factor) - shared_tokens)
        text = pool.text(number, words)
        limit = None if output_tokens is None else max(1, round(output_tokens * vary(number + (1 << 20))))
        return Ask(text=f"{shared} {text}" if shared else text, output_tokens=limit)

    return ask


def of_texts(asks: list[Ask]) -> Prompts:
    """Given prompts, in turn."""
    return lambda number: asks[number % len(asks)]


def _variation(spread: float, seed: int) -> Callable[[int], float]:
    factors = (1 + spread * (2 * dice(seed, "lengths", 2).random(POOL_WORDS) - 1)).tolist()
    return lambda number: float(factors[number % POOL_WORDS])
