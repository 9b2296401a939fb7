"""Asking a worker for its steps: who can't tell says why, and an answer that comes too late hurts nobody."""

from __future__ import annotations

import asyncio

import pytest

from freehold.core import ModelCard, StepRecord, WorkerStatus
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
