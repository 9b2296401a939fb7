"""Measures an engine on this machine through its own protocol: what a step costs at each batch size, no queue or HTTP.

Every level puts n answers with fresh random prompts into the engine at once and steps until all have ended, round
after round, until the rounds agree or its time is over; whether it can be trusted is told. Prompts of several lengths
are read too, so that a step law can be fitted to all the steps (`sizing/steplaw.py`).
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Sequence

import psutil

from freehold.core import Record, Request, Sampling, StepRecord
from freehold.engine.base import Engine
from freehold.errors import EngineFailed

ROUNDS = 3
"""At least; fewer don't tell how far they agree."""
TRUSTED = 0.05
"""Half the width of the 95 % interval of a level's tokens/s, as a share, below which it is trusted."""
LONG_PROMPTS, READINGS = (512, 128), 8
_T95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
"""Student's t, two-sided 95 %, for 1 to 9 degrees of freedom."""


class Level(Record, frozen=True):
    """One batch size. Times are of the steps in which all of it wrote and nothing was read, where the engine tells."""

    streams: int
    tokens_per_s: float
    """All streams together, prompts' reading apart; the median of the rounds."""
    spread: float
    """Half the width of the mean's 95 % interval, as a share of it (Student's t over the rounds)."""
    step_ms_p50: float
    step_ms_p99: float
    first_token_ms: float
    """Until every stream had its first token, all having come at once; the median of the rounds."""
    memory_bytes: int
    kv_usage: float | None
    """Most of the rounds, as the engine tells."""
    context_tokens: float
    """Mean context of a stream meanwhile."""
    rounds: int

    @property
    def trusted(self) -> bool:
        return self.rounds >= ROUNDS and self.spread <= TRUSTED


class Measured(Record, frozen=True):
    levels: tuple[Level, ...]
    steps: tuple[StepRecord, ...]
    """Every step of all levels, reading ones included."""


Heard = Callable[[Level], None]


class _Round:
    """What one batch did from its first step to its last."""

    def __init__(self) -> None:
        self.steps: list[StepRecord] = []
        self.tokens = 0
        self.read_s = 0.0
        self.write_s = 0.0
        self.kv_usage = 0.0


