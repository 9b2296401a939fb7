"""The words of the `sim` engine: a made-up language model that is a pure function.

The token at an index depends on the prompt, the seed and the index alone, never on the batch or the
time, so an answer goes on identically from any offset. Each place of an eight-token sentence draws from its own
list of words; twenty candidates stand at every place, with fixed logits, so that sampling parameters and
log-probabilities mean what they mean for a real model.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b

import msgspec

from freehold.core import Request, Sampling, TokenLogprob

CANDIDATES = 20
SENTENCE_TOKENS = 8
SHORTEST_ANSWER_TOKENS = 32
LONGEST_ANSWER_TOKENS = 216
CHARS_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 4

_LISTS = {
    "opener": "The A This That Each Every One Another Any Some No Your Our Their His Her Its My Which Either",
    "adjective": "quiet early narrow warm steady bright honest simple patient distant careful ordinary green heavy "
    "gentle clear recent useful broken famous small large late local public formal silent rapid modern naïve solid",
    "noun": "harbour engineer letter garden machine teacher market river question island window answer kitchen border "
    "station village museum account library mountain doctor morning bridge payment traveller café season office "
    "signal record factory journey painter number valley contract captain student theatre harvest",
    "verb": "follows carries explains opens reaches repairs answers describes visits crosses remembers measures "
    "replaces watches collects improves protects supports leaves finds keeps builds changes checks",
    "article": "the a this that each every one another any some no your our their his her its my which either",
}
_JOINS = ["and", "so", "but", "while", "because", "until", "though", "unless", "where", "since"]
_ENDS = [".", "!", ";", "...", "?", ":", ".\n", ".\n\n", "!\n", " -", *(" " + word for word in _JOINS)]
_SENTENCE = ("opener", "adjective", "noun", "verb", "article", "adjective", "noun", "end")


def _vocabulary() -> tuple[list[str], dict[str, tuple[int, int]]]:
    words: list[str] = []
    places: dict[str, tuple[int, int]] = {}
    for name, text in _LISTS.items():
        found = [" " + word for word in text.split()]
        places[name] = (len(words), len(found))
        words += found
    places["end"] = (len(words), len(_ENDS))
    words += _ENDS
    places["first"] = (len(words), len(_LISTS["opener"].split()))
    return words + _LISTS["opener"].split(), places


VOCABULARY, _PLACES = _vocabulary()
IDS = [(id,) for id in range(len(VOCABULARY))]
_BYTES = [tuple(word.encode()) for word in VOCABULARY]
_PLACE = tuple(_PLACES[name] for name in _SENTENCE)
_FIRST_PLACE = _PLACES["first"]
_END = _PLACES["end"][0]

_LOGITS = tuple(10.0 - 0.9 * rank for rank in range(CANDIDATES))
_TOTAL = math.log(sum(math.exp(logit) for logit in _LOGITS)) - math.log(0.98)
LOGPROBS = tuple(logit - _TOTAL for logit in _LOGITS)
"""Of each candidate by rank; they leave 2 % for the words that are no candidates."""
_OUTSIDE_LOGIT = -8.0

_MASK = (1 << 64) - 1
_UNIT = 1 << 32


def mix(key: int, index: int) -> int:
    """64 well-stirred bits (a round of splitmix64)."""
    x = (key + index * 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    return x ^ (x >> 31)


def answer_keys(request: Request, seed: int, choice: int) -> tuple[int, int]:
    """What an answer is a function of: (key of the candidates, key of the draw among them). The first comes
    from the prompt, the second from the seed and the choice as well, unless the answer is greedy."""
    asked = msgspec.json.encode([request.messages, request.prompt], order="deterministic")
    key = int.from_bytes(blake2b(asked, digest_size=8).digest())
    return key, key if request.sampling.temperature == 0 else mix(key, seed + choice + 1)


def natural_tokens(key: int) -> int:
    """Where the answer ends when nothing else ends it: after a whole sentence."""
    sentences = (LONGEST_ANSWER_TOKENS - SHORTEST_ANSWER_TOKENS) // SENTENCE_TOKENS + 1
    return SHORTEST_ANSWER_TOKENS + SENTENCE_TOKENS * (mix(key, -1) % sentences)


def count_prompt_tokens(request: Request) -> int:
    """About four characters a token, at least one; token ids count as themselves."""
    if request.kind == "chat":
        texts = [str(message.get("content") or "") for message in request.messages]
        texts += [str(call) for message in request.messages for call in message.get("tool_calls") or ()]
        texts += [msgspec.json.encode(tool).decode() for tool in request.tools]
        return sum(count_text_tokens(text) + TOKENS_PER_MESSAGE for text in texts) + TOKENS_PER_MESSAGE
    prompt = request.prompt
    return max(1, len(prompt) if isinstance(prompt, tuple) else count_text_tokens(prompt))


def count_text_tokens(text: str) -> int:
    return -(-len(text) // CHARS_PER_TOKEN)


def split_tokens(text: str) -> list[str]:
    """`text` as tokens of four characters, for answers that are written beforehand."""
    return [text[at : at + CHARS_PER_TOKEN] for at in range(0, len(text), CHARS_PER_TOKEN)]


def bytes_of(ids: Iterable[int]) -> bytes:
    return "".join([VOCABULARY[id] for id in ids if id < len(VOCABULARY)]).encode()


# ---- choosing a token ---------------------------------------------------------------------------


def thresholds(
    temperature: float, top_p: float, top_k: int, min_p: float, logits: tuple[float, ...] = _LOGITS
) -> tuple[int, ...]:
    """Cumulative probabilities of the ranks that the sampling leaves, in units of 2**-32, the last one left out.
    `logits` come highest first."""
    if temperature == 0:
        return ()
    weights = [math.exp((logit - logits[0]) / temperature) for logit in logits]
    total = sum(weights)
    kept = 0
    mass = 0.0
    for weight in weights[: top_k or len(weights)]:
        if kept and (mass >= top_p * total or weight < min_p * weights[0]):
            break
        kept += 1
        mass += weight
    return tuple(int(sum_ / mass * _UNIT) for sum_ in itertools.accumulate(weights[: kept - 1]))


cached_thresholds = lru_cache(maxsize=256)(thresholds)


def token_at(key: int, draw: int, index: int, ranks: tuple[int, ...]) -> tuple[int, int]:
    """(token id, rank) at `index` of the answer with these keys, where `thresholds` gave `ranks`."""
    first, size = _PLACE[index & 7] if index else _FIRST_PLACE
    rank = bisect_right(ranks, mix(draw, index) & 0xFFFFFFFF) if ranks else 0
    if first == _END:
        return first + rank, rank
    return first + ((mix(key, index) >> 32) + rank) % size, rank


def candidates(key: int, index: int, count: int = CANDIDATES) -> list[int]:
    """Token ids of the first `count` ranks at `index`."""
    first, size = _PLACE[index & 7] if index else _FIRST_PLACE
    turn = 0 if first == _END else mix(key, index) >> 32
    return [first + (turn + rank) % size for rank in range(count)]


def biased_token_at(key: int, draw: int, index: int, sampling: Sampling, seen: Counter[int]) -> tuple[int, int | None]:
    """`token_at` under logit bias and penalties; the rank is None for a word that was no candidate."""
    ids = candidates(key, index)
    logits = dict(zip(ids, _LOGITS, strict=True))
    for token in sampling.logit_bias:
        logits.setdefault(token, _OUTSIDE_LOGIT)
    for token, logit in logits.items():
        if times := seen[token]:
            logit = logit / sampling.repetition_penalty if logit > 0 else logit * sampling.repetition_penalty
            logit -= sampling.presence_penalty + sampling.frequency_penalty * times
        logits[token] = logit + sampling.logit_bias.get(token, 0.0)
    order = sorted(logits, key=lambda token: -logits[token])
    s = sampling
    ranks = thresholds(s.temperature, s.top_p, s.top_k, s.min_p, tuple(logits[token] for token in order))
    token = order[bisect_right(ranks, mix(draw, index) & 0xFFFFFFFF)]
    return token, ids.index(token) if token in ids else None


def logprob_of(key: int, index: int, token: int, rank: int | None, top: int) -> TokenLogprob:
    """The model's own log-probability of the token it wrote, before sampling bent it."""
    ids = candidates(key, index, top) if top else ()
    others = tuple([(VOCABULARY[id], value) for id, value in zip(ids, LOGPROBS, strict=False)])
    return TokenLogprob(VOCABULARY[token], -9.0 if rank is None else LOGPROBS[rank], _BYTES[token], others)


def embedding(text: str, width: int = 64) -> tuple[float, ...]:
    """A unit vector that depends on the text alone."""
    key = int.from_bytes(blake2b(text.encode(), digest_size=8).digest())
    raw = [mix(key, i) / _MASK - 0.5 for i in range(width)]
    length = math.sqrt(sum(x * x for x in raw)) or 1.0
    return tuple(x / length for x in raw)
