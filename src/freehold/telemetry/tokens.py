"""What answers look like as token counts: endless repetition, and a model whose answers grow longer than they were.

Both are pure and cost a bounded, small time once an answer, never once a token.
"""

from __future__ import annotations

import math

TAIL_CHARS = 1600
"""Of an answer's end; what lies before it is not looked at."""
LONGEST_PERIOD = 400
REPEATS = 4
LEAST_CHARS = 160
"""A loop covers at least this much: shorter ones are rulers, lists and laughter."""
_SEED = 16
LOOK_CHARS = LONGEST_PERIOD + _SEED

LEARN = 200
"""Answers of a bucket from which its baseline is taken."""
SLACK = 0.5
ALARM = 12.0
"""The CUSUM's allowance and threshold, in standard deviations of the logarithm of an answer's tokens."""
CLIP = 4.0
"""No single answer counts more than this."""
LEAST_DEVIATION = 0.05
SMOOTHED = 0.05


def loops(text: str) -> bool:
    """Whether `text` ends in the same piece of up to `LONGEST_PERIOD` characters, over and over: at least `REPEATS`
    times and over `LEAST_CHARS`. Candidates come from where its last few characters stand before, so that text which
    doesn't loop costs one search."""
    tail = text[-TAIL_CHARS:]
    if len(tail) < LEAST_CHARS:
        return False
    seed, end = tail[-_SEED:], len(tail)
    at = tail.rfind(seed, 0, end - 1)
    while at >= 0:
        period = end - _SEED - at
        if period > LONGEST_PERIOD:
            return False
        if _has_period(tail, period):
            return True
        at = tail.rfind(seed, 0, at + _SEED - 1)
    return False


def may_loop(tail: str) -> bool:
    """Whether the rest of the text is worth a look: no loop without its last characters standing a period before. At
    least the last `LOOK_CHARS` are needed."""
    return tail[-_SEED:] in tail[-LOOK_CHARS:-1]


def _has_period(tail: str, period: int) -> bool:
    span = max(REPEATS * period, LEAST_CHARS)
    return len(tail) >= span and tail[-span + period :] == tail[-span : len(tail) - period]


class _Baseline:
    """Mean and deviation of the logarithm of the answers' tokens, of the first `LEARN` answers (Welford)."""

    __slots__ = ("count", "mean", "squares")

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.squares = 0.0

    def learn(self, value: float) -> None:
        self.count += 1
        before = value - self.mean
        self.mean += before / self.count
        self.squares += before * (value - self.mean)

    @property
    def deviation(self) -> float:
        return max(LEAST_DEVIATION, math.sqrt(self.squares / (self.count - 1)))


class Lengthening:
    """Has a variant begun to ramble? A one-sided CUSUM (Page, Biometrika 1954) over all answers, each measured by its
    own baseline: answers to prompts of about the same length (within a factor of two), from `LEARN` of them.

    An answer one deviation longer than usual adds `1 - SLACK`; ordinary ones take `SLACK` away. Ordinary answers
    reach `ALARM` once in about a million, by Siegmund's approximation (Sequential Analysis, 1985): with
    b = ALARM + 1.166 and k = SLACK, (exp(2kb) - 2kb - 1) / (2k²) answers; a baseline that chance made one standard
    error too low still leaves over a hundred thousand. A shift of one deviation is found after about 24 answers.
    """

    def __init__(self) -> None:
        self._baselines: dict[int, _Baseline] = {}
        self._score = 0.0
        self._ratio = 0.0
        self._seen = 0
        self.rambling = False

    def add(self, prompt_tokens: int, completion_tokens: int) -> None:
        """An answer that ended by itself, or ran into a limit that nobody asked for."""
        value = math.log(max(1, completion_tokens))
        baseline = self._baselines.setdefault(max(1, prompt_tokens).bit_length(), _Baseline())
        if baseline.count < LEARN:
            baseline.learn(value)
            return
        self._seen += 1
        self._ratio += max(SMOOTHED, 1.0 / self._seen) * (value - baseline.mean - self._ratio)
        shift = (value - baseline.mean) / baseline.deviation
        self._score = max(0.0, self._score + max(-CLIP, min(CLIP, shift)) - SLACK)
        if self._score >= ALARM:
            self.rambling = True
            self._score = 2 * ALARM if self._score > 2 * ALARM else self._score  # so that it can end again
        elif self._score < ALARM / 2:
            self.rambling = False

    @property
    def longer(self) -> float | None:
        """Answers of late over those of the baseline (a geometric mean, the newest count most); None without one."""
        return math.exp(self._ratio) if self._seen else None
