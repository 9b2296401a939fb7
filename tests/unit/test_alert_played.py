"""Rules tried on load runs: half an hour of healthy bursts fires nothing, an overload is told as it breaks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from freehold import slo
from freehold.cli.alerts_replay import Asked, replayed, run
from freehold.config import load
from freehold.errors import UsageError
from freehold.loadtest.arrivals import Rate, arrivals, dice, steady, steps
from freehold.loadtest.record import Recorder, manifest
from freehold.profile import Profile, StepLaw
from freehold.sample import Sample
from freehold.sizing.simulate import play
from freehold.sizing.work import Fleet, Work
from freehold.telemetry.builtin import built_in
from freehold.telemetry.played import slots_of
from freehold.telemetry.slot import Slot

PROFILE = Profile(
    name="plain", model="none", engine="sim", machine="any", date="2026-11-25", source="Assumed.",
    step=StepLaw(base_ms=8.0, prefill_ms_per_token=0.02, sequence_ms=0.4), sweet_batch=16, max_batch=16,
    context_tokens=8192, max_batched_tokens=2048,
)  # fmt: skip
PROMISED = "p99 e2e < 5s, p99 ttft < 2s, error rate < 1%"
OBJECTIVES = slo.parse(PROMISED)


def samples(rate: Rate, seed: int = 3) -> Iterator[Sample]:
    """Bursty arrivals through two replicas in virtual time: lengths as long-tailed as in real traces."""
    at_s = arrivals(rate, "gamma", burstiness=0.35, seed=seed)
    lengths = dice(seed, "lengths")
    prompts = np.minimum(4000, lengths.lognormal(5.5, 1.0, len(at_s))).astype(np.int64) + 1
    answers = np.minimum(150, lengths.lognormal(3.6, 0.6, len(at_s))).astype(np.int64) + 1
    played = play(
        Work(arrival_s=at_s, prompt_tokens=prompts, output_tokens=answers), Fleet(profile=PROFILE, replicas=2)
    )
    for number, sent_s in enumerate(at_s.tolist()):
        yield Sample(
            number=number, intended_s=sent_s, sent_s=sent_s, end_s=float(played.end_s[number]), outcome="ok",
            first_s=float(played.first_s[number]), input_tokens=int(prompts[number]),
            output_tokens=int(answers[number]), queue_ms=1000 * (float(played.claimed_s[number]) - sent_s),
        )  # fmt: skip


def slots(rate: Rate) -> list[Slot]:
    return list(slots_of(samples(rate), "plain", 1e9, objectives=OBJECTIVES, batch_limit=32))


@pytest.fixture(scope="module")
def healthy() -> list[Slot]:
    """Half an hour at 25 requests/s: about half of what both replicas can do."""
    return slots(steady(25.0, 1800.0))


def test_half_an_hour_of_healthy_bursts_fires_nothing(healthy: list[Slot]) -> None:
    told = run(built_in(OBJECTIVES), OBJECTIVES, healthy)
    assert told.slots >= 180
    assert max(slot.queue_depth for slot in healthy) > 8  # the bursts are there
    assert told.alerts == []
    assert told.breaches == []


def test_an_overload_is_told(healthy: list[Slot]) -> None:
    told = run(built_in(OBJECTIVES), OBJECTIVES, slots(steps((25.0, 70.0, 25.0), 600.0)))
    fired = {each.rule: each for each in told.alerts}
    assert fired["slo-p99-e2e"].cause_kind == "queue"
    for rule in ("queue-long", "slo-p99-e2e", "slo-p99-ttft"):
        assert 600.0 <= (fired[rule].fired_unix_s or 0.0) - 1e9 <= 1200.0
    breaches = {each.objective: each for each in told.breaches}
    assert breaches["p99 ttft < 2000ms"].at_unix_s > 1e9 + 600.0
    assert breaches["p99 ttft < 2000ms"].warned_s is not None


def test_slots_of_a_run_add_up_and_leave_none_out() -> None:
    given = list(samples(steady(5.0, 100.0)))
    given.append(Sample(number=9999, intended_s=1, sent_s=1.0, end_s=205.0, outcome="refused", status=429))
    found = list(slots_of(given, "plain", 1000.0, objectives=OBJECTIVES))
    assert [slot.begin_unix_s for slot in found] == [1000.0 + 10 * number for number in range(len(found))]
    assert found[-1].begin_unix_s == 1200.0
    assert found[-1].parts["plain"].refused == {"deadline_unmeetable": 1}
    assert found[15].parts == {}
    parts = [part for slot in found for part in slot.parts.values()]
    assert sum(part.ok for part in parts) == len(given) - 1
    assert sum(part.useful_tokens for part in parts) == sum(each.output_tokens for each in given)


def test_a_recorded_run_is_replayed(tmp_path: Path) -> None:
    told = manifest("load", "freehold load", url="u", model="plain", seed=1, load={}, started_unix_s=1e9)
    with Recorder(tmp_path / "run", told) as recorder:
        recorder.add(samples(steps((5.0, 70.0), 400.0)))
        recorder.finish(800.0)
    config, _ = load({"observe.slo": "p99 ttft < 2s"}, environ={"FREEHOLD_HOME": str(tmp_path)})
    found = replayed(config, Asked(run=str(tmp_path / "run"), batch=32))
    assert {"queue-long", "slo-p99-ttft"} <= {each.rule for each in found.alerts}
    with pytest.raises(UsageError, match="There is no history"):
        replayed(config, Asked(port=1))
    with pytest.raises(UsageError, match="--since soon"):
        replayed(config, Asked(since="soon"))