def sweep(
    engine: Engine,
    streams: Sequence[int],
    *,
    prompt_tokens: int,
    output_tokens: int,
    level_s: float,
    heard: Heard = lambda level: None,
    seed: int = 0,
) -> Measured:
    """Every level in turn, at most about `level_s` seconds each, then prompts of other lengths."""
    dice = random.Random(seed)  # noqa: S311  prompts, not secrets
    levels: list[Level] = []
    steps: list[StepRecord] = []
    play(engine, dice, min(2, max(streams)), prompt_tokens, min(8, output_tokens))  # what is lazy becomes warm
    for count in streams:
        rounds = _rounds(engine, dice, count, prompt_tokens, output_tokens, level_s)
        steps += [step for each in rounds for step in each.steps]
        levels.append(_level(count, prompt_tokens, output_tokens, rounds))
        heard(levels[-1])
    for length in (prompt_tokens * 4, max(1, prompt_tokens // 4)):
        if length + output_tokens < engine.card.context_tokens:
            for count in (1, min(4, max(streams))):
                steps += play(engine, dice, count, length, min(16, output_tokens)).steps
    return Measured(levels=tuple(levels), steps=tuple(steps))


def play(engine: Engine, dice: random.Random, count: int, prompt_tokens: int, output_tokens: int) -> _Round:
    """`count` answers at once, to the end. Raises `EngineFailed` if one of them fails."""
    asked = Sampling(max_tokens=output_tokens, temperature=0.0, ignore_eos=True)
    for i in range(count):
        prompt = tuple(dice.randrange(5, 250) for _ in range(prompt_tokens))
        engine.add(Request(id=f"m{i}", model=engine.card.name, kind="text", prompt=prompt, sampling=asked))
    found, left = _Round(), count
    first: set[str] = set()
    end_s: float | None = None
    while left:
        start_s = time.perf_counter()
        step = engine.step()
        took_s = time.perf_counter() - start_s
        gap_ms = None if end_s is None else (start_s - end_s) * 1000.0
        end_s = start_s + took_s
        tokens, reading = 0, len(first) < count
        for chunk in step.chunks:
            if chunk.failure is not None:
                raise EngineFailed("The engine failed while it was measured.", chunk.failure.what, chunk.failure.next)
            tokens += chunk.tokens
            first.add(chunk.id)
            left -= chunk.finish is not None
        if reading:
            found.read_s += took_s
        else:
            found.write_s += took_s
            found.tokens += tokens
        found.kv_usage = max(found.kv_usage, engine.stats().kv_usage or 0.0)
        if step.chunks or step.running:
            found.steps.append(
                StepRecord(step.prefill_tokens, step.running, step.context_tokens, tokens, took_s * 1000.0, gap_ms)
            )
    engine.step()  # gives back what the ended ones held
    return found


def reading_rate(engine: Engine, longest_s: float, seed: int = 1) -> float:
    """Prompt tokens a second while one long prompt is read, the best of several: two operations a weight each make it
    the ceiling of an engine whose matrix products can't be measured by themselves."""
    dice = random.Random(seed)  # noqa: S311  prompts, not secrets
    end_s, best, readings = time.perf_counter() + longest_s, 0.0, 0
    while readings < READINGS or time.perf_counter() < end_s:
        tokens = LONG_PROMPTS[readings % len(LONG_PROMPTS)]
        tokens = max(1, min(tokens, (engine.card.context_tokens or tokens) - 2))
        best = max(best, tokens / max(1e-9, play(engine, dice, 1, tokens, 1).read_s))
        readings += 1
    return best


def _rounds(
    engine: Engine, dice: random.Random, count: int, prompt_tokens: int, output_tokens: int, level_s: float
) -> list[_Round]:
    rounds: list[_Round] = []
    end_s = time.perf_counter() + level_s
    while len(rounds) < 10:
        rounds.append(play(engine, dice, count, prompt_tokens, output_tokens))
        enough = len(rounds) >= ROUNDS and _spread(_rates(rounds)) <= TRUSTED
        if enough or (time.perf_counter() > end_s and len(rounds) >= 2):
            break
    return rounds


def _level(count: int, prompt_tokens: int, output_tokens: int, rounds: Sequence[_Round]) -> Level:
    full = [
        step.step_ms for each in rounds for step in each.steps if step.running == count and not step.prefill_tokens
    ] or [step.step_ms for each in rounds for step in each.steps]
    full.sort()
    rates = _rates(rounds)
    return Level(
        streams=count,
        tokens_per_s=statistics.median(rates),
        spread=_spread(rates),
        step_ms_p50=statistics.median(full),
        step_ms_p99=full[min(len(full) - 1, math.ceil(0.99 * len(full)) - 1)],
        first_token_ms=statistics.median(each.read_s for each in rounds) * 1000.0,
        memory_bytes=psutil.Process().memory_info().rss,
        kv_usage=max(each.kv_usage for each in rounds) or None,
        context_tokens=prompt_tokens + output_tokens / 2.0,
        rounds=len(rounds),
    )


def _rates(rounds: Sequence[_Round]) -> list[float]:
    return [each.tokens / each.write_s for each in rounds if each.write_s > 0] or [0.0]


def _spread(values: Sequence[float]) -> float:
    """Half the width of the 95 % interval of the mean, relative; infinity where one value is all there is."""
    if len(values) < 2:
        return math.inf
    mean = statistics.fmean(values)
    t = _T95[min(len(values) - 2, len(_T95) - 1)]
    return t * statistics.stdev(values) / math.sqrt(len(values)) / mean if mean else math.inf
