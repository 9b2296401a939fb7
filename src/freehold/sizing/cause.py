"""Why it breaks at the knee: where the time of the requests that missed went, against a server with one user.

A request's time is cut into four: late at the client, waiting, reading the prompt, writing. What grew most is the
cause. Refusals and long pauses in the middle of answers are told apart, for they look like none of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from freehold.core import Record
from freehold.sample import Sample
from freehold.slo import Objective, judge

Floats = NDArray[np.float64]
Name = Literal["client", "refusals", "failures", "queue", "prefill", "memory", "decode", "none"]

PAUSE_TIMES = 20.0
PAUSE_SHARE = 0.25
"""A gap this many times the usual one, and this share of the whole request, is a pause in the middle of an answer."""
PAUSED_SHARE = 0.05
READS = 0.5
"""Rank correlation of the first token's time with prompt length from which reading, not waiting, explains it."""

WORDS: dict[Name, str] = {
    "client": "The client sent late: this machine is the limit, not the server.",
    "refusals": "The server turns requests away at once (its queue is full, or its admission says no).",
    "failures": "Requests fail or time out.",
    "queue": "Requests wait for a place: all of them are taken, so more batch or more instances help.",
    "prefill": "Reading prompts holds up first tokens: shorter or cached prompts, or more compute, help.",
    "memory": "Answers stop in the middle and go on later, as with a full KV cache: fewer at once or more memory help.",
    "decode": "Each token takes longer as more answers run at once: memory bandwidth is shared among them.",
    "none": "Nothing broke in what was measured.",
}


class Cause(Record, frozen=True):
    """The cause, in words, with the share of the missed requests (refusals, failures, memory) or of their added time
    that it explains."""

    name: Name
    share: float
    words: str


class Parts(Record, frozen=True):
    """Mean milliseconds of one request: late, waiting for a place, until the first token, then until the last."""

    late: float
    queue: float
    prefill: float
    decode: float


def cause(objective: Objective, calm: Sequence[Sample], broken: Sequence[Sample]) -> Cause:
    """Why `objective` breaks in the samples `broken`, against the undisturbed `calm`."""
    missed = [sample for sample in broken if judge(objective, sample).misses]
    if not missed:
        return _told("none", 0.0)
    refused = sum(s.outcome == "refused" for s in missed) / len(missed)
    failed = sum(s.outcome not in ("ok", "refused") for s in missed) / len(missed)
    if max(refused, failed) >= 0.5:
        return _told("refusals" if refused >= failed else "failures", max(refused, failed))
    answered = [s for s in missed if s.outcome == "ok"]
    paused = sum(_paused(s) for s in answered) / len(answered)
    if paused > 0.5 and paused > PAUSED_SHARE + sum(_paused(s) for s in calm) / max(1, len(calm)):
        return _told("memory", paused)
    return _grown(objective, calm, broken, answered)


def _grown(objective: Objective, calm: Sequence[Sample], broken: Sequence[Sample], answered: Sequence[Sample]) -> Cause:
    """What of a request's time grew most."""
    before, after = parts([s for s in calm if s.outcome == "ok"]), parts(answered)
    grown: dict[Name, float] = {
        "client": after.late - before.late,
        "queue": after.queue - before.queue,
        "prefill": after.prefill - before.prefill,
        "decode": after.decode - before.decode,
    }
    if objective.metric in ("itl", "tpot"):
        grown = {"decode": max(grown["decode"], 1e-9)}
    elif objective.metric in ("ttft", "queue"):
        grown.pop("decode")
    if all(s.queue_ms is None for s in answered) and "prefill" in grown and not _reading_explains(broken):
        grown["queue"] += grown.pop("prefill")  # the server doesn't tell them apart, and length doesn't explain it
    total = sum(max(0.0, ms) for ms in grown.values())
    name = max(grown, key=lambda each: grown[each])
    return _told(name, grown[name] / total) if total > 0 else _told("none", 0.0)


def parts(samples: Sequence[Sample]) -> Parts:
    """Where the time of answered requests goes, on average. Without a queue time from the server, waiting counts as
    prefill."""
    if not samples:
        return Parts(late=0.0, queue=0.0, prefill=0.0, decode=0.0)
    cut = np.zeros(4)
    for sample in samples:
        first_s = sample.end_s if sample.first_s is None else sample.first_s
        late = 1000 * (sample.sent_s - sample.intended_s)
        queue = sample.queue_ms or 0.0
        cut += (late, queue, max(0.0, 1000 * (first_s - sample.sent_s) - queue), 1000 * (sample.end_s - first_s))
    late, queue, prefill, decode = (float(ms) for ms in cut / len(samples))
    return Parts(late=late, queue=queue, prefill=prefill, decode=decode)


def _paused(sample: Sample) -> bool:
    gaps = sorted(sample.gaps_ms)
    total_ms = 1000 * (sample.end_s - sample.intended_s)
    return len(gaps) >= 8 and gaps[-1] > max(PAUSE_TIMES * gaps[len(gaps) // 2], PAUSE_SHARE * total_ms)


def _reading_explains(samples: Sequence[Sample]) -> bool:
    """Do long prompts get their first token later than short ones?"""
    pairs = [(s.input_tokens, s.first_s - s.sent_s) for s in samples if s.first_s is not None]
    if len(pairs) < 20 or len({tokens for tokens, _ in pairs}) < 4:
        return False
    table: Floats = np.array(pairs, float)
    ranks = np.argsort(np.argsort(table, axis=0), axis=0)
    together: Floats = np.atleast_2d(np.corrcoef(ranks[:, 0], ranks[:, 1]))
    return float(together[0, 1]) >= READS


def _told(name: Name, share: float) -> Cause:
    return Cause(name=name, share=share, words=WORDS[name])
