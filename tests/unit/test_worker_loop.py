"""The loop in this process, turn by turn, with the sim engine in virtual time and a real ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import msgspec
import pytest

from freehold.clock import VirtualClock
from freehold.core import Chunk, Request, Sampling, Usage
from freehold.engine.base import EngineSpec, Step
from freehold.engine.sim.engine import SimEngine
from freehold.errors import CannotResume, InvalidRequest, StoreError
from freehold.ledger.protocol import Ended, Progress
from freehold.ledger.sqlite import SqliteLedger
from freehold.model.source import Source
from freehold.pipe import AnyFrame, Cancel, Drain, Follow, Frame, Status, Tokens, Wake
from freehold.worker.loop import WorkLoop
from freehold.worker.pipes import Pipes
from freehold.worker.presence import Presence


class Wire(Pipes):
    """A pipe whose other end is this test."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__((), list, clock)
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


def ask(id: str, tokens: int = 5, prompt: str = "Hello.", **more: object) -> Request:
    sampling = Sampling(max_tokens=tokens, ignore_eos=True, seed=1)
    return Request(id=id, model="m", kind="text", prompt=prompt, sampling=sampling, **more)  # type: ignore[arg-type]


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


@pytest.mark.parametrize("keep", [True, False])
def test_an_end_is_in_the_ledger_before_its_last_chunk_is_out(floor: Floor, keep: bool) -> None:
    seen: list[str] = []
    send = floor.wire.send

    def look(frame: Frame) -> None:
        send(frame)
        if isinstance(frame, Tokens) and any(chunk.finish for chunk in frame.chunks):
            entry = floor.ledger.fetch(frame.chunks[0].id)
            seen.append(entry.state if entry else "")

    floor.wire.send = look  # type: ignore[method-assign]
    floor.ledger.accept([ask("a", keep=keep)])
    floor.turns(20)
    assert seen == ["done"]


def test_one_failed_answer_ends_its_request_and_stops_the_others(floor: Floor) -> None:
    class Picky(SimEngine):
        def add(self, request: Request, choice: int = 0, given: Sequence[Chunk] = ()) -> None:
            if choice == 1:
                raise InvalidRequest("Only one.", param="n")
            super().add(request, choice, given)

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
        def add(self, request: Request, choice: int = 0, given: Sequence[Chunk] = ()) -> None:
            if request.id == "bad":
                raise ZeroDivisionError("oh")
            super().add(request, choice, given)

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


@pytest.mark.parametrize("noticed", [True, False])
def test_what_it_lost_by_standing_still_and_claims_again_goes_on_as_one_answer(floor: Floor, noticed: bool) -> None:
    floor.ledger.accept([ask("whole", 40), ask("a", 40, keep=True)])
    floor.turns(8)
    floor.ledger.abandon(floor.presence.owner)
    floor.loop._next_cancels_s = 0.0 if noticed else floor.clock.monotonic_s() + 1000.0
    floor.wire.coming = [Wake()]
    floor.turns(100)
    for id in ("whole", "a"):
        entry = floor.ledger.fetch(id)
        assert entry is not None
        assert entry.result is not None
        assert (entry.attempt, entry.result.cancelled, entry.result.usage.completion_tokens) == (2, False, 40)
        ends = [chunk.offset + chunk.tokens for chunk in floor.wire.chunks() if chunk.id == id and chunk.finish]
        assert ends == [40]
    assert floor.engine.stats().running == 0


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


def test_a_broken_engine_leaves_its_requests_to_another(floor: Floor) -> None:
    class Broken(SimEngine):
        def step(self) -> Step:
            raise MemoryError("no more")

    floor.ledger.accept([ask("a", 50), ask("b", 50)])
    floor.turns(10)
    floor.engine.__class__ = Broken
    floor.left_turns = 10
    with pytest.raises(MemoryError):
        floor.loop.run()
    floor.loop.give_up()
    claims = floor.ledger.claim("worker-2:2", 5, "m")
    assert {claim.request.id for claim in claims} == {"a", "b"}
    shown = floor.wire.chunks()
    for claim in claims:
        assert [chunk.text for chunk in claim.given] == [chunk.text for chunk in shown if chunk.id == claim.request.id]


# ---- going on -----------------------------------------------------------------------------------


def text_of(floor: Floor, id: str, choice: int = 0) -> str:
    return "".join(chunk.text for chunk in floor.wire.chunks() if (chunk.id, chunk.choice) == (id, choice))


def lose(floor: Floor) -> None:
    """This life of the worker is over; another begins with the same engine."""
    floor.ledger.abandon(floor.presence.owner)
    for id in ("a", "b"):
        floor.engine.abort(id)
    floor.engine.step()
    floor.loop = WorkLoop(
        floor.engine, floor.ledger, floor.wire, floor.presence, stop_asked=floor._stop, clock=floor.clock
    )


