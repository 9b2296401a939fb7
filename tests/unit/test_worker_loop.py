"""The loop in this process, turn by turn, with the sim engine in virtual time and a real ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest

from freehold.clock import VirtualClock
from freehold.core import Chunk, Request, Sampling
from freehold.engine.base import EngineSpec, Step
from freehold.engine.sim.engine import SimEngine
from freehold.errors import InvalidRequest, StoreError
from freehold.ledger.protocol import Ended
from freehold.ledger.sqlite import SqliteLedger
from freehold.model.source import Source
from freehold.pipe import AnyFrame, Cancel, Drain, Frame, Status, Tokens, Wake
from freehold.worker.loop import WorkLoop
from freehold.worker.pipe_client import PipeClient
from freehold.worker.presence import Presence


class Wire(PipeClient):
    """A pipe whose other end is this test."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__("", list, clock)
        self.clock = clock
        self.sent: list[Frame] = []
        self.coming: list[AnyFrame] = []
        self.waits: list[float] = []

    def send(self, frame: Frame) -> None:
        self.sent.append(frame)

    def receive(self) -> list[AnyFrame]:
        frames, self.coming = self.coming, []
        return frames

    def wait(self, timeout_s: float, also: Sequence[int] = ()) -> None:
        self.waits.append(timeout_s)
        self.clock.sleep(timeout_s)

    def chunks(self) -> list[Chunk]:
        return [chunk for frame in self.sent if isinstance(frame, Tokens) for chunk in frame.chunks]


class Floor:
    """Everything a loop needs, and `turns` to run it for a while."""

    def __init__(self, folder: Path) -> None:
        self.clock = VirtualClock(1000.0)
        source = Source(kind="sim", path="llama-125m-openvino-2core", label="", name="m")
        spec = EngineSpec(engine="sim", source=source, name="m", cache_dir="", max_batch=4)
        self.engine = SimEngine(spec, self.clock)
        self.engine.load(lambda name, detail: nullcontext())
        self.ledger = SqliteLedger(folder / "ledger.sqlite", clock=self.clock)
        self.wire = Wire(self.clock)
        self.presence = Presence("worker-1", "m", "sim", clock=self.clock)
        self.left_turns = 0
        self.loop = WorkLoop(
            self.engine, self.ledger, self.wire, self.presence, stop_asked=self._stop, clock=self.clock
        )

    def _stop(self) -> bool:
        self.left_turns -= 1
        if self.left_turns <= 0:
            raise Enough
        return False

    def turns(self, count: int) -> None:
        self.left_turns = count
        with pytest.raises(Enough):
            self.loop.run()


class Enough(Exception):
    """The test has seen enough turns."""


@pytest.fixture
def floor(tmp_path: Path) -> Iterator[Floor]:
    floor = Floor(tmp_path)
    yield floor
    assert floor.ledger.check_integrity() == []
    floor.ledger.close()


def ask(id: str, tokens: int = 5, **more: object) -> Request:
    sampling = Sampling(max_tokens=tokens, ignore_eos=True)
    return Request(id=id, model="m", kind="text", prompt="Hello.", sampling=sampling, **more)  # type: ignore[arg-type]


def test_it_claims_what_fits_and_the_rest_when_there_is_room(floor: Floor) -> None:
    floor.ledger.accept([ask(f"r{i}", 5 + 10 * i) for i in range(6)])
    floor.turns(3)
    assert (floor.ledger.depth().running, floor.ledger.depth().queued) == (4, 2)
    floor.turns(10)
    assert floor.ledger.depth().queued == 1
    floor.turns(200)
    assert floor.ledger.depth().running == 0
    assert {chunk.id for chunk in floor.wire.chunks() if chunk.finish} == {f"r{i}" for i in range(6)}


def test_n_answers_take_n_places(floor: Floor) -> None:
    floor.ledger.accept([ask("three", n=3), ask("two", n=2), ask("last")])
    floor.turns(4)
    assert (floor.ledger.depth().running, floor.ledger.depth().queued) == (2, 1)
    floor.turns(100)
    assert sorted(chunk.choice for chunk in floor.wire.chunks() if chunk.finish) == [0, 0, 0, 1, 1, 2]


def test_idle_it_sleeps_until_the_next_look_and_wakes_for_work(floor: Floor) -> None:
    began_s = floor.clock.monotonic_s()
    floor.turns(4)
    assert floor.wire.waits
    assert sum(floor.wire.waits) == pytest.approx(floor.clock.monotonic_s() - began_s)
    floor.ledger.accept([ask("a")])
    floor.turns(40)  # nobody wakes it: the look into the ledger finds it
    assert any(chunk.id == "a" for chunk in floor.wire.chunks())
    floor.ledger.accept([ask("b")])
    floor.wire.coming = [Wake()]
    floor.turns(2)
    assert floor.ledger.depth().queued == 0


