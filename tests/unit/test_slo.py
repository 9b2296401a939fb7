"""What an SLO text means, which samples keep it, and what is said of a text that means nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.errors import UsageError
from freehold.sample import Sample
from freehold.slo import Objective, judge, parse


def sample(**changed: object) -> Sample:
    fields: dict[str, object] = {
        "number": 0, "intended_s": 1.0, "sent_s": 1.1, "first_s": 1.2, "end_s": 1.5, "outcome": "ok",
        "output_tokens": 4, "gaps_ms": (100.0, 50.0, 150.0), "queue_ms": 20.0,
    }  # fmt: skip
    return Sample(**(fields | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "metric", "allowed", "limit_ms"),
    [
        ("p99 e2e < 500ms", "e2e", 0.01, 500),
        ("P95 TTFT<0.2 s", "ttft", 0.05, 200),
        ("p99.9 itl <= 50 ms", "itl", 0.001, 50),
        ("p50 tpot < 40000us", "tpot", 0.5, 40),
        ("p90 queue < 1min", "queue", 0.1, 60_000),
        ("p99 latency < 1s", "e2e", 0.01, 1000),
        ("error rate < 1%", "error", 0.01, 0),
        ("errors < 0.05", "error", 0.05, 0),
    ],
)
def test_what_can_be_said(text: str, metric: str, allowed: float, limit_ms: float) -> None:
    (objective,) = parse(text)
    assert objective.metric == metric
    assert objective.allowed == pytest.approx(allowed)
    assert objective.limit_ms == pytest.approx(limit_ms)


def test_several_at_once_and_no_doubles() -> None:
    told = parse(["p99 e2e < 500ms, error rate < 1%", "p95 ttft < 200ms and p99 e2e < 0.5s"])
    assert [objective.metric for objective in told] == ["e2e", "error", "ttft"]


@given(
    st.sampled_from(["e2e", "ttft", "itl", "tpot", "queue"]),
    st.integers(1, 999).map(lambda tenths: tenths / 10),
    st.integers(1, 100_000),
)
def test_an_objective_reads_itself(metric: str, percent: float, limit_ms: int) -> None:
    (objective,) = parse(f"p{percent} {metric} < {limit_ms}ms")
    assert objective.allowed == pytest.approx(1 - percent / 100)
    assert parse(str(objective)) == (objective,)


@pytest.mark.parametrize(
    ("text", "position", "said"),
    [
        ("", 0, "empty"),
        ("p99 e2e < 500", 11, "no unit"),
        ("p99 e2e < 500 parsec", 11, "wrong unit"),
        ("p99 speed < 1s", 5, "speed is not known"),
        ("e2e < 1s", 1, "needs a percentile"),
        ("p0 e2e < 1s", 1, "between 0 and 100"),
        ("p100 e2e < 1s", 1, "between 0 and 100"),
        ("p99 e2e > 1s", 9, "expected `<`"),
        ("p99 e2e < 0ms", 11, "over 0"),
        ("p99 error rate < 1%", 1, "no percentile"),
        ("error rate < 120%", 14, "between 0 and 100%"),
        ("p95 ttft < 1s, p99 e2e < 1s please", 29, "nothing more"),
        ("fast", 1, "percentile like `p99`"),
    ],
)
def test_wrong_texts_are_shown_their_place(text: str, position: int, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert said in str(caught.value)
    assert "p99 e2e < 500ms" in caught.value.next
    if position:
        assert f"position {position}:" in caught.value.what
        assert caught.value.why.splitlines()[-1].index("^") - 2 == position - 1


@pytest.mark.parametrize(
    ("slo", "misses", "units"),
    [
        ("p99 e2e < 499ms", 1, 1),
        ("p99 e2e < 501ms", 0, 1),
        ("p99 ttft < 199ms", 1, 1),
        ("p99 ttft < 201ms", 0, 1),
        ("p99 tpot < 99ms", 1, 1),
        ("p99 tpot < 101ms", 0, 1),
        ("p99 queue < 19ms", 1, 1),
        ("p99 itl < 99ms", 2, 3),
        ("error rate < 1%", 0, 1),
    ],
)
def test_judged_from_the_intended_moment(slo: str, misses: int, units: int) -> None:
    assert judge(parse(slo)[0], sample())[:2] == (misses, units)


@pytest.mark.parametrize("outcome", ["refused", "failed", "timeout"])
@pytest.mark.parametrize("metric", ["e2e", "ttft", "itl", "tpot", "queue", "error"])
def test_a_failure_misses_everything(outcome: str, metric: str) -> None:
    objective = Objective(metric=metric, allowed=0.01, limit_ms=1e9)  # type: ignore[arg-type]
    assert judge(objective, sample(outcome=outcome)) == (1, 1, None)


def test_what_cannot_tell_counts_for_nothing() -> None:
    blank = sample(first_s=None, output_tokens=1, gaps_ms=(), queue_ms=None)
    for metric in ("ttft", "tpot", "queue", "itl"):
        assert judge(parse(f"p99 {metric} < 1ms")[0], blank).units == 0
