"""Traffic as a simulation needs it: a trace times growth, or Poisson arrivals of given lengths."""

from __future__ import annotations

import numpy as np

from freehold.errors import UsageError
from freehold.sizing.work import Floats, Ints, Work

MONTH_S = 730 * 3600.0
LEAST_REQUESTS = 1_000
"""Of a Poisson play; fewer tell little about a p99."""


def grown(at_s: Floats, prompt_tokens: Ints, output_tokens: Ints, growth: float, seed: int = 0) -> Work:
    """`growth` times the requests in the same time: copies of the trace, each moved by a few seconds so that bursts
    grow as wide and not sharper, and a random part of a last copy. Below 1: a random part."""
    if not growth > 0:
        raise UsageError(f"A growth of {growth:g} is none.", next="2 is twice the traffic.")
    rng = np.random.default_rng(seed)
    span_s = float(at_s[-1] - at_s[0]) if len(at_s) > 1 else 1.0
    rows, times = [], []
    for copy in range(int(np.ceil(growth))):
        part = min(1.0, growth - copy)
        kept = np.flatnonzero(rng.random(len(at_s)) < part) if part < 1.0 else np.arange(len(at_s))
        moved = at_s[kept] + (rng.uniform(0.0, 10.0, len(kept)) if copy else 0.0)
        rows.append(kept)
        times.append(np.where(moved > at_s[0] + span_s, moved - span_s, moved))
    number, arrival = np.concatenate(rows), np.concatenate(times)
    if not number.size:
        raise UsageError(f"A growth of {growth:g} leaves nothing of the trace.")
    order = np.argsort(arrival, kind="stable")
    return Work(
        arrival_s=arrival[order], prompt_tokens=prompt_tokens[number][order], output_tokens=output_tokens[number][order]
    )


def per_minute(arrival_s: Floats, most: int = 240) -> list[tuple[float, float]]:
    """(minute, requests a second) of equal windows: a minute each, several where there would be more than `most` of
    them; sixtieths of traffic of under ten minutes."""
    span_s = float(arrival_s[-1] - arrival_s[0])
    window_s = max(1.0, span_s / 60) if span_s < 600 else 60.0 * np.ceil(span_s / 60 / most)
    counts = np.bincount(((arrival_s - arrival_s[0]) // window_s).astype(np.int64))
    whole = counts[:-1] if len(counts) > 1 else counts
    return [((i + 0.5) * float(window_s) / 60, float(count) / float(window_s)) for i, count in enumerate(whole)]


def poisson(rate_per_s: float, seconds: float, input_tokens: int, output_tokens: int, seed: int = 0) -> Work:
    """Poisson arrivals of equal requests, at least `LEAST_REQUESTS` of them."""
    if not rate_per_s > 0:
        raise UsageError(f"A rate of {rate_per_s:g} requests/s is none.", next="Give one above 0.")
    count = max(LEAST_REQUESTS, int(rate_per_s * seconds))
    arrival = np.cumsum(np.random.default_rng(seed).exponential(1.0 / rate_per_s, count))
    return Work(
        arrival_s=arrival, prompt_tokens=np.full(count, input_tokens), output_tokens=np.full(count, output_tokens)
    )
