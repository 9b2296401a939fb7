"""What alert rules can look at: each metric by name, over a window of slots, with a reading for each variant or worker.

What can't be known has no reading, and no rule is crossed by it.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple, get_args

from freehold.telemetry.past import Past, Sums, turned_away
from freehold.telemetry.rules import Rule
from freehold.telemetry.slot import Metric, Part
from freehold.telemetry.standing import (
    Reading,
    by_worker,
    ended,
    greatest,
    load_failures,
    memory_share,
    queue_depth,
    queue_per_batch,
    silence,
    stalled,
    workers_ready,
)

_QUANTILE = re.compile(rf"p(\d{{1,2}}(?:\.\d+)?)_({'|'.join(get_args(Metric))})_ms")
LEAST_MISSED = 5
"""A budget isn't burnt by one bad request in ten."""
LEAST_ENDED = 20
"""Shares of fewer requests aren't told."""
BASELINE_LEAST_OK = 100
HOUR_S, DAY_S = 3600.0, 86_400.0


class Measure(NamedTuple):
    """One metric. `at_once`: the event that raises it before its slot has ended."""

    help: str
    unit: str
    read: Callable[[Past, Rule], Iterator[Reading]]
    at_once: str = ""


def readings(past: Past, rule: Rule) -> list[Reading]:
    """Of the rule's metric over its window, those with the labels it asks for."""
    if not past.slots:
        return []
    quantile = _QUANTILE.fullmatch(rule.metric)
    read = _quantiles if quantile else MEASURES[rule.metric].read
    return [each for each in read(past, rule) if rule.only.items() <= each.labels.items()]


def unknown(metric: str) -> str | None:
    """What to write instead of a metric that there isn't; None for one that there is."""
    if metric in MEASURES or _QUANTILE.fullmatch(metric):
        return None
    names = [*MEASURES, *(f"p{q}_{name}_ms" for q in (50, 95, 99) for name in get_args(Metric))]
    close = difflib.get_close_matches(metric, names, n=1, cutoff=0.4)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    known = f"Known: p50 to p99.9 of {', '.join(get_args(Metric))} as in p99_e2e_ms; {', '.join(MEASURES)}."
    return hint + known


def unit(metric: str) -> str:
    return "ms" if _QUANTILE.fullmatch(metric) else MEASURES[metric].unit


def least_values(q: float) -> int:
    """With fewer the quantile is just the greatest value: 100 for a p99."""
    return math.ceil(1.0 / (1.0 - q) - 1e-9)


# ---- requests ---------------------------------------------------------------------------------------


def _quantiles(past: Past, rule: Rule) -> Iterator[Reading]:
    match = _QUANTILE.fullmatch(rule.metric)
    assert match is not None
    q, metric = float(match[1]) / 100.0, next(each for each in get_args(Metric) if each == match[2])
    for variant in past.variants(rule.window_s):
        least = least_values(q)
        sketch = past.sketch(variant, metric, rule.window_s, least)
        value = sketch.quantile(q)
        if value is not None and sketch.count >= least:
            yield Reading({"variant": variant}, value, {"count": sketch.count})


def _share(count: Callable[[Part], int]) -> Callable[[Past, Rule], Iterator[Reading]]:
    def read(past: Past, rule: Rule) -> Iterator[Reading]:
        for variant, parts in _parts(past, rule.window_s):
            whole = sum(ended(part) for part in parts)
            if whole >= LEAST_ENDED:
                found = sum(map(count, parts))
                yield Reading({"variant": variant}, found / whole, {"count": found, "ended": whole})

    return read


def _count(count: Callable[[Part], int]) -> Callable[[Past, Rule], Iterator[Reading]]:
    def read(past: Past, rule: Rule) -> Iterator[Reading]:
        for variant, parts in _parts(past, rule.window_s):
            yield Reading({"variant": variant}, sum(map(count, parts)))

    return read


def _step_ratio(past: Past, rule: Rule) -> Iterator[Reading]:
    """The mean step over that of a full batch by the profile, with the prompt tokens that were read meanwhile."""
    for variant, parts in _parts(past, rule.window_s):
        pace, told = past.paces.get(variant), [part.sketches["step"] for part in parts if "step" in part.sketches]
        steps = sum(each.zeros + sum(each.counts) for each in told)
        if pace is None or pace.step_ms <= 0 or steps < LEAST_ENDED:
            continue
        mean_ms = sum(each.total for each in told) / steps
        read = sum(part.prompt_tokens - part.cached_tokens for part in parts) / steps
        expected_ms = pace.step_ms + pace.prefill_ms_per_token * read
        yield Reading({"variant": variant}, mean_ms / expected_ms, {"step_ms": mean_ms, "profile_ms": expected_ms})


def _rambling(past: Past, rule: Rule) -> Iterator[Reading]:
    for variant, parts in _parts(past, rule.window_s):
        longer = next((part.longer_answers for part in parts if part.longer_answers is not None), None)
        numbers = {} if longer is None else {"longer_answers": longer}
        yield Reading({"variant": variant}, float(any(part.rambling for part in parts)), numbers)


