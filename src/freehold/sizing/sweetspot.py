"""Which batch size pays, and why a larger one doesn't: from the levels measured and the law fitted to them."""

from __future__ import annotations

from collections.abc import Sequence

from freehold.core import Record
from freehold.profile import PAYING_SHARE, StepLaw, step_ms

FULL = 0.95
"""A KV cache used to this share is full."""
KEEPS_PACE = 0.8
"""Growth of throughput over growth of the batch, from which on a batch still pays."""


class Point(Record, frozen=True):
    """One measured batch size."""

    streams: int
    tokens_per_s: float
    context_tokens: float
    """Mean context of a stream."""
    kv_usage: float | None = None


class SweetSpot(Record, frozen=True):
    streams: int
    tokens_per_s: float
    share: float
    """Of the best throughput measured."""
    reason: str
    """Why more doesn't pay, as a sentence."""


def sweet_spot(points: Sequence[Point], law: StepLaw | None) -> SweetSpot:
    """The smallest measured batch that gives `PAYING_SHARE` of the best throughput."""
    best = max(point.tokens_per_s for point in points)
    chosen = next(point for point in points if point.tokens_per_s >= PAYING_SHARE * best)
    reason = _reason(points, chosen, law)
    return SweetSpot(
        streams=chosen.streams, tokens_per_s=chosen.tokens_per_s, share=chosen.tokens_per_s / best, reason=reason
    )


def _reason(points: Sequence[Point], chosen: Point, law: StepLaw | None) -> str:
    last = points[-1]
    if chosen is last:
        growth = _growth(points[-2], last) if len(points) > 1 else 1.0
        more = "throughput still grew" if growth > KEEPS_PACE else "it had begun to level off"
        return f"No fall-off seen: {more} at {last.streams} streams, the largest batch measured."
    if any((point.kv_usage or 0.0) >= FULL for point in points if point.streams > chosen.streams):
        return "Memory: beyond it the KV cache is full, and answers wait for one another's room."
    if law is None:
        return f"Beyond it {last.streams} streams give {last.tokens_per_s / chosen.tokens_per_s:.2f} times as much."
    parts = shares(law, chosen.streams, chosen.context_tokens)
    if parts["base"] >= max(parts["sequences"], parts["context"]):
        return "Not the step's own cost: other work on the machine, or batches that the engine splits."
    if parts["context"] > parts["sequences"]:
        return (
            f"Memory bandwidth: reading the keys and values of all contexts is {parts['context']:.0%} of a step, and "
            f"grows with every stream."
        )
    return (
        f"Compute: what each sequence adds is {parts['sequences']:.0%} of a step, and what a batch shares (reading the "
        f"weights) only {parts['base']:.0%}."
    )


def shares(law: StepLaw, streams: int, context_tokens: float) -> dict[str, float]:
    """How a step of `streams` divides into what the batch shares, what each sequence adds, and the context."""
    whole = step_ms(law, 0, streams, int(streams * context_tokens))
    context = law.context_ms_per_token * streams * context_tokens
    one = step_ms(law, 0, 1, 0)
    sequences = max(0.0, whole - context - one)
    return {"base": one / whole, "sequences": sequences / whole, "context": context / whole} if whole else {}


def _growth(before: Point, after: Point) -> float:
    """Growth of throughput for each growth of the batch: 1 is perfect."""
    batch = after.streams / before.streams
    return (after.tokens_per_s / before.tokens_per_s - 1.0) / (batch - 1.0)
