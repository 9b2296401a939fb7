"""Whether a new model may take over from the old one, by what both answered over the same time. Pure.

Rates (failed, refused) are compared by Fisher's exact test, one-sided. For the p99, answers of the new one that took
longer than the old one's p99 and a quarter are counted: were it no slower, they would be at most one in a hundred
(a binomial tail). It looks many times, so a difference counts only where chance gives it once in a thousand. The
lengths of answers are compared by their means: a broken stop token or template shows there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from freehold.core import Record

CHANCE = 0.001
ENOUGH = 30
"""Answers of each before anything speaks for the new one."""
SLOWER = 1.25
LENGTHS = (0.5, 2.0)
PATIENCE = 10
"""Windows in which there must have been enough answers."""

Decision = Literal["wait", "take_over", "roll_back"]


class Ending(Record, frozen=True):
    """How one request ended, as its worker saw it."""

    what: Literal["ok", "refused", "failed"]
    ms: float = 0.0
    """From claimed to ended."""
    tokens: float = 0.0
    """An answer, on average."""


class Verdict(Record, frozen=True):
    """What to do now, and why, as a sentence."""

    decision: Decision
    reason: str


def judge(old: Sequence[Ending], new: Sequence[Ending], window_s: float, elapsed_s: float) -> Verdict:
    """`old` and `new`: everything that ended since both answer, `elapsed_s` ago."""
    for what, verb in (("failed", "fails"), ("refused", "refuses")):
        bad_old, bad_new = _count(old, what), _count(new, what)
        if more_often(bad_new, len(new), bad_old, len(old)) < CHANCE:
            return Verdict(
                decision="roll_back",
                reason=f"It {verb} more often: {bad_new} of {len(new)} requests, the old one {bad_old} of {len(old)}.",
            )
    if elapsed_s < window_s:
        return Verdict(decision="wait", reason=f"{len(new)} answers so far; {window_s - elapsed_s:.0f} s to go.")
    good_old, good_new = [each for each in old if each.what == "ok"], [each for each in new if each.what == "ok"]
    if min(len(good_old), len(good_new)) < ENOUGH:
        told = f"{len(good_new)} answers of the new one and {len(good_old)} of the old one"
        if elapsed_s < PATIENCE * window_s:
            return Verdict(decision="wait", reason=f"{told}; {ENOUGH} of each are needed.")
        return Verdict(
            decision="roll_back",
            reason=f"There was too little to compare: {told} in {elapsed_s:.0f} s. "
            "`--canary 100%` takes over without comparing.",
        )
    return _compare(good_old, good_new)


def _compare(old: Sequence[Ending], new: Sequence[Ending]) -> Verdict:
    """Both have answered enough, and the new one failed no more often."""
    p99_old, p99_new = p99([each.ms for each in old]), p99([each.ms for each in new])
    slow = sum(each.ms > p99_old * SLOWER for each in new)
    times = f"p99 {p99_new:.0f} ms, the old one's {p99_old:.0f} ms"
    if binomial_tail(slow, len(new), 0.01) < CHANCE:
        return Verdict(decision="roll_back", reason=f"It is slower: {times}.")
    mean_old, mean_new = (sum(each.tokens for each in some) / len(some) for some in (old, new))
    lengths = f"{mean_new:.0f} tokens an answer, the old one's {mean_old:.0f}"
    if not LENGTHS[0] * mean_old <= mean_new <= LENGTHS[1] * mean_old:
        return Verdict(decision="roll_back", reason=f"Its answers have another length: {lengths}.")
    reason = f"{len(new)} answers compared with {len(old)}: no more failures or refusals, {times}, {lengths}."
    return Verdict(decision="take_over", reason=reason)


def more_often(bad_new: int, new: int, bad_old: int, old: int) -> float:
    """The chance to see at least `bad_new` among `new` if both are equally bad: Fisher's exact test, one-sided."""
    bad, all = bad_new + bad_old, new + old
    if not new or not old or not bad_new:
        return 1.0
    total = _log_choose(all, new)
    terms = (
        math.exp(_log_choose(bad, k) + _log_choose(all - bad, new - k) - total)
        for k in range(bad_new, min(bad, new) + 1)
        if new - k <= all - bad
    )
    return min(1.0, math.fsum(terms))


def binomial_tail(least: int, of: int, chance: float) -> float:
    """The chance of at least `least` successes in `of` tries."""
    if least <= 0:
        return 1.0
    log_p, log_q = math.log(chance), math.log1p(-chance)
    terms = (math.exp(_log_choose(of, k) + k * log_p + (of - k) * log_q) for k in range(least, of + 1))
    return min(1.0, math.fsum(terms))


def p99(values: Sequence[float]) -> float:
    """The smallest value that 99 % do not exceed."""
    return sorted(values)[max(0, math.ceil(0.99 * len(values)) - 1)]


def _count(endings: Sequence[Ending], what: str) -> int:
    return sum(each.what == what for each in endings)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
