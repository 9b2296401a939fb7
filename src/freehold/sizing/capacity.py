"""What one instance carries at its SLO: the noun in which the knee, the sizing and the money meet.

Filled by whoever measured (`freehold knee`), simulated or claimed it; `source` says which.
"""

from __future__ import annotations

import msgspec

from freehold.core import Record
from freehold.errors import ConfigError
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


class _Knee(Record, frozen=True):
    """What the money reads of a knee.json; everything else in it is for others."""

    capacity: Capacity


def from_knee(data: bytes, where: str) -> Capacity:
    """The `capacity` of a knee.json. Raises `ConfigError` that says what is missing."""
    try:
        found = msgspec.json.decode(data, type=_Knee).capacity
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{where} has no capacity that can be read.", f"{error}.", "Run `freehold knee` again."
        ) from None
    if not 0 < found.low <= found.rate_per_s <= found.high:
        raise ConfigError(
            f"{where} gives no capacity above 0.",
            f"It says {found.rate_per_s:g} requests/s between {found.low:g} and {found.high:g}.",
            "No rate met the SLO: relax it, or take a faster machine.",
        )
    return found
