"""Accept or refuse: one pure decision on plain numbers, used by the gateway and by whoever predicts a queue.

Work is counted in *work tokens*: an answer's tokens, and a prompt's in so many of these as take the same time. While
a request waits every place is busy with what goes before it, so it starts no later than `work ahead / rate` (Graham's
bound for list scheduling, 1966). From that follow whether a deadline can be met, and when to come back if it can not.
"""

from __future__ import annotations

import math
from typing import Literal

from freehold.core import Record

MARGIN = 1.1
"""A forecast may be this much too short before a deadline is missed."""
PLANNED = 0.5
"""Who is told to come back is expected to find a queue of this share of what its deadline leaves for waiting."""
RETRY_LEAST_S = 0.1
RETRY_BLIND_S = 1.0
"""While nothing is known of the pace."""

Reason = Literal["", "slots", "requests", "tokens", "bytes", "key", "deadline", "hopeless"]
"""Why a request is refused. `slots`: nobody may wait, and no place is free. `deadline`: later it could be met;
`hopeless`: not even by an idle server."""


class Ask(Record, frozen=True):
    """What one call asks for; all its requests together."""

    prompt_tokens: float
    answer_tokens: float
    """Expected of each answer."""
    most_tokens: float
    """Expected of a long one: a deadline must hold for it too."""
    answers: int = 1
    requests: int = 1
    bytes: int = 0
    priority: int = 0
    """Smaller is sooner."""
    due_in_s: float = math.inf


class Pace(Record, frozen=True):
    """How fast the live workers are. `step_s` 0: nothing is known, and no deadline is called too short."""

    step_s: float = 0.0
    """One step of a full batch, without the prompts that are read beside it."""
    lone_step_s: float = 0.0
    """One step of a single sequence."""
    prefill_s: float = 0.0
    """Reading one prompt token."""
    stretch: float = 1.0
    """How many times longer a step takes because prompts of others are read meanwhile."""
    places: int = 1
    """Sequences in one worker's batch."""
    workers: int = 1


class Line(Record, frozen=True):
    """The queue as one newcomer finds it."""

    requests: float = 0.0
    """Waiting, and those about to come back for the place they were promised."""
    promised: float = 0.0
    """Those who come back later than that."""
    next_slot_s: float = 0.0
    """From when on nothing is promised to anybody."""
    tokens: float = 0.0
    """Of the waiting: prompts and expected answers."""
    bytes: float = 0.0
    running: int = 0
    """Sequences that run."""
    answers: int = 0
    """Sequences that wait."""
    running_work: float = 0.0
    """Work tokens left of them."""
    ahead: int = 0
    """Answers that wait before the newcomer."""
    ahead_work: float = 0.0
    class_work: float = 0.0
    """Of everything with a deadline in the newcomer's class and before it, promises included."""
    slack_s: float = math.inf
    """By how much the least of those behind it can start later and still be in time."""
    of_key: int = 0
    """Waiting requests of the same API key."""
    key_start_s: float = 0.0
    """When the first of these begins."""
    ready_in_s: float = 0.0
    """When a worker is there; 0 where one is."""


class Limits(Record, frozen=True):
    """What may wait. 0 tokens, bytes or of a key: no limit."""

    requests: int
    tokens: int = 0
    bytes: int = 0
    of_key: int = 0
    slots: bool = False
    """Nobody may wait: who finds no place free is refused."""


class Verdict(Record, frozen=True):
    """`reason` empty: accepted, and then `start_s` and `end_s` are the forecast, seconds from now."""

    reason: Reason = ""
    start_s: float = 0.0
    end_s: float = 0.0
    retry_after_s: float | None = None
    """When it would be accepted; None: never."""


def decide(ask: Ask, line: Line, pace: Pace, limits: Limits) -> Verdict:
    """A longer line never turns a refusal into an acceptance, and neither does a slower pace."""
    if limits.slots and line.running + line.answers + ask.answers > pace.places * pace.workers:
        return Verdict(reason="slots", retry_after_s=_free_after_s(ask, line, pace))
    if reason := _over(ask, line, limits):
        return Verdict(reason=reason, retry_after_s=_room_after_s(reason, ask, line, pace, limits))
    start_s, own_s = _start_s(ask, line, pace), own_time_s(ask, pace, line.running + line.ahead + ask.answers)
    if ask.due_in_s < math.inf:
        if own_time_s(ask, pace, ask.answers) * MARGIN > ask.due_in_s:
            return Verdict(reason="hopeless", end_s=own_time_s(ask, pace, ask.answers))
        late = (start_s + own_s) * MARGIN > ask.due_in_s
        pushes = drain_s(work_tokens(ask, pace), pace) > line.slack_s
        if late or pushes:
            return Verdict(reason="deadline", end_s=start_s + own_s, retry_after_s=_in_time_after_s(ask, line, pace))
    return Verdict(start_s=start_s, end_s=start_s + own_s)