def _parts(past: Past, window_s: float) -> Iterator[tuple[str, list[Part]]]:
    """By variant, newest first."""
    slots = list(past.last(window_s))
    for variant in sorted({name for slot in slots for name in slot.parts}):
        yield variant, [slot.parts[variant] for slot in slots if variant in slot.parts]


# ---- money and budget -------------------------------------------------------------------------------


def _burn_rate(past: Past, rule: Rule) -> Iterator[Reading]:
    """How many times faster than the SLO allows: the slower of the long and the short window. Of a long window that is
    not all known yet, what isn't known counts as clean: an hour's budget isn't burnt in a minute."""
    known = min(1.0, (past.now_s - past.begin_s + past.slot_s) / rule.window_s)
    for variant in past.variants(rule.window_s):
        long, short = past.last_sums(variant, rule.window_s), past.last_sums(variant, rule.short_s or rule.window_s)
        if long.missed < LEAST_MISSED or not short.ended:
            continue
        rates = [long.missed / long.ended / rule.allowed * known, short.missed / short.ended / rule.allowed]
        numbers = {"missed": long.missed, "ended": long.ended, "burn_long": rates[0], "burn_short": rates[1]}
        yield Reading({"variant": variant}, min(rates), numbers)


def _per_ok(sums: Sums) -> float | None:
    return sums.cost_usd / sums.ok if sums.ok and sums.cost_usd > 0 else None


def _cost(past: Past, rule: Rule) -> Iterator[Reading]:
    sums = past.last_sums("", rule.window_s)
    value = _per_ok(sums)
    if value is not None:
        yield Reading({}, value, {"ok": sums.ok, "cost_usd": sums.cost_usd})


def _cost_ratio(past: Past, rule: Rule) -> Iterator[Reading]:
    now = past.last_sums("", rule.window_s)
    before = baseline(past, past.now_s - rule.window_s - rule.for_s, rule.baseline_s)
    value, usual = _per_ok(now), _per_ok(before)
    if value is not None and usual is not None and now.ok >= LEAST_ENDED and before.ok >= BASELINE_LEAST_OK:
        numbers = {"cost_per_successful_request_usd": value, "baseline_usd": usual, "ok": now.ok}
        yield Reading({}, value / usual, numbers)


def baseline(past: Past, until_s: float, baseline_s: float) -> Sums:
    """What is usual: the hour around this time of day on the days before; with a baseline under a day all of it, before
    `until_s`. A quiet night costs more a request every night, and is no drift; of a first day nothing is known."""
    if baseline_s < DAY_S:
        return past.sums("", until_s - baseline_s, until_s)
    found = Sums()
    for day in range(1, int(baseline_s // DAY_S) + 1):
        middle_s = past.now_s - day * DAY_S
        if middle_s - HOUR_S / 2 >= past.begin_s:
            found = found.plus(past.sums("", middle_s - HOUR_S / 2, middle_s + HOUR_S / 2))
    return found


MEASURES: dict[str, Measure] = {
    "burn_rate": Measure("How many times faster than the SLO allows requests miss it.", "times", _burn_rate),
    "error_share": Measure(
        "Failed, expired and refused for the server's lack, of all that ended.", "share",
        _share(lambda part: part.failed + part.expired + turned_away(part)),
    ),
    "failed_share": Measure("Failed and expired of all that ended.", "share", _share(lambda p: p.failed + p.expired)),
    "refused_share": Measure("Refused for the server's lack, of all that ended.", "share", _share(turned_away)),
    "cancelled_share": Measure("Given up by their clients, of all that ended.", "share", _share(lambda p: p.cancelled)),
    "looped_share": Measure("Answers that repeat themselves, of all that ended.", "share", _share(lambda p: p.looped)),
    "step_ratio": Measure("The mean step over what the profile says of a full batch's.", "times", _step_ratio),
    "runaways": Measure("Answers that were cut at their limit.", "answers", _count(lambda part: part.runaway)),
    "rambling": Measure("1 if answers have become longer than their baseline.", "", _rambling),
    "cost_per_successful_request_usd": Measure("What the machine cost, by request that ended well.", "USD", _cost),
    "cost_ratio": Measure("The same over its baseline.", "times", _cost_ratio),
    "queue_depth": Measure("The most that waited.", "requests", queue_depth),
    "queue_per_batch": Measure("The most that waited, over what all workers run at once.", "times", queue_per_batch),
    "workers_ready": Measure("The most workers that were ready.", "workers", workers_ready),
    "stalled": Measure("1 if something waited or ran all the time, and nothing moved.", "", stalled),
    "silence_s": Measure("Since the telemetry last said something.", "s", silence),
    "load_failures": Measure("Models that did not load.", "times", load_failures, "load_failed"),
    "hung": Measure("Workers that were seen to hang.", "times", by_worker(lambda slot: slot.hung), "hung"),
    "restarts": Measure("Restarts of a worker.", "times", by_worker(lambda slot: slot.deaths)),
    "memory_share": Measure("Memory of a worker over its limit, at most.", "share", greatest(memory_share)),
    "kv_usage": Measure("KV cache of a worker in use, at most.", "share", greatest(lambda slot: slot.kv_usage)),
}  # fmt: skip
