"""Ten seconds of a server: what ended in them by model variant, and how things stood. The unit of history.

Windows are sums of slots, alerts are decided slot by slot, a replay reads them back: whatever looks at the past or the
present looks at slots.
"""

from __future__ import annotations

import os
import zlib
from typing import Literal

import msgspec

from freehold.core import Record
from freehold.sketch import Told

SLOT_S = float(os.environ.get("FREEHOLD_SLOT_S", "10"))
"""Shorter for drills: a fault is told within seconds."""
Metric = Literal["ttft", "itl", "tpot", "e2e", "queue", "step"]
"""All in milliseconds. ttft and e2e count from received, queue from accepted to claimed; step is a worker's."""


class Part(Record, frozen=True):
    """One variant in one slot."""

    ok: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    refused: dict[str, int] = {}
    """By code."""
    failures: dict[str, int] = {}
    """By code."""
    good: int = 0
    """Of `ok`, those that kept the SLO (all, without one)."""
    runaway: int = 0
    looped: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    """Of all that ended, well or not."""
    useful_tokens: int = 0
    """Completion tokens of those that ended well; so the next two of their prompts."""
    useful_prompt_tokens: int = 0
    useful_cached_tokens: int = 0
    sketches: dict[Metric, Told] = {}
    longer_answers: float | None = None
    """Tokens an answer over its own baseline at the same prompts' lengths; None while there is no baseline."""
    rambling: bool = False
    """The change test says that answers have become longer."""
    steps: int = 0
    step_tokens: int = 0
    step_running: int = 0
    """Sum over the steps of the sequences in them: divided by `steps`, the mean batch."""
    step_s: float = 0.0
    """Sum over its steps, of all workers."""
    busy_s: float = 0.0
    """As `step_s`, of its busiest worker alone: bytes over this are the bandwidth it used while it ran."""
    lone_tokens: int = 0
    """Of steps with one sequence and no prompt to read: what a batch is compared with."""
    lone_s: float = 0.0
    bytes_read: float | None = None
    """By its steps, weights and cache, by arithmetic; None where the engine hides its steps."""
    batch_limit: int = 0
    """Of all its workers together."""


class Slot(Record, frozen=True):
    """What is told of ten seconds. Gauges are those of its end, unless they say otherwise."""

    begin_unix_s: float
    seconds: float = SLOT_S
    parts: dict[str, Part] = {}
    """By variant; of what no worker was chosen for, by model, unless it has but one variant."""
    queue_depth: int = 0
    """The most there was."""
    queued_tokens: int = 0
    running: int = 0
    batch_limit: int = 0
    """Sequences all ready workers run at once."""
    workers: dict[str, int] = {}
    """By state."""
    restarts: int = 0
    """In this slot."""
    deaths: dict[str, int] = {}
    """Restarts by worker, in this slot."""
    hung: dict[str, int] = {}
    """How often a worker was seen to hang, in this slot."""
    step_ms: dict[str, float] = {}
    """Mean step by worker, of those that made steps in this slot."""
    load_failures: dict[str, str] = {}
    """Worker -> why its model did not load, in this slot."""
    load_s: dict[str, dict[str, float]] = {}
    """Worker -> phase -> seconds, of loads that ended in this slot."""
    kv_usage: dict[str, float] = {}
    """By worker, 0 to 1."""
    memory_bytes: dict[str, int] = {}
    memory_limit_bytes: dict[str, int] = {}
    cost_usd: float | None = None
    """What the slot cost, used or not; None without a price."""
    api_usd: float | None = None
    """What the chosen API would have asked for what ended well."""
    power_w: float | None = None
    mbu: float | None = None
    """Share of the machine's measured memory bandwidth that the steps used, while they ran."""
    gaps: int = 0
    """Slots before this one for which nothing was written (the gateway was away)."""


EventKind = Literal["load_failed", "died", "hung", "runaway", "history_failed"]


class Event(Record, frozen=True):
    """Something that shall not wait for the end of its slot."""

    kind: EventKind
    at_unix_s: float
    why: str = ""
    worker: str = ""
    model: str = ""
    request: str = ""


def pack(slot: Slot) -> bytes:
    """As it lies in the history. Sketches of neighbouring bins compress to about half."""
    return zlib.compress(_encoder.encode(slot), 1)


def unpack(data: bytes) -> Slot:
    return _decoder.decode(zlib.decompress(data))


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Slot)
