"""When a step takes too long: the bound, the pulse that carries it, and the heart that knows the prompts."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.clock import VirtualClock
from freehold.core import Chunk, ModelCard, Request
from freehold.engine.base import Step
from freehold.profile import StepLaw, step_ms
from freehold.worker import pulse as pulses
from freehold.worker.bound import FLOOR_MS, LAW_MARGIN, UNSEEN_MS, StepBound, prompt_tokens_at_most
from freehold.worker.heart import BETWEEN_MS, Heart
from freehold.worker.memory import is_near, limit_bytes
from freehold.worker.pulse import CONFIRM_S, Pulse, Watch
from freehold.worker.steplog import StepLog

LAW = StepLaw(base_ms=20, prefill_ms_per_token=10, sequence_ms=1, context_ms_per_token=0.001)


def card(**more: Any) -> ModelCard:
    facts = {"name": "m", "engine": "sim", "source": "x", "context_tokens": 4096, "max_batch": 8, **more}
    return ModelCard(**facts)


def ask(prompt: str = "hello", **more: Any) -> Request:
    return Request(id=more.pop("id", "a"), model="m", kind="text", prompt=prompt, **more)


@given(unread=st.integers(0, 4096), running=st.integers(1, 64))
def test_a_step_that_the_law_foresees_never_counts_as_hung(unread: int, running: int) -> None:
    bound = StepBound(card(), LAW)
    assert bound.most_ms(unread, running) >= LAW_MARGIN * step_ms(LAW, unread, running, running * 4096)
    assert bound.most_ms(unread, running) >= FLOOR_MS


def test_without_a_law_it_learns_what_reading_costs() -> None:
    bound = StepBound(card(parameters=1_000_000), None)
    assert bound.most_ms(0, 1) >= UNSEEN_MS  # kernels are compiled
    for _ in range(3):
        bound.learn(2000.0, 100)
        bound.learn(30.0, 0)
    assert bound.most_ms(0, 1) == FLOOR_MS
    assert bound.most_ms(1000, 1) > 1000 * 20.0


def test_a_large_model_that_was_never_seen_gets_its_time() -> None:
    assert StepBound(card(parameters=8_000_000_000), None).most_ms(1000, 1) > 1000 * 160.0


def test_prompts_count_at_their_upper_bound() -> None:
    assert prompt_tokens_at_most(ask("x" * 2000), card()) >= 2000
    assert prompt_tokens_at_most(ask("x" * 100_000), card()) == 4096
    texts = Request(id="e", model="m", kind="embed", inputs=("x" * 9000, "y" * 9000))
    assert prompt_tokens_at_most(texts, card()) >= 18_000


def test_a_pulse_is_late_only_when_its_watcher_moved_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch()
    own = Pulse(watch.fd)
    assert watch.late_s(time.monotonic() + 1e9) == 0.0  # loading has no bound
    own.beat(2.0)
    now_s = time.monotonic()
    assert watch.late_s(now_s + 1.0) == 0.0
    assert watch.late_s(now_s + 100.0) == 0.0  # the watcher itself may have stood still
    assert watch.late_s(now_s + 100.0 + CONFIRM_S) > 90.0
    own.beat(1000.0)
    assert watch.late_s(now_s + 103.0) == 0.0
    assert pulses.GATEWAY_S + CONFIRM_S < 10.0
    watch.close()


class Beats(Pulse):
    """Remembers how long each beat allows."""

    def __init__(self) -> None:
        self.within_s: list[float] = []

    def beat(self, within_s: float) -> None:
        self.within_s.append(within_s)


def heart(engine: str = "sim", law: StepLaw | None = LAW) -> tuple[Heart, Beats, VirtualClock]:
    clock, beats = VirtualClock(100.0), Beats()
    own = Heart(clock, beats)
    own.before_step(1, None)  # not loaded yet: no beat
    assert beats.within_s == []
    own.begin(card(engine=engine), law)
    return own, beats, clock


def test_a_long_prompt_gets_a_long_bound_until_it_is_read() -> None:
    own, beats, _ = heart()
    own.took(ask("x" * 3000))
    own.before_step(1, None)
    assert beats.within_s[-1] > 3000 * 10 / 1000
    own.after_step(Step([Chunk("a", 0, 0, 1, "t")], prefill_tokens=3000, running=1))
    assert beats.within_s[-1] == BETWEEN_MS / 1000
    own.before_step(1, None)
    assert beats.within_s[-1] == FLOOR_MS / 1000
    own.before_step(1, 0.95)  # a full cache: something may be read again
    assert beats.within_s[-1] > 4096 * 10 / 1000
    own.rest(StepLog())
    assert beats.within_s[-1] == FLOOR_MS / 1000


def test_an_engine_that_hides_its_steps_must_show_something_in_time() -> None:
    own, beats, clock = heart("llamacpp", None)
    own.took(ask("x"))
    for _ in range(10):
        own.before_step(1, None)
        clock.sleep(0.005)
        own.after_step(Step([], running=1))
    first_s = beats.within_s[-2]
    clock.sleep(5.0)
    own.before_step(1, None)
    assert beats.within_s[-1] < first_s - 4.9
    own.after_step(Step([Chunk("a", 0, 0, 1, "t")], running=1))
    own.before_step(1, None)
    assert beats.within_s[-1] >= UNSEEN_MS / 1000


def test_a_remote_keeps_its_own_time() -> None:
    own, beats, clock = heart("remote", None)
    own.took(ask("x"))
    own.before_step(1, None)
    own.after_step(Step([], running=1))
    clock.sleep(100.0)
    own.before_step(1, None)
    assert beats.within_s[-1] == FLOOR_MS / 1000


def test_a_worker_s_memory_is_its_share_unless_told() -> None:
    assert limit_bytes(100, 1 << 40, 4) == 100 << 20
    assert limit_bytes(0, 1000, 4) == 225
    assert is_near(90, 100)
    assert not is_near(89, 100)
    assert not is_near(1 << 60, 0)