def test_a_kept_end_is_in_the_ledger_before_its_last_chunk_is_out(floor: Floor) -> None:
    seen: list[str] = []
    send = floor.wire.send

    def look(frame: Frame) -> None:
        send(frame)
        if isinstance(frame, Tokens) and any(chunk.finish for chunk in frame.chunks):
            entry = floor.ledger.fetch(frame.chunks[0].id)
            seen.append(entry.state if entry else "")

    floor.wire.send = look  # type: ignore[method-assign]
    floor.ledger.accept([ask("kept", keep=True)])
    floor.turns(20)
    assert seen == ["done"]


def test_one_failed_answer_ends_its_request_and_stops_the_others(floor: Floor) -> None:
    class Picky(SimEngine):
        def add(self, request: Request, choice: int = 0) -> None:
            if choice == 1:
                raise InvalidRequest("Only one.", param="n")
            super().add(request, choice)

    floor.engine.__class__ = Picky
    floor.ledger.accept([ask("a", 50, n=2)])
    floor.turns(10)
    (chunk,) = floor.wire.chunks()
    assert chunk.failure is not None
    assert chunk.failure.param == "n"
    assert floor.engine.stats().running == 0
    assert floor.ledger.depth().running == 0


def test_a_bug_in_add_costs_one_request(floor: Floor) -> None:
    class Buggy(SimEngine):
        def add(self, request: Request, choice: int = 0) -> None:
            if request.id == "bad":
                raise ZeroDivisionError("oh")
            super().add(request, choice)

    floor.engine.__class__ = Buggy
    floor.ledger.accept([ask("bad"), ask("good")])
    floor.turns(30)
    ends = {chunk.id: chunk for chunk in floor.wire.chunks() if chunk.finish}
    assert ends["bad"].failure is not None
    assert ends["bad"].failure.code == "engine_failed"
    assert ends["good"].finish == "length"


def test_a_cancel_frame_stops_every_answer(floor: Floor) -> None:
    floor.ledger.accept([ask("a", 500, n=2)])
    floor.turns(5)
    floor.wire.coming = [Cancel("a"), Cancel("unknown")]
    floor.turns(4)
    assert [chunk.finish for chunk in floor.wire.chunks() if chunk.finish] == ["cancelled"] * 2


def test_a_claim_taken_away_is_let_go(floor: Floor) -> None:
    floor.ledger.accept([ask("a", 500)])
    floor.turns(5)
    floor.ledger.abandon(floor.presence.owner)
    assert [claim.attempt for claim in floor.ledger.claim("worker-2:2", 1, "m")] == [2]
    floor.clock.sleep(1.0)
    floor.turns(4)
    assert floor.engine.stats().running == 0
    entry = floor.ledger.fetch("a")
    assert entry is not None
    assert (entry.state, entry.worker) == ("running", "worker-2:2")


def test_drained_it_ends_by_itself(floor: Floor) -> None:
    floor.ledger.accept([ask("a", 20)])
    floor.turns(3)
    floor.wire.coming = [Drain()]
    floor.ledger.accept([ask("b")])
    floor.left_turns = 1000
    floor.loop.run()
    states = [frame.status.state for frame in floor.wire.sent if isinstance(frame, Status)]
    assert states[-1] == "draining"
    assert floor.ledger.depth().queued == 1
    assert floor.ledger.depth().running == 0


def test_a_full_disk_delays_the_records_and_loses_none(floor: Floor) -> None:
    real = floor.ledger.finish_all
    refused = 0

    def finish_all(ended: Sequence[Ended]) -> list[bool]:
        nonlocal refused
        refused += 1
        if refused <= 3:
            raise StoreError("The disk is full.")
        return real(ended)

    floor.ledger.finish_all = finish_all  # type: ignore[method-assign]
    floor.ledger.accept([ask("a"), ask("b", 9)])
    floor.turns(60)
    assert refused > 3
    assert floor.ledger.depth().running == 0
    assert {chunk.id for chunk in floor.wire.chunks() if chunk.finish} == {"a", "b"}


def test_a_broken_engine_ends_every_request(floor: Floor) -> None:
    class Broken(SimEngine):
        def step(self) -> Step:
            raise MemoryError("no more")

    floor.engine.__class__ = Broken
    floor.ledger.accept([ask("a"), ask("b")])
    floor.left_turns = 10
    with pytest.raises(MemoryError) as caught:
        floor.loop.run()
    floor.loop.fail_all(caught.value)
    assert {chunk.id for chunk in floor.wire.chunks() if chunk.failure} == {"a", "b"}
    assert floor.ledger.depth().running == 0


def test_steps_are_logged_with_their_gaps(floor: Floor) -> None:
    floor.ledger.accept([ask("a", 30)])
    floor.turns(60)
    log = floor.loop.steplog
    assert log.tokens == 30
    assert log.steps == len(log.records) >= 30
    assert log.records[0].gap_ms is None
    assert all(record.gap_ms is not None and record.gap_ms >= 0 for record in list(log.records)[1:])
    assert all(record.running == 1 and record.step_ms > 0 for record in log.records)
    status = [frame.status for frame in floor.wire.sent if isinstance(frame, Status)][-1]
    assert (status.steps, status.tokens) == (log.steps, 30)
