"""The planner plays what the `sim` engine plays, a step at a time, and gets the same times."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.clock import VirtualClock
from freehold.core import Request, Sampling
from freehold.engine.base import EngineSpec
from freehold.engine.sim.engine import SimEngine
from freehold.model.source import Source
from freehold.profile import Profile, StepLaw, save
from freehold.sizing.replica import steps_within
from freehold.sizing.simulate import play
from freehold.sizing.work import CUT, DONE, EXPIRED, REFUSED, Fleet, Played, Work

PLAIN = Profile(
    name="plain", model="none", engine="sim", machine="any", date="2026-11-25", source="Assumed.",
    step=StepLaw(base_ms=2.0, prefill_ms_per_token=0.05, sequence_ms=0.3, context_ms_per_token=0.01),
    sweet_batch=4, max_batch=8, context_tokens=256, max_batched_tokens=48,
)  # fmt: skip
TIGHT = msgspec.structs.replace(PLAIN, kv_bytes_per_token=1, kv_cache_bytes=300)


def stepwise(work: Work, profile: Profile, path: Path) -> tuple[list[float], list[float]]:
    """First and last token of each request from the sim engine, driven as a worker drives it."""
    save(profile, path)
    clock = VirtualClock()
    source = Source(kind="sim", path=str(path), label="", name="sim")
    spec = EngineSpec(engine="sim", source=source, name="sim", cache_dir="", max_batch=profile.sweet_batch)
    engine = SimEngine(spec, clock)
    engine.load(lambda *_: nullcontext())
    first: dict[int, float] = {}
    end: dict[int, float] = {}
    number = running = 0
    while len(end) < len(work.arrival_s):
        while number < len(work.arrival_s) and running < profile.sweet_batch:
            if work.arrival_s[number] > clock.monotonic_s():
                break
            asked = Sampling(max_tokens=int(work.output_tokens[number]), ignore_eos=True, seed=number)
            prompt = tuple([5] * int(work.prompt_tokens[number]))
            engine.add(Request(id=str(number), model="sim", kind="text", prompt=prompt, sampling=asked))
            number += 1
            running += 1
        if not running:
            clock.sleep(float(work.arrival_s[number]) - clock.monotonic_s())
            continue
        for chunk in engine.step().chunks:
            first.setdefault(int(chunk.id), clock.monotonic_s())
            if chunk.finish is not None:
                end[int(chunk.id)] = clock.monotonic_s()
                running -= 1
    return [first[i] for i in range(len(first))], [end[i] for i in range(len(end))]


def work(arrivals: list[float], prompts: list[int], outputs: list[int], due: list[float] | None = None) -> Work:
    return Work(
        arrival_s=np.array(arrivals), prompt_tokens=np.array(prompts), output_tokens=np.array(outputs),
        due_s=None if due is None else np.array(due),
    )  # fmt: skip


requests = st.lists(st.tuples(st.floats(0.0, 0.2), st.integers(1, 90), st.integers(1, 60)), min_size=1, max_size=25)


@pytest.mark.parametrize("profile", [PLAIN, TIGHT], ids=["room", "kv full"])
@settings(max_examples=60, deadline=None)
@given(told=requests)
def test_many_steps_at_once_give_what_single_steps_give(
    profile: Profile, told: list[tuple[float, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    asked = work(list(np.cumsum([gap for gap, _, _ in told])), [p for _, p, _ in told], [o for _, _, o in told])
    first, end = stepwise(asked, profile, tmp_path_factory.getbasetemp() / "profile.json")
    played = play(asked, Fleet(profile=profile, replicas=1))
    assert played.first_s == pytest.approx(first, abs=1e-9)
    assert played.end_s == pytest.approx(end, abs=1e-9)


@given(a=st.floats(0.01, 50), b=st.floats(0, 2), steps=st.integers(1, 500), part=st.floats(0.01, 0.99))
def test_steps_within_is_the_least_that_lasts(a: float, b: float, steps: int, part: float) -> None:
    def lasts(k: int) -> float:
        return k * a + b * k * (k - 1) / 2

    assert steps_within(lasts(steps) + part * (a + b * steps), a, b) == steps + 1


@settings(max_examples=40, deadline=None)
@given(told=requests, replicas=st.integers(1, 5), patience=st.floats(0.01, 1.0))
def test_every_request_has_one_end(told: list[tuple[float, int, int]], replicas: int, patience: float) -> None:
    arrivals = np.cumsum([gap for gap, _, _ in told])
    asked = work(
        list(arrivals), [p for _, p, _ in told], [o for _, _, o in told], [float(at) + patience for at in arrivals]
    )
    played = play(asked, Fleet(profile=TIGHT, replicas=replicas))
    assert asked.due_s is not None
    assert set(played.outcome.tolist()) <= {DONE, EXPIRED, CUT}
    done = played.outcome == DONE
    assert (played.end_s[done] >= played.first_s[done]).all()
    assert np.isnan(played.claimed_s[played.outcome == EXPIRED]).all()
    assert (played.claimed_s[~np.isnan(played.claimed_s)] < asked.due_s[~np.isnan(played.claimed_s)]).all()


def test_more_replicas_never_do_worse_and_half_the_speed_does() -> None:
    rng = np.random.default_rng(3)
    asked = work(
        list(np.cumsum(rng.exponential(0.02, 400))), list(rng.integers(5, 60, 400)), list(rng.integers(5, 50, 400))
    )

    def waits(played: Played) -> float:
        return float(np.mean(played.end_s - asked.arrival_s))

    one, two, slow = (
        waits(play(asked, fleet))
        for fleet in (
            Fleet(profile=PLAIN, replicas=1), Fleet(profile=PLAIN, replicas=2),
            Fleet(profile=PLAIN, replicas=1, slowness=2.0),
        )
    )  # fmt: skip
    assert two < one < slow


def test_what_is_refused_is_never_played() -> None:
    asked = work([0.0, 0.0, 0.0], [10, 10, 10], [5, 5, 5])
    played = play(asked, Fleet(profile=PLAIN, replicas=1), admit=lambda number, *_: number != 1)
    assert played.outcome.tolist() == [DONE, REFUSED, DONE]


def test_the_rank_decides_who_is_next() -> None:
    asked = msgspec.structs.replace(work([0.0] * 6, [10] * 6, [20] * 6), rank=np.array([5.0, 4, 3, 2, 1, 0]))
    played = play(asked, Fleet(profile=PLAIN, replicas=1, max_batch=1))
    assert np.argsort(played.end_s).tolist() == [5, 4, 3, 2, 1, 0]
