"""The first questions to a server, before a run: does it answer, does it keep exact lengths, how long is a word there?

A few short requests, sent by the load client itself, so that what a run would meet is met here and said as an error.
"""

from __future__ import annotations

import msgspec
import numpy as np

from freehold.core import Record
from freehold.errors import EngineFailed, NotFound, Overloaded, RequestError, Unauthorized, Unavailable
from freehold.loadtest.generator import play
from freehold.loadtest.prompts import Pool, Scale
from freehold.loadtest.target import Ask, Target
from freehold.sample import Sample

FEW_WORDS, MANY_WORDS = 8, 72
FEW, MANY = 2, 6
"""So many prompts of each length: words have tokens of their own number, and one prompt alone was off by a tenth."""
APART_S = 0.02
WAIT_S = 120.0
"""A server may be busy, or load its model first."""
KINDS: dict[int, type[RequestError]] = {401: Unauthorized, 403: Unauthorized, 404: NotFound, 429: Overloaded}


class Found(Record, frozen=True):
    target: Target
    """With `ignore_eos`, where the server takes it."""
    scale: Scale
    exact: bool
    """Answers are as long as asked."""
    counts: bool
    """It tells how many tokens there were."""


def probe(target: Target, *, exact: bool = True, seed: int = 0) -> Found:
    """Raises the error that the server answers with, or `Unreachable`."""
    pool = Pool(seed)
    asks = [
        Ask(text=pool.text((1 << 26) + seed % 1000 + 100 * number, words), output_tokens=1)
        for number, words in enumerate([FEW_WORDS] * FEW + [MANY_WORDS] * MANY)
    ]
    bold = msgspec.structs.replace(target, extra={"ignore_eos": True, **target.extra}) if exact else target
    told = _ask(bold, asks)
    kept = exact
    if exact and any(sample.status == 400 for sample in told):
        bold, kept = target, False
        told = _ask(target, asks)
    for sample in told:
        if sample.outcome != "ok":
            raise _error(sample, target)
    few, many = (sum(s.input_tokens for s in part) / len(part) for part in (told[:FEW], told[FEW:]))
    slope = (many - few) / (MANY_WORDS - FEW_WORDS)
    if slope <= 0:
        return Found(target=bold, scale=Scale(), exact=kept, counts=False)
    scale = Scale(base_tokens=max(0.0, few - slope * FEW_WORDS), tokens_per_word=slope)
    return Found(target=bold, scale=scale, exact=kept, counts=True)


def _ask(target: Target, asks: list[Ask]) -> list[Sample]:
    patient = msgspec.structs.replace(target, timeout_s=min(WAIT_S, target.timeout_s))
    found: list[Sample] = []
    for _, samples in play(patient, APART_S * np.arange(len(asks), dtype=np.float64), lambda number: asks[number]):
        found += samples
    return sorted(found, key=lambda sample: sample.number)


def _error(sample: Sample, target: Target) -> RequestError:
    what = sample.error or f"The server answered with status {sample.status}."
    if sample.outcome == "timeout":
        return Unavailable(f"{target.url} gave no answer within {WAIT_S:.0f} s.", next="Is its model loaded?")
    kind = KINDS.get(sample.status, EngineFailed)
    if kind is Unauthorized:
        return Unauthorized(what, next="Give a key of that server with --api-key or in FREEHOLD_API_KEY.")
    if kind is NotFound:
        return NotFound(what, next="See the model's name (--model) and the kind of server (--api completions).")
    return kind(what, "It was the answer to a short first request.", "Look at the server, then try again.")
