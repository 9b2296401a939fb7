"""One request as its gateway saw it, from received to delivered: a row of the history.

Times are milliseconds since it was received, on the gateway's monotonic clock; `received_unix_s` alone is wall time.
What never happened is None. No prompt, no answer.
"""

from __future__ import annotations

from typing import Literal

from freehold.core import Record

Outcome = Literal["ok", "refused", "failed", "cancelled", "expired"]
"""`refused`: never accepted. `expired`: its deadline passed. `cancelled`: by its client, who may just have vanished."""


class Row(Record, frozen=True):
    """Everything that alerts, windows, cost and the review are computed from."""

    id: str
    route: str
    model: str
    """As the API names it."""
    variant: str
    """Model, revision, quantisation and engine: `variant_of` of the card of the worker that answered."""
    tenant: str
    outcome: Outcome
    received_unix_s: float
    status: int = 0
    """HTTP status; 499 for a client that vanished."""
    code: str = ""
    """Of the error or refusal."""
    worker: str = ""
    stream: bool = False
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
    looped: bool = False
    """The answer repeated itself at its end."""
    runaway: bool = False
    """It was cut at its limit without having asked for one."""

    @property
    def tpot_ms(self) -> float | None:
        """Mean time between the tokens of the answer; an answer of one token has none."""
        if self.first_ms is None or self.last_ms is None or self.completion_tokens < 2:
            return None
        return (self.last_ms - self.first_ms) / (self.completion_tokens - 1)

    @property
    def queue_ms(self) -> float | None:
        """From accepted to claimed."""
        return None if self.claimed_ms is None or self.accepted_ms is None else self.claimed_ms - self.accepted_ms
