"""Asking a worker for its steps: who can't tell says why, and an answer that comes too late hurts nobody. And whose
word counts where several hosts share a store.
"""

from __future__ import annotations

import asyncio

import pytest

from freehold.core import ModelCard, StepRecord, WorkerState, WorkerStatus
from freehold.errors import NotFound, Unavailable
from freehold.gateway import fleet as fleets
from freehold.gateway.fleet import Fleet
from freehold.pipe import AskSteps, Frame, Steps

CARD = ModelCard(name="m", engine="sim", source="x", context_tokens=8, max_batch=1)
STEP = StepRecord(None, 1, None, 1, 2.0, None)


class Line:
    """A worker's line that answers at once, or never."""

    def __init__(self, fleet: Fleet, worker: str, *, answers: bool) -> None:
        self.worker = worker
        self.owner = f"{worker}:1"
        self.far = False
        self.asked: list[AskSteps] = []
        self._fleet = fleet
        self._answers = answers

    def send(self, frame: Frame) -> None:
        assert isinstance(frame, AskSteps)
        self.asked.append(frame)
        if self._answers:
            self._fleet.told_steps(Steps(frame.number, [STEP] * frame.last))


def joined(*, answers: bool, card: ModelCard | None = CARD) -> tuple[Fleet, Line]:
    fleet = Fleet()
    line = Line(fleet, "worker-1", answers=answers)
    fleet.hello(line, 1, card)
    return fleet, line


def test_each_question_gets_its_own_answer() -> None:
    async def ask() -> None:
        fleet, line = joined(answers=True)
        assert await asyncio.gather(fleet.steps("worker-1", 2), fleet.steps("worker-1", 3)) == [[STEP] * 2, [STEP] * 3]
        assert len({frame.number for frame in line.asked}) == 2

    asyncio.run(ask())


def test_an_unknown_worker_is_not_found_and_one_that_cannot_tell_says_why() -> None:
    async def ask() -> None:
        fleet, line = joined(answers=True, card=None)
        with pytest.raises(NotFound, match="worker-1"):
            await fleet.steps("worker-2", 1)
        with pytest.raises(Unavailable, match="loading"):
            await fleet.steps("worker-1", 1)
        fleet.supervised([WorkerStatus(name="worker-3", pid=0, state="dead")])
        with pytest.raises(Unavailable, match="dead"):
            await fleet.steps("worker-3", 1)
        assert line.asked == []

    asyncio.run(ask())


def test_a_worker_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleets, "STEPS_WAIT_S", 0.01)

    async def ask() -> None:
        fleet, line = joined(answers=False)
        with pytest.raises(Unavailable, match="does not answer"):
            await fleet.steps("worker-1", 1)
        fleet.told_steps(Steps(line.asked[0].number, [STEP]))

    asyncio.run(ask())


def test_who_is_to_be_started_again_is_no_reason_to_give_up() -> None:
    fleet = Fleet()
    fleet.lost_s -= 100.0
    assert fleet.hopeless(15.0)
    fleet.supervised([WorkerStatus(name="worker-1", pid=0, state="dead")])
    assert not fleet.hopeless(15.0)
    fleet.supervised([WorkerStatus(name="worker-1", pid=0, state="stopped")])
    assert fleet.hopeless(15.0)


def row(name: str, state: WorkerState = "ready", pid: int = 1) -> WorkerStatus:
    return WorkerStatus(name=name, pid=pid, state=state)


def test_only_one_s_own_supervisor_says_who_lives_and_every_one_says_who_is_there() -> None:
    fleet = Fleet()
    fleet.supervised([row("far.worker-1"), row("far.worker-2", "hung")], "far", own=False)
    assert fleet.alive() is None
    fleet.supervised([row("near.worker-1", "loading"), row("near.worker-2", "dead")], "near")
    assert fleet.alive() == {"near.worker-1:1"}
    assert fleet.own_names() == {"near.worker-1", "near.worker-2"}
    assert [each.name for each in fleet.workers()][:2] == ["far.worker-1", "far.worker-2"]
    assert (fleet.host_of("far.worker-2"), fleet.host_of("near.worker-1"), fleet.host_of("x")) == ("far", "near", None)
    fleet.unsupervised("far")
    assert fleet.host_of("far.worker-2") is None
    assert fleet.alive() == {"near.worker-1:1"}


def test_a_gateway_without_workers_waits_for_those_that_work_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> None:
        fleet = Fleet()
        fleet.supervised([])
        with pytest.raises(Unavailable):
            await fleet.card(None)  # nobody works anywhere
        fleet.elsewhere = True
        assert not fleet.hopeless(-1.0)
        asked = asyncio.ensure_future(fleet.card(None))
        await asyncio.sleep(0)
        fleet.hello(Line(fleet, "far.worker-1", answers=False), 1, CARD)
        assert await asked == CARD
        fleet = Fleet()
        fleet.elsewhere = True
        monkeypatch.setattr(fleets, "FAR_WAIT_S", 0.01)
        with pytest.raises(Unavailable):
            await fleet.card(None)  # they are out of reach

    asyncio.run(ask())
