"""What one instance carries at its SLO: the noun in which the knee, the sizing and the money meet.

Filled by whoever measured (`freehold knee`), simulated or claimed it; `source` says which.
"""

from __future__ import annotations

from freehold.core import Record
from freehold.profile import Basis


class Capacity(Record, frozen=True):
    """Requests a second that one instance carries while it meets `slo`, with an interval of 90 %."""

    rate_per_s: float
    low: float
    high: float
    slo: str = ""
    """As it was asked: `p99 e2e < 500ms`."""
    input_tokens: float = 0.0
    """Mean of a request, in the traffic it was measured with."""
    output_tokens: float = 0.0
    success_share: float = 1.0
    """Of all attempts, those that ended with an answer: no failure, no timeout, nobody gave up."""
    source: str = ""
    """The command that measured it."""
    basis: Basis = "measured"
