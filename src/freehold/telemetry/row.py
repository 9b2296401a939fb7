"""One request as its gateway saw it, from received to delivered: a row of the history.

Times are milliseconds since it was received, on the gateway's monotonic clock; `received_unix_s` alone is wall time.
What never happened is None. No prompt, no answer.
"""

from __future__ import annotations

import re
from typing import Literal

from freehold.core import ModelCard, Record

_SHORT = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28}\b")
"""A commit: its first letters are enough."""
Outcome = Literal["ok", "refused", "failed", "cancelled", "expired"]
"""`refused`: never accepted, or turned down by the engine as no request it can take. `expired`: its deadline passed.
`cancelled`: by its client, who may just have vanished."""
MISSES = frozenset({"overloaded", "unavailable", "deadline_unmeetable", "store_error"})
"""Codes of refusals that are the server's lack, and so miss every objective; others are the client's own matter."""


def variant_of(card: ModelCard) -> str:
    """`name@revision/quantisation/engine`, without what isn't known. Where there is no revision, the last part of a
    path or hub id stands for it if it isn't the name, so that models with one name, one after another, are told apart.
    """
    source = "" if " " in card.source else card.source.rstrip("/").rpartition("/")[2]
    which = _SHORT.sub(r"\1", card.revision) or (source if source != card.name else "")
    return "/".join(filter(None, (card.name + (f"@{which}" if which else ""), card.quantization, card.engine)))


class Row(Record, frozen=True):
    """Everything that alerts, windows, cost and the review are computed from."""

    id: str
    route: str
    model: str
    """As the API names it."""
    variant: str
    """`variant_of` the card of the worker that answered; without one, that of the only variant of its model, else the
    model's name."""
    tenant: str
    outcome: Outcome
    received_unix_s: float
    status: int = 0
    """HTTP status; 499 for a client that vanished."""
    code: str = ""
    """Of the error or refusal."""
    worker: str = ""
    stream: bool = False
    background: bool = False
    """Nobody waited for it: a line of a batch, or an answer that is fetched later. Its times are in no percentile."""
    priority: int = 0
    deadline_ms: float | None = None
    accepted_ms: float | None = None
    """It lies in the ledger."""
    claimed_ms: float | None = None
    """A worker has taken it up (of several attempts, the first)."""
    first_ms: float | None = None
    """The first token came in."""
    last_ms: float | None = None
    """The last one."""
    delivered_ms: float = 0.0
    """The last byte has left, or the request has ended otherwise."""
    attempts: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    answers: int = 0
    """How many there were of it, and of the prompts that came with it."""
    good: bool = False
    """It ended well and kept every objective of `observe.slo`."""
    looped: bool = False
    """The answer repeated itself at its end."""
    traceparent: str = ""
    """As its client sent it."""
    runaway: bool = False
    """It was cut at its limit without having asked for one."""

    @property
    def tpot_ms(self) -> float | None:
        """Mean time between the tokens of an answer (several are made side by side); one of one token has none."""
        each_tokens = self.completion_tokens / max(1, self.answers)
        if self.first_ms is None or self.last_ms is None or each_tokens < 2:
            return None
        return (self.last_ms - self.first_ms) / (each_tokens - 1)

    @property
    def queue_ms(self) -> float | None:
        """From accepted to claimed."""
        return None if self.claimed_ms is None or self.accepted_ms is None else self.claimed_ms - self.accepted_ms
