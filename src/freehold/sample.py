"""The noun of measuring: one request of a load run as its client saw it. In it the load client and the sizing meet."""

from __future__ import annotations

from typing import Literal

from freehold.core import Record

Outcome = Literal["ok", "refused", "failed", "timeout", "cancelled", "unsent"]
"""`refused`: the server said no at once (429, 503). `unsent`: the run was ended before its time came."""


class Sample(Record, frozen=True):
    """One request of a load run as its client saw it. Times are seconds since the run began, on one monotonic
    clock; latencies count from `intended_s`, so a client that sends late hides nothing."""

    number: int
    intended_s: float
    """When the schedule wanted it sent."""
    sent_s: float
    end_s: float
    outcome: Outcome
    first_s: float | None = None
    """The first token's arrival."""
    status: int = 0
    """HTTP status; 0 without a reply."""
    error: str = ""
    retry_after_s: float | None = None
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    gaps_ms: tuple[float, ...] = ()
    """Between token events, in order (ITL); empty where the answer wasn't streamed."""
    queue_ms: float | None = None
    """As the server tells it."""
    served_ms: float | None = None
    """From its reading of the request to its first token, as the server tells it."""
    group: str = ""
    """Tenant, user or conversation it belongs to."""


class LoggedRequest(Record, frozen=True):
    """One line of Freehold's request log: what a load test needs to play it again, and no text."""

    arrival_unix_s: float
    input_tokens: int
    output_tokens: int
    tenant: str = ""
    priority: int = 0
    deadline_unix_s: float | None = None
