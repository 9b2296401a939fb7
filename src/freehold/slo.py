"""What was promised: `p99 e2e < 500ms`, read from text and judged request by request.

Whatever the metric, an objective becomes a share: at most 1 % of the requests may take longer than 500 ms. So
each sample is a hit or a miss, failures are misses, and one kind of statistics serves them all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

from freehold.core import Record
from freehold.errors import UsageError
from freehold.sample import Sample

Metric = Literal["e2e", "ttft", "itl", "tpot", "queue", "error"]

_ALIASES = {
    "latency": "e2e",
    "end-to-end": "e2e",
    "total": "e2e",
    "first": "ttft",
    "gap": "itl",
    "errors": "error",
    "failures": "error",
    "failure": "error",
}
_UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "sec": 1000.0, "min": 60_000.0}
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>%|[a-zA-Z]*)|(?P<word>[a-zA-Z][\w.-]*)|(?P<sign><=|<|≤))"
)
_KNOWN = (
    "Write `p99 e2e < 500ms`, `p95 ttft < 0.2s`, `p99 itl < 50ms`, `p90 tpot < 40ms`, `p99 queue < 1s` "
    "or `error rate < 1%`; several with commas."
)


class Objective(Record, frozen=True):
    """At most `allowed` of the requests (of the gaps, for `itl`) may be over `limit_ms`."""

    metric: Metric
    allowed: float
    """Share of misses that is still kept: 0.01 for a p99."""
    limit_ms: float = 0.0
    """Not for `error`."""

    def __str__(self) -> str:
        if self.metric == "error":
            return f"error rate < {100 * self.allowed:g}%"
        limit = f"{self.limit_ms:g}ms" if self.limit_ms < 10_000 else f"{self.limit_ms / 1000:g}s"
        return f"p{round(100 * (1 - self.allowed), 6):g} {self.metric} < {limit}"


class Judged(NamedTuple):
    """One sample before one objective: `misses` of `units`; `value_ms` is how far it was, None for a failure."""

    misses: int
    units: int
    value_ms: float | None


# ---- judging --------------------------------------------------------------------------------------


def e2e_ms(sample: Sample) -> float | None:
    """From the intended send time to the last byte."""
    return 1000 * (sample.end_s - sample.intended_s)


def ttft_ms(sample: Sample) -> float | None:
    """From the intended send time to the first token."""
    return None if sample.first_s is None else 1000 * (sample.first_s - sample.intended_s)


def tpot_ms(sample: Sample) -> float | None:
    """Mean time between the tokens of one answer; an answer of one token has none."""
    if sample.first_s is None or sample.output_tokens < 2:
        return None
    return 1000 * (sample.end_s - sample.first_s) / (sample.output_tokens - 1)


def queue_ms(sample: Sample) -> float | None:
    return sample.queue_ms


VALUES: dict[str, Callable[[Sample], float | None]] = {
    "e2e": e2e_ms,
    "ttft": ttft_ms,
    "tpot": tpot_ms,
    "queue": queue_ms,
}


def judge(objective: Objective, sample: Sample) -> Judged:
    """Did `sample` keep `objective`? A request that failed, was refused or timed out misses every objective; one that
    can't tell (no second token, no queue time) has no units and counts for nothing."""
    failed = sample.outcome != "ok"
    if objective.metric == "error":
        return Judged(int(failed), 1, None)
    if failed:
        return Judged(1, 1, None)
    if objective.metric == "itl":
        gaps = sample.gaps_ms
        return Judged(sum(gap > objective.limit_ms for gap in gaps), len(gaps), max(gaps, default=None))
    value_ms = VALUES[objective.metric](sample)
    if value_ms is None:
        return Judged(0, 0, None)
    return Judged(int(value_ms > objective.limit_ms), 1, value_ms)


# ---- reading --------------------------------------------------------------------------------------


def parse(texts: str | Sequence[str]) -> tuple[Objective, ...]:
    """The objectives in `texts`, each of which may hold several, separated by commas, `;` or `and`.
    Raises `UsageError` that shows the place and what is known."""
    found: list[Objective] = []
    for text in [texts] if isinstance(texts, str) else texts:
        for start, end in _clauses(text):
            found.append(_objective(text, start, end))
    if not found:
        raise UsageError("The SLO is empty.", next=_KNOWN)
    return tuple(dict.fromkeys(found))


