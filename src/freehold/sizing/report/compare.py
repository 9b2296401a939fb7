"""Two runs: what got better, what got worse, and whether that is beyond noise.

A figure with an interval of its own is beyond noise where the two intervals don't overlap (stricter than a test of
their difference). Percentiles of requests are compared by a bootstrap of whole blocks of time, since neighbours in a
queue are alike (Kuensch, Annals of Statistics 17, 1989): the 90 % interval of their ratio must leave out 1.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from freehold.core import Json, Record
from freehold.sizing.report.run import Floats, Requests, Run

BLOCKS = 20
DRAWS = 1000
SHARES = (0.5, 0.95, 0.99)
Outcome = Literal["better", "worse", "not beyond noise"]


class Change(Record, frozen=True):
    name: str
    unit: str
    before: float
    after: float
    low: float
    high: float
    """90 % interval of after over before."""
    outcome: Outcome
    how: str


def compare(before: Run, after: Run, seed: int = 1) -> list[Change]:
    """Every figure that both runs have."""
    found: list[Change] = []
    for file, path, unit, more_is_better in (
        ("knee.json", ("capacity",), "requests/s at the SLO", True),
        ("verdict.json", ("cost_per_successful_request_usd",), "USD an answer", False),
        ("cost.json", ("cost_per_successful_request_usd",), "USD an answer", False),
    ):
        change = _intervals(before, after, file, path[0], unit, more_is_better=more_is_better)
        if change and change.name not in [one.name for one in found]:
            found.append(change)
    if before.requests and after.requests:
        found += _requests(before.requests, after.requests, seed)
    return found


def offered_differ(before: Run, after: Run) -> str:
    """A sentence where the two runs were not offered the same load; empty where they were."""
    rates = [_rate(run.requests) for run in (before, after) if run.requests]
    if len(rates) == 2 and abs(rates[0] - rates[1]) > 0.05 * max(rates):
        return (
            f"The loads differ: {rates[0]:.3g} and {rates[1]:.3g} requests/s were offered, and latencies under"
            " different loads say little about the servers."
        )
    return ""


def _rate(requests: Requests) -> float:
    span = float(requests.intended_s[-1] - requests.intended_s[0])
    return (len(requests.intended_s) - 1) / span if span > 0 else 0.0


def _intervals(before: Run, after: Run, file: str, name: str, unit: str, *, more_is_better: bool) -> Change | None:
    old, new = (_interval(run.files.get(file, {}).get(name)) for run in (before, after))
    if not old or not new:
        return None
    low, high = new[1] / old[2], new[2] / old[1]
    title = "capacity" if name == "capacity" else "cost of an answer"
    how = f"90 % intervals of {file}: {old[1]:.4g} to {old[2]:.4g}, then {new[1]:.4g} to {new[2]:.4g}"
    return Change(
        name=title, unit=unit, before=old[0], after=new[0], low=low, high=high,
        outcome=_outcome(low, high, more_is_better=more_is_better), how=how,
    )  # fmt: skip


def _interval(told: Json | None) -> tuple[float, float, float] | None:
    """Value, low, high of a Figure or a Capacity; None without all of them over 0."""
    if not isinstance(told, dict):
        return None
    value = told.get("rate_per_s", told.get("value"))
    ends = [end for end in (value, told.get("low", value), told.get("high", value)) if isinstance(end, int | float)]
    return (ends[0], ends[1], ends[2]) if len(ends) == 3 and min(ends) > 0 else None


def _requests(before: Requests, after: Requests, seed: int) -> list[Change]:
    rng = np.random.default_rng(seed)
    found = [_share(before, after, rng)]
    for name, old, new in (
        ("end to end", before.latency_ms, after.latency_ms),
        ("first token", before.first_ms, after.first_ms),
    ):
        if np.isfinite(old).sum() < BLOCKS or np.isfinite(new).sum() < BLOCKS:
            continue
        drawn = [_bootstrap(times, rng) for times in (old, new)]
        for i, share in enumerate(SHARES):
            low, high = np.quantile(drawn[1][:, i] / drawn[0][:, i], (0.05, 0.95))
            found.append(
                Change(
                    name=f"p{share * 100:g} {name}", unit="ms",
                    before=float(np.nanquantile(old, share)), after=float(np.nanquantile(new, share)),
                    low=float(low), high=float(high), outcome=_outcome(low, high, more_is_better=False),
                    how=f"bootstrap of {BLOCKS} blocks in time, {DRAWS} draws, of answered requests",
                )
            )  # fmt: skip
    return found


def _share(before: Requests, after: Requests, rng: np.random.Generator) -> Change:
    """Share of requests that were answered."""
    old, new = (np.array([part.mean() for part in np.array_split(r.ok, BLOCKS) if len(part)]) for r in (before, after))
    drawn = [part[rng.integers(0, len(part), (DRAWS, len(part)))].mean(axis=1) for part in (old, new)]
    ratio = drawn[1] / np.maximum(drawn[0], 1e-9)
    low, high = np.quantile(ratio, (0.05, 0.95))
    return Change(
        name="answered", unit="share", before=float(before.ok.mean()), after=float(after.ok.mean()),
        low=float(low), high=float(high), outcome=_outcome(low, high, more_is_better=True),
        how=f"bootstrap of {BLOCKS} blocks in time, {DRAWS} draws",
    )  # fmt: skip


def _bootstrap(times: Floats, rng: np.random.Generator) -> Floats:
    """Percentiles of resampled blocks, one row a draw."""
    blocks = np.array_split(times, BLOCKS)
    out = np.empty((DRAWS, len(SHARES)))
    for row, chosen in enumerate(rng.integers(0, BLOCKS, (DRAWS, BLOCKS))):
        out[row] = np.nanquantile(np.concatenate([blocks[i] for i in chosen]), SHARES)
    return out


def _outcome(low: float, high: float, *, more_is_better: bool) -> Outcome:
    if low <= 1 <= high:
        return "not beyond noise"
    return "better" if (low > 1) == more_is_better else "worse"