def test_another_goes_on_after_what_was_saved(floor: Floor) -> None:
    floor.ledger.accept([ask("whole", 120, n=2)])
    floor.turns(200)
    floor.ledger.accept([ask("a", 120, n=2)])
    floor.turns(30)
    told = floor.ledger.progress("a")
    assert told is not None
    saved = sum(chunk.tokens for chunk in told.chunks)
    shown = sum(chunk.tokens for chunk in floor.wire.chunks() if chunk.id == "a")
    assert 0 < saved <= shown
    assert shown - saved <= 2 * 5, "what the ledger has is a few steps old"
    floor.wire.sent.clear()
    lose(floor)
    floor.turns(200)
    begun = next(frame.begun["a"] for frame in floor.wire.sent if isinstance(frame, Tokens) and "a" in frame.begun)
    assert (begun.attempt, begun.tokens) == (2, saved)
    for choice in (0, 1):
        first = "".join(chunk.text for chunk in told.chunks if chunk.choice == choice)
        again = floor.ledger.progress("whole")
        assert again is not None
        whole = "".join(chunk.text for chunk in again.chunks if chunk.choice == choice)
        assert first + text_of(floor, "a", choice) == whole


def test_what_no_engine_can_go_on_with_is_made_anew_and_shown_once(floor: Floor) -> None:
    floor.ledger.accept([ask("a", 60)])
    floor.turns(20)
    told = floor.ledger.progress("a")
    assert told is not None
    whole = "".join(chunk.text for chunk in told.chunks)

    class Forgetful(SimEngine):
        def add(self, request: Request, choice: int = 0, given: Sequence[Chunk] = ()) -> None:
            if given:
                raise CannotResume("Not here.")
            super().add(request, choice)

    floor.engine.__class__ = Forgetful
    floor.wire.sent.clear()
    lose(floor)
    floor.turns(120)
    chunks = floor.wire.chunks()
    assert chunks[0].offset == sum(chunk.tokens for chunk in told.chunks)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 60
    assert whole
    assert not text_of(floor, "a").startswith(whole)


def test_made_anew_and_different_it_ends_with_one_error(floor: Floor) -> None:
    floor.ledger.accept([ask("a", 60)])
    floor.turns(20)

    class Fickle(SimEngine):
        def add(self, request: Request, choice: int = 0, given: Sequence[Chunk] = ()) -> None:
            if given:
                raise CannotResume("Not here.")
            super().add(msgspec.structs.replace(request, prompt="Something else."), choice)

    floor.engine.__class__ = Fickle
    floor.wire.sent.clear()
    lose(floor)
    floor.turns(60)
    (chunk,) = floor.wire.chunks()
    assert chunk.failure is not None
    assert chunk.failure.code == "resume_failed"


def test_an_answer_that_only_lacked_its_report_is_reported(floor: Floor) -> None:
    floor.ledger.accept([ask("a", 3)])
    (claim,) = floor.ledger.claim("worker-0:1", 1, "m")
    parts = [Chunk("a", 0, 0, 3, "All.", None, "length", Usage(prompt_tokens=2, completion_tokens=3))]
    floor.ledger.checkpoint([Progress("a", claim.attempt, parts)])
    floor.ledger.abandon("worker-0:1")
    floor.turns(5)
    entry = floor.ledger.fetch("a")
    assert entry is not None
    assert entry.result is not None
    assert entry.result.usage.completion_tokens == 3


def test_a_gateway_that_is_new_to_it_is_told_everything(floor: Floor) -> None:
    floor.ledger.accept([ask("a", 100)])
    floor.turns(20)
    shown = text_of(floor, "a")
    floor.wire.sent.clear()
    floor.wire.coming = [Follow("a"), Follow("unknown")]
    floor.turns(2)
    first = next(frame for frame in floor.wire.sent if isinstance(frame, Tokens))
    assert "".join(chunk.text for chunk in first.chunks) == shown
    assert first.begun["a"].attempt == 1


def test_a_deadline_that_passes_in_the_middle_ends_the_answer(floor: Floor) -> None:
    floor.ledger.accept([ask("a", 900, deadline_unix_s=floor.clock.unix_s() + 0.5)])
    floor.turns(400)
    last = floor.wire.chunks()[-1]
    assert last.failure is not None
    assert last.failure.code == "deadline_passed"
    assert text_of(floor, "a")
    assert floor.engine.stats().running == 0


# ---- cancelling ---------------------------------------------------------------------------------


def embed(id: str) -> Request:
    return Request(id=id, model="m", kind="embed", inputs=("one",))


@pytest.mark.parametrize("turns", [2, 3, 4, 9])
def test_a_cancelled_request_has_no_place_after_the_next_step(floor: Floor, turns: int) -> None:
    """Just claimed, its prompt being read, in the middle: whatever it is at."""
    long = ask("a", 500, n=2, prompt="word " * 400)
    floor.ledger.accept([long])
    floor.turns(turns)
    steps = floor.loop.steplog.steps
    floor.wire.coming = [Cancel("a")]
    floor.turns(3)
    assert floor.engine.stats().running == 0
    assert floor.ledger.depth().running == 0
    assert floor.loop.steplog.steps - steps <= 2


def test_cancelled_elsewhere_it_stops_within_a_few_steps(floor: Floor) -> None:
    floor.ledger.accept([ask("a", 500)])
    floor.turns(10)
    at_s = floor.clock.monotonic_s()
    assert floor.ledger.cancel("a") == "running"
    while floor.ledger.depth().running:
        floor.turns(2)
    assert floor.clock.monotonic_s() - at_s < 0.2


def test_a_text_that_waits_to_be_embedded_can_be_cancelled(floor: Floor) -> None:
    floor.ledger.accept([embed("first"), embed("second")])
    floor.left_turns = 1
    floor.turns(1)
    floor.wire.coming = [Cancel("second")]
    floor.turns(4)
    ends = {chunk.id: chunk.finish for chunk in floor.wire.chunks()}
    assert ends["first"] == "stop"
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
