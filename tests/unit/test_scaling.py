"""Where the missing part of an ideal went: every part is named from servers made up to lose just that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core import StepRecord
from freehold.sample import Sample
from freehold.sizing.scaling import Level, Pace, level, pace, scaled, sentence, usd_per_million_tokens

TOKENS = 50


def made(
    instances: int, each: int = 8, *, queue: float = 0.0, network: float = 1.0, batches: tuple[float, ...] = (),
    slower: float = 1.0, told: bool = True,
) -> Level:  # fmt: skip
    """A level of servers whose step takes 2 ms and 0.5 more a sequence; every user always has a request inside."""
    batches = batches or (float(each),) * instances
    paces = tuple(
        Pace(worker=f"w{i}", tokens=int(1000 * b), running=b, step_ms=slower * step(b)) for i, b in enumerate(batches)
    )
    tokens = sum(p.tokens for p in paces)
    engine = TOKENS * sum(p.tokens * p.step_ms for p in paces) / tokens
    took_s = (queue + network + engine) / 1000
    users, samples = each * instances, []
    for user in range(users):
        at = took_s * user / users
        while at < 30.0:
            sent = at
            first = sent + (queue + network + engine / TOKENS) / 1000
            at += took_s
            samples.append(
                Sample(
                    number=len(samples), intended_s=sent, sent_s=sent, end_s=at, first_s=first, outcome="ok",
                    output_tokens=TOKENS, queue_ms=queue, served_ms=queue + engine / TOKENS,
                )
            )  # fmt: skip
    return level(instances, users, (5.0, 25.0), samples, 0.1, paces if told else ())


def step(batch: float) -> float:
    return 2.0 + 0.5 * batch


ALONE = made(1)
UP = [made(1, 16), made(1, 32)]


def test_what_scales_ideally_loses_nothing() -> None:
    found = scaled(ALONE, made(4), UP)
    assert found.efficiency == pytest.approx(1.0, abs=0.02)
    assert sum(found.lost.values()) < 0.02


@pytest.mark.parametrize(
    ("other", "name"),
    [
        (made(2, queue=80.0), "queue"),
        (made(2, network=60.0), "network"),
        (made(2, batches=(14.0, 2.0)), "routing"),
        (made(2, slower=1.6), "hardware"),
    ],
)
def test_the_part_that_grew_is_named(other: Level, name: str) -> None:
    found = scaled(ALONE, other, UP)
    assert found.efficiency < 0.95
    assert max(found.lost, key=lambda each: found.lost[each]) == name
    assert found.lost[name] == pytest.approx(1 - found.efficiency, abs=0.05)
    assert f"{found.efficiency:.0%} of ideal" in sentence(
        [ALONE, other], [scaled(ALONE, ALONE, UP), found], UP, "workers"
    )


@given(st.floats(0, 100), st.floats(1, 100), st.floats(1.0, 3.0), st.floats(1.0, 15.0))
def test_the_parts_add_up(queue: float, network: float, slower: float, batch: float) -> None:
    found = scaled(ALONE, made(2, queue=queue, network=network, slower=slower, batches=(batch, 16 - batch)), UP)
    assert all(share >= 0 for share in found.lost.values())
    if found.lost:
        assert sum(found.lost.values()) == pytest.approx(max(0.0, 1 - found.efficiency))


def test_without_steps_routing_and_hardware_are_not_told_apart() -> None:
    found = scaled(made(1, told=False), made(2, slower=1.5, told=False), [])
    assert found.lost["engine"] == pytest.approx(1 - found.efficiency, abs=0.02)
    assert not {"routing", "hardware"} & set(found.lost)


def test_of_a_server_that_does_not_tell_its_own_time_the_network_is_unknown() -> None:
    silent = [Sample(number=0, intended_s=0, sent_s=0, end_s=1.0, first_s=0.5, outcome="ok", output_tokens=5)]
    found = level(1, 1, (0.0, 2.0), silent, 0.0)
    assert found.times.network is None
    assert found.times.total == pytest.approx(1000)


def test_a_pace_counts_a_step_by_its_tokens() -> None:
    steps = [
        StepRecord(prefill_tokens=0, running=1, context_tokens=9, tokens=1, step_ms=2.0, gap_ms=None),
        StepRecord(prefill_tokens=0, running=3, context_tokens=9, tokens=3, step_ms=4.0, gap_ms=1.0),
    ]
    found = pace("w", steps)
    assert found == Pace(worker="w", tokens=4, running=2.5, step_ms=pytest.approx((2.0 + 3 * 5.0) / 4))
    assert pace("w", steps[:0]) is None


def test_failures_are_no_answers_and_cost_is_of_tokens() -> None:
    samples = [
        Sample(number=i, intended_s=i, sent_s=i, end_s=i + 0.5, outcome="ok" if i % 2 else "failed", output_tokens=10)
        for i in range(10)
    ]
    found = level(1, 1, (0.0, 10.0), samples, 0.0)
    assert (found.answers, found.failed, found.per_s) == (5, 0.5, 0.5)
    assert usd_per_million_tokens(found, 3.6) == pytest.approx(3.6 / (found.tokens_per_s * 3600 / 1e6))
