"""The tables of a run, computed from its samples alone: outcomes, rates, latencies, tokens.

Latencies are those of requests that were answered whole and count from the intended moment; how many were not is said
beside them, for a fast refusal is no good latency. One pass, memory for a few numbers a request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from freehold.core import Json, Record
from freehold.loadtest.record import OUTCOMES, Columns, columns
from freehold.loadtest.spread import Spread
from freehold.sample import Sample

PERCENTILES = (0.5, 0.9, 0.95, 0.99)
GAPS_AT_ONCE = 1 << 18


class Latency(Record, frozen=True):
    """Milliseconds. Plain order statistics of the requests that can tell."""

    count: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    most: float


class Figures(Record, frozen=True):
    seconds: float
    """From the run's beginning to its last answer."""
    asked: int
    """Requests whose time came."""
    outcomes: dict[str, int]
    errors: dict[str, int]
    """The commonest messages of what wasn't answered whole."""
    sent_per_s: float
    """While requests were sent; what follows is over the whole of `seconds`."""
    answered_per_s: float
    output_tokens_per_s: float
    input_tokens_per_s: float
    in_flight: float
    """Mean number under way (Little's law: the answers' seconds over the run's)."""
    tokens_per_s_per_stream: float
    """Output tokens/s over `in_flight`: throughput normalised by the batch the server had."""
    mean_input_tokens: float
    mean_output_tokens: float
    cached_share: float
    """Of the input tokens, as the server tells."""
    latency_ms: dict[str, Latency]
    """ttft, itl (each gap), tpot, e2e, queue, lateness; missing where nothing tells."""
    goodput_per_s: float | None = None
    """Requests that met every SLO; None without SLOs."""
    met_share: float | None = None
    """Of all whose time came."""


def compute(samples: Iterable[Sample], met: Callable[[Sample], bool] | None = None) -> tuple[Figures, Columns]:
    """The figures, and the columns they come from (without gaps). `met`: whether a sample kept its SLOs."""
    gaps = Spread()
    errors: Counter[str] = Counter()
    good = [0]
    rows = columns(_passing(samples, gaps, errors, good, met))
    attempted = ~rows.were("unsent")
    ok = rows.were("ok")
    seconds = float(rows.end_s[attempted].max()) if attempted.any() else 0.0
    span_s = seconds or 1.0
    asked = int(attempted.sum() + (rows.intended_s[~attempted] <= seconds).sum())
    in_flight = float((rows.end_s - rows.sent_s)[attempted].sum()) / span_s
    tokens = int(rows.output_tokens[attempted].sum())
    inputs = int(rows.input_tokens[attempted].sum())
    figures = Figures(
        seconds=seconds,
        asked=asked,
        outcomes={name: int((rows.outcome == code).sum()) for code, name in enumerate(OUTCOMES)},
        errors=dict(errors.most_common(5)),
        sent_per_s=int(attempted.sum()) / (float(rows.sent_s[attempted].max(initial=0.0)) or 1.0),
        answered_per_s=int(ok.sum()) / span_s,
        output_tokens_per_s=tokens / span_s,
        input_tokens_per_s=inputs / span_s,
        in_flight=in_flight,
        tokens_per_s_per_stream=tokens / span_s / in_flight if in_flight else 0.0,
        mean_input_tokens=_mean(rows.input_tokens[ok]),
        mean_output_tokens=_mean(rows.output_tokens[ok]),
        cached_share=int(rows.cached_tokens[attempted].sum()) / inputs if inputs else 0.0,
        latency_ms=_latencies(rows, ok, attempted, gaps),
        goodput_per_s=good[0] / span_s if met else None,
        met_share=good[0] / max(1, asked) if met else None,
    )
    return figures, rows


def _passing(
    samples: Iterable[Sample],
    gaps: Spread,
    errors: Counter[str],
    good: list[int],
    met: Callable[[Sample], bool] | None,
) -> Iterator[Sample]:
    """The samples without their gaps, which are counted on the way."""
    held: list[float] = []
    for sample in samples:
        if sample.outcome == "ok":
            held.extend(sample.gaps_ms)
            good[0] += bool(met and met(sample))
        elif sample.error and sample.outcome != "cancelled":
            errors[sample.error] += 1
        if len(held) > GAPS_AT_ONCE:
            gaps.add(np.array(held))
            held.clear()
        yield _gapless(sample)
    gaps.add(np.array(held))


def _gapless(sample: Sample) -> Sample:
    if not sample.gaps_ms:
        return sample
    fields: dict[str, Any] = {name: getattr(sample, name) for name in sample.__struct_fields__}
    return Sample(**fields | {"gaps_ms": ()})


def _latencies(
    rows: Columns, ok: npt.NDArray[np.bool_], attempted: npt.NDArray[np.bool_], gaps: Spread
) -> dict[str, Latency]:
    several = ok & (rows.output_tokens > 1) & ~np.isnan(rows.first_s)
    found = {
        "ttft": (rows.first_s - rows.intended_s)[ok] * 1e3,
        "tpot": ((rows.end_s - rows.first_s)[several] / (rows.output_tokens[several] - 1)) * 1e3,
        "e2e": (rows.end_s - rows.intended_s)[ok] * 1e3,
        "queue": rows.queue_ms[ok],
        "lateness": (rows.sent_s - rows.intended_s)[attempted] * 1e3,
    }
    told = {name: latency(values) for name, values in found.items()}
    if gaps.count:
        at = [gaps.quantile(p) for p in PERCENTILES]
        told["itl"] = Latency(
            count=gaps.count, mean=gaps.sum / gaps.count, p50=at[0], p90=at[1], p95=at[2], p99=at[3], most=gaps.most
        )
    return {name: each for name, each in told.items() if each is not None}


def latency(values_ms: npt.NDArray[np.float64]) -> Latency | None:
    """None where there are no values."""
    values = np.sort(values_ms[~np.isnan(values_ms)])
    if not values.size:
        return None
    at = [float(values[max(0, int(np.ceil(p * values.size)) - 1)]) for p in PERCENTILES]
    return Latency(
        count=int(values.size),
        mean=float(values.mean()),
        p50=at[0],
        p90=at[1],
        p95=at[2],
        p99=at[3],
        most=float(values[-1]),
    )


def _mean(values: npt.NDArray[np.int64]) -> float:
    return float(values.mean()) if values.size else 0.0


def plain(figures: Figures) -> Json:
    """As JSON data, every figure told, zero too."""
    told = {name: getattr(figures, name) for name in figures.__struct_fields__}
    told["latency_ms"] = {
        name: {field: round(getattr(each, field), 4) for field in each.__struct_fields__}
        for name, each in figures.latency_ms.items()
    }
    return told
