"""What a fleet had to carry, and what would have sufficed: shadow sizing on the requests that really came.

The recorded requests are played through 1, 2, 3, ... simulated instances. First the simulator is slowed (or quickened)
until it takes as long for the median request as the real fleet took; by how much is its error, and is told. Refused
requests were asked for too: they are played with the median answer's length.
"""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np

from freehold.core import Record
from freehold.sizing.cells import play_in_cells
from freehold.sizing.rightsize import Kept, fares, rates
from freehold.sizing.work import Fleet, Floats, Ints, Played, Work
from freehold.slo import Objective

MORE = 3
"""Instances beyond what ran that are tried before it is said that no number helps."""
MOST_PLAYED = 200_000
"""Of a longer past, the busiest stretch of so many requests is played: what holds there holds elsewhere."""
ROUNDS = 5


class Past(Record, frozen=True):
    """Requests as columns, by arrival. Milliseconds count from received; NaN where it never came to it."""

    arrival_unix_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    e2e_ms: Floats
    ttft_ms: Floats
    queue_ms: Floats
    tpot_ms: Floats
    outcomes: tuple[str, ...]
    codes: tuple[str, ...]
    """Of errors and refusals; empty for the others."""


class Stood(Record, frozen=True):
    """How the fleet stood in that time, and what it cost."""

    seconds: float
    workers_mean: float
    """Ready ones."""
    workers_most: int
    restarts: int = 0
    away_s: float = 0.0
    """Worker-seconds in which a worker was loading, hung or dead."""
    cost_usd: float | None = None
    api_usd: float | None = None


class Try(Record, frozen=True):
    """How so many instances would have fared."""

    instances: int
    kept: tuple[Kept, ...]
    p99_e2e_ms: float
    busy: float
    """Share of the time in which an instance ran a step."""

    @property
    def holds(self) -> bool:
        return all(each.holds for each in self.kept)


class Shadow(Record, frozen=True):
    """The fleets that were tried, and the smallest that holds."""

    tries: tuple[Try, ...]
    sufficed: int | None
    """None: none of those tried."""
    slowness: float
    """What the simulator's steps had to be stretched by to take as long as the real ones: 1 is no error."""
    played: int
    """Requests."""


def fared(past: Past, objectives: tuple[Objective, ...]) -> tuple[Kept, ...]:
    """Each objective on what was recorded. What failed, was refused or expired misses all; what was cancelled says
    nothing."""
    outcomes = np.array(past.outcomes)
    said = outcomes != "cancelled"
    bad = said & (outcomes != "ok")
    values = {"e2e": past.e2e_ms, "ttft": past.ttft_ms, "queue": past.queue_ms}
    found = []
    for each in objectives:
        if each.metric == "error":
            missed = float(bad[said].mean()) if said.any() else 0.0
        else:
            of = values.get(each.metric, past.tpot_ms)  # of gaps, a row knows the mean alone
            known = said & (bad | ~np.isnan(of))
            missed = float((bad | (of > each.limit_ms))[known].mean()) if known.any() else 0.0
        found.append(Kept(objective=str(each), allowed=each.allowed, missed=missed))
    return tuple(found)


def shadow(past: Past, objectives: tuple[Objective, ...], fleet: Fleet, ran: int) -> Shadow:
    """`fleet` brings profile and overheads; `ran` instances carried it."""
    work, e2e_ms = _asked(past)
    fleet = msgspec.structs.replace(fleet, slowness=_slowness(work, e2e_ms, fleet, ran))
    tries, sufficed = [], None
    for instances in range(1, ran + MORE + 1):
        played = play_in_cells(work, msgspec.structs.replace(fleet, replicas=instances))
        tries.append(_try(work, played, objectives, instances))
        if sufficed is None and tries[-1].holds:
            sufficed = instances
        if sufficed is not None and instances >= ran:
            break
    return Shadow(tries=tuple(tries), sufficed=sufficed, slowness=fleet.slowness, played=len(work.arrival_s))


def waste(past: Past) -> tuple[int, int]:
    """(tokens written for nobody, all tokens written)."""
    ok = np.array(past.outcomes) == "ok"
    return int(past.output_tokens[~ok].sum()), int(past.output_tokens.sum())


def failures(past: Past) -> list[tuple[str, str, int]]:
    """(outcome, code, how many) of what didn't end well, the most first."""
    pairs = zip(past.outcomes, past.codes, strict=True)
    tally = Counter((outcome, code) for outcome, code in pairs if outcome != "ok")
    return [(outcome, code, count) for (outcome, code), count in tally.most_common()]


def peak_to_mean(past: Past) -> float:
    mean, peak = rates(past.arrival_unix_s)
    return peak / mean


def _asked(past: Past) -> tuple[Work, Floats]:
    """The requests to play, and how long each took (NaN: it didn't end well)."""
    ok = np.array(past.outcomes) == "ok"
    refused = np.array(past.outcomes) == "refused"
    usual = int(np.median(past.output_tokens[ok])) if ok.any() else 1
    outputs = np.maximum(1, np.where(refused, usual, past.output_tokens))
    prompts = np.maximum(1, past.prompt_tokens)
    arrival = past.arrival_unix_s - past.arrival_unix_s[0]
    e2e = np.where(ok, past.e2e_ms, np.nan)
    start = _busiest(arrival)
    part = slice(start, start + MOST_PLAYED)
    return Work(arrival_s=arrival[part], prompt_tokens=prompts[part], output_tokens=outputs[part]), e2e[part]


def _busiest(arrival_s: Floats) -> int:
    """Where the shortest stretch of `MOST_PLAYED` requests begins."""
    if len(arrival_s) <= MOST_PLAYED:
        return 0
    spans = arrival_s[MOST_PLAYED - 1 :] - arrival_s[: len(arrival_s) - MOST_PLAYED + 1]
    return int(spans.argmin())


def _slowness(work: Work, e2e_ms: Floats, fleet: Fleet, ran: int) -> float:
    """How much slower the real median was, found by a few plays."""
    known = ~np.isnan(e2e_ms)
    if not known.any():
        return 1.0
    real = float(np.median(e2e_ms[known]))
    slowness = 1.0
    for _ in range(ROUNDS):
        played = play_in_cells(work, msgspec.structs.replace(fleet, replicas=max(1, ran), slowness=slowness))
        took = float(np.nanmedian((played.end_s - work.arrival_s)[known] * 1000.0))
        if not took > 0 or abs(real / took - 1.0) < 0.02:
            break
        slowness *= max(0.2, min(5.0, real / took))
    return slowness


def _try(work: Work, played: Played, objectives: tuple[Objective, ...], instances: int) -> Try:
    e2e_ms = (played.end_s - work.arrival_s) * 1000.0
    span_s = max(float(np.nanmax(played.end_s) - work.arrival_s[0]), 1e-9)
    return Try(
        instances=instances,
        kept=fares(work, played, objectives),
        p99_e2e_ms=float(np.nanpercentile(e2e_ms, 99)),
        busy=float(played.busy_s.sum() / (instances * span_s)),
    )