def work_tokens(ask: Ask, pace: Pace) -> float:
    """What it adds to the queue; at least one token."""
    each = pace.prefill_s * pace.places / pace.step_s if pace.step_s else 0.0
    return max(1.0, ask.answers * ask.answer_tokens + ask.prompt_tokens * each)


def drain_s(work: float, pace: Pace) -> float:
    """Seconds in which all workers, their batches full, do `work` tokens."""
    return work * pace.step_s / (pace.places * pace.workers)


def step_time_s(pace: Pace, sequences: int) -> float:
    """One step while `sequences` share the workers: between a lone step and a full one."""
    if pace.places < 2:
        return pace.step_s
    each = min(pace.places, max(1, math.ceil(sequences / pace.workers)))
    lone_s = min(pace.lone_step_s, pace.step_s)
    return lone_s + (pace.step_s - lone_s) * (each - 1) / (pace.places - 1)


def own_time_s(ask: Ask, pace: Pace, sequences: int) -> float:
    """From its start to its end, while so many sequences run. Answers that don't fit side by side take turns."""
    turns = math.ceil(ask.answers / (pace.places * pace.workers))
    step_s = pace.stretch * step_time_s(pace, sequences)
    return ask.prompt_tokens * pace.prefill_s + turns * ask.most_tokens * step_s


def allowance_s(ask: Ask, pace: Pace) -> float:
    """How long it may wait and still be in time among full batches. Infinite without a deadline."""
    return max(0.0, ask.due_in_s / MARGIN - own_time_s(ask, pace, pace.places * pace.workers))


def _start_s(ask: Ask, line: Line, pace: Pace) -> float:
    if line.running + line.ahead + ask.answers <= pace.places * pace.workers:
        return line.ready_in_s
    return line.ready_in_s + drain_s(line.running_work + line.ahead_work, pace)


def _free_after_s(ask: Ask, line: Line, pace: Pace) -> float | None:
    """When those that run will have ended, on the average. None: there are never so many places."""
    if ask.answers > pace.places * pace.workers:
        return None
    if not pace.step_s or not line.running:
        return RETRY_BLIND_S
    return max(RETRY_LEAST_S, line.running_work / line.running * step_time_s(pace, line.running))


def _over(ask: Ask, line: Line, limits: Limits) -> Reason:
    if line.requests + ask.requests > limits.requests:
        return "requests"
    if limits.of_key and line.of_key + ask.requests > limits.of_key:
        return "key"
    if limits.tokens and line.tokens and line.tokens + _tokens(ask) > limits.tokens:
        return "tokens"  # one that is over the limit alone may still go when nothing else waits
    if limits.bytes and line.bytes and line.bytes + ask.bytes > limits.bytes:
        return "bytes"
    return ""


def _tokens(ask: Ask) -> float:
    return ask.prompt_tokens + ask.answers * ask.answer_tokens


def _room_after_s(reason: Reason, ask: Ask, line: Line, pace: Pace, limits: Limits) -> float:
    """When so much of the line has begun that this one fits in."""
    if not pace.step_s:
        return line.ready_in_s + RETRY_BLIND_S
    if reason == "key":
        return max(RETRY_LEAST_S, line.key_start_s * MARGIN)
    each = (line.tokens or _tokens(ask)) / max(1.0, line.requests)
    over = {
        "requests": (line.requests + ask.requests - limits.requests) * each,
        "tokens": line.tokens + _tokens(ask) - limits.tokens,
        "bytes": (line.bytes + ask.bytes - limits.bytes) * line.tokens / max(1.0, line.bytes),
    }[reason] + line.promised * each
    wave = min(limits.requests / 2, pace.places * pace.workers) * each  # answers that began together end together
    return line.ready_in_s + max(RETRY_LEAST_S, drain_s(over + wave, pace) * MARGIN, line.next_slot_s)


def _in_time_after_s(ask: Ask, line: Line, pace: Pace) -> float:
    left_s = drain_s(line.running_work + line.class_work, pace) - PLANNED * allowance_s(ask, pace)
    return line.ready_in_s + max(RETRY_LEAST_S, left_s)