def _clauses(text: str) -> list[tuple[int, int]]:
    """Where each clause of `text` begins and ends."""
    cuts = [(0, 0), *((m.start(), m.end()) for m in re.finditer(r"[,;]|\band\b|&+", text)), (len(text), len(text))]
    spans = [(cuts[i][1], cuts[i + 1][0]) for i in range(len(cuts) - 1)]
    return [(start, end) for start, end in spans if text[start:end].strip()]


class _Reader:
    """Walks over one clause, word by word; knows where it stands."""

    def __init__(self, text: str, start: int, end: int) -> None:
        self.text, self.at, self.end = text, start, end

    def wrong(self, why: str) -> UsageError:
        while self.at < self.end and self.text[self.at].isspace():
            self.at += 1
        mark = f"{self.text}\n  {' ' * self.at}^"
        return UsageError(f"Can't read the SLO at position {self.at + 1}: {why}", mark, _KNOWN)

    def take(self, kind: str, why: str) -> re.Match[str]:
        match = _TOKEN.match(self.text, self.at, self.end)
        if match is None or match.lastgroup is None or match.group(kind) is None:
            raise self.wrong(why)
        self.at = match.end()
        return match


def _objective(text: str, start: int, end: int) -> Objective:
    reader = _Reader(text, start, end)
    share = _percentile(reader)
    metric = _metric(reader, bare=share is None)
    reader.take("sign", "expected `<` and a limit.")
    if metric == "error":
        if share is not None:
            reader.at = start
            raise reader.wrong("an error rate is a share already, it has no percentile.")
        objective = Objective(metric="error", allowed=_share(reader))
    else:
        if share is None:
            reader.at = start
            raise reader.wrong(f"{metric} needs a percentile before it, as in `p99 {metric} < 500ms`.")
        objective = Objective(metric=metric, allowed=share, limit_ms=_limit_ms(reader))
    if text[reader.at : end].strip():
        raise reader.wrong("nothing more was expected here.")
    return objective


def _percentile(reader: _Reader) -> float | None:
    """The allowed share of misses of a leading `p99` (0.01), if there is one."""
    before = reader.at
    word = reader.take("word", "expected a percentile like `p99`, or `error rate`.")["word"]
    if not re.fullmatch(r"[pP]\d.*", word):
        reader.at = before
        return None
    try:
        percent = float(word[1:])
    except ValueError:
        percent = -1.0
    if not 0 < percent < 100:
        reader.at = before
        raise reader.wrong(f"{word} is no percentile between 0 and 100.")
    return round((100 - percent) / 100, 12)


def _metric(reader: _Reader, *, bare: bool) -> Metric:
    before = reader.at
    known = ", ".join(get_args(Metric))
    word = reader.take("word", f"expected what is measured: {known}.")["word"].lower()
    name = _ALIASES.get(word, word)
    if name not in get_args(Metric):
        reader.at = before
        hint = "expected a percentile like `p99`, or `error rate`." if bare else f"{word} is not known, {known} are."
        raise reader.wrong(hint)
    if name == "error":
        match = _TOKEN.match(reader.text, reader.at, reader.end)
        if match and (match["word"] or "").lower() in ("rate", "share"):
            reader.at = match.end()
    return name  # type: ignore[return-value]  # checked against Metric above


def _limit_ms(reader: _Reader) -> float:
    reader_at = reader.at
    match = reader.take("number", "expected a limit with its unit, like `500ms` or `2s`.")
    unit = match["unit"].lower()
    if unit not in _UNITS_MS:
        reader.at = reader_at
        raise reader.wrong(
            f"{match[0].strip()} has {'no' if not unit else 'a wrong'} unit; us, ms, s and min are known."
        )
    limit_ms = round(float(match["number"]) * _UNITS_MS[unit], 9)
    if limit_ms <= 0:
        reader.at = reader_at
        raise reader.wrong("a limit must be over 0.")
    return limit_ms


def _share(reader: _Reader) -> float:
    reader_at = reader.at
    match = reader.take("number", "expected a share like `1%` or `0.01`.")
    value = float(match["number"]) / (100 if match["unit"] == "%" else 1)
    if match["unit"] not in ("%", "") or not 0 < value < 1:
        reader.at = reader_at
        raise reader.wrong(f"{match[0].strip()} is no share between 0 and 100%.")
    return value
