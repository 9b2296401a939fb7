"""What a gateway remembers: deaths and loads of workers as they change, rows as requests end, listeners that break."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec
import pytest

from freehold.clock import VirtualClock
from freehold.core import Answer, Chunk, LoadPhase, ModelCard, Request, Result, Usage, WorkerStatus
from freehold.errors import DeadlinePassed, EngineFailed, FreeholdError, PromptTooLong, Unavailable
from freehold.gateway.call import Call
from freehold.gateway.changes import Changes
from freehold.gateway.fleet import Fleet
from freehold.gateway.inbox import Inbox, failed_chunk
from freehold.gateway.observe import Observe
from freehold.gateway.watching import rebuild
from freehold.ledger.group import AsyncLedger
from freehold.ledger.sqlite import SqliteLedger
from freehold.pipe import Frame, Status
from freehold.settings import ObserveConfig
from freehold.telemetry.history import History
from freehold.telemetry.history_read import RowFilter, read_rows
from freehold.telemetry.row import Row, variant_of
from freehold.telemetry.slot import Event, Slot

CARD = ModelCard(
    name="m", engine="sim", source="made-up text", context_tokens=100, max_batch=4, quantization="q8_0",
    revision="abc", phases=(LoadPhase(name="map", seconds=2.0),),
)  # fmt: skip


class Line:
    def __init__(self, worker: str = "w") -> None:
        self.worker, self.owner = worker, f"{worker}:1"

    def send(self, frame: Frame) -> None:
        pass


def status(state: str, **more: object) -> WorkerStatus:
    return WorkerStatus(name="w", pid=1, state=state, **more)  # type: ignore[arg-type]


def observer(**settings: object) -> tuple[Observe, list[Row]]:
    fleet = Fleet()
    fleet.hello(Line(), 1, CARD)
    observe = Observe(ObserveConfig(**settings), fleet)  # type: ignore[arg-type]
    rows: list[Row] = []
    observe.on_row.append(rows.append)
    return observe, rows


def inbox(observe: Observe, *, call: Call | None = None, tokens: int = 3, lasting: bool = False) -> Inbox:
    request = Request(id="r", model="m", kind="text", received_unix_s=time.time(), keep=lasting)
    made = Inbox((request,), lasting=lasting)
    made.begun("r", Line(), 1)
    made.live, made.queued_ms, made.call = observe.live_of("w"), 2.0, call
    if call is not None:
        call.inbox, call.status, call.route = made, 200, "/v1/completions"
    for i in range(tokens):
        made.push(Chunk("r", 0, i, 1, f"word{i} "))
        made.first_s = made.first_s or made.heard_s
    return made


def end(made: Inbox, tokens: int = 3, finish: str = "stop") -> None:
    usage = Usage(prompt_tokens=5, completion_tokens=tokens)
    made.push(Chunk("r", 0, tokens, 0, "", finish=finish, usage=usage))  # type: ignore[arg-type]


# ---- workers -------------------------------------------------------------------------------------


def test_a_death_a_failed_load_and_a_hang_are_told_once() -> None:
    fleet = Fleet()
    changes = Changes(fleet)
    fleet.supervised([status("ready")])
    assert changes.look(0.0) == []
    fleet.supervised([status("dead", restarts=1, last_error="w was killed.")])
    (died,) = changes.look(1.0)
    assert (died.kind, died.worker, died.why) == ("died", "w", "w was killed.")
    fleet.supervised([status("loading", restarts=1, last_error="w was killed.")])
    assert changes.look(2.0) == []
    fleet.supervised([status("dead", restarts=2, last_error="No such file.")])
    (failed,) = changes.look(3.0)
    assert failed.kind == "load_failed"
    slot = changes.into(Slot(begin_unix_s=0.0))
    assert (slot.restarts, slot.deaths, slot.load_failures) == (2, {"w": 2}, {"w": "No such file."})
    assert changes.into(Slot(begin_unix_s=0.0)).restarts == 0
    fleet.supervised([status("hung", restarts=2)])
    assert [event.kind for event in changes.look(4.0)] == ["hung"]
    assert changes.look(5.0) == []


def test_a_load_is_timed_in_the_slot_it_ends_in_and_not_by_a_later_gateway() -> None:
    fleet = Fleet()
    changes = Changes(fleet)
    fleet.hello(Line(), 1, None)
    changes.look(0.0)
    fleet.status("w", status("ready"), CARD)
    changes.look(1.0)
    assert changes.into(Slot(begin_unix_s=0.0)).load_s == {"w": {"map": 2.0}}
    later = Fleet()
    later.hello(Line(), 1, CARD)
    other = Changes(later)
    other.look(0.0)
    assert other.into(Slot(begin_unix_s=0.0)).load_s == {}


def test_time_without_a_worker_that_was_ready_is_what_its_death_cost() -> None:
    fleet = Fleet()
    changes = Changes(fleet)
    for state in ("loading", "ready", "dead", "loading", "ready"):
        fleet.supervised([status(state)])
        changes.look(0.0)
        changes.into(Slot(begin_unix_s=0.0, seconds=10.0))
    assert changes.down_s == {"w": 20.0}


# ---- rows ----------------------------------------------------------------------------------------


def test_an_answer_has_one_row_when_its_client_has_it() -> None:
    observe, rows = observer(slo="p99 e2e < 10s, p99 itl < 5s")
    call = Call("req_1")
    made = inbox(observe, call=call)
    end(made)
    observe.ended(made)
    assert not rows  # its client still has to get it
    observe.left(call)
    observe.left(call)
    observe.ended(made)
    (row,) = rows
    assert (row.outcome, row.route, row.completion_tokens, row.prompt_tokens, row.good) == (
        "ok",
        "/v1/completions",
        3,
        5,
        True,
    )
    assert row.variant == "m@abc/q8_0/sim" == variant_of(CARD)
    assert row.queue_ms == pytest.approx(2.0)
    assert observe.timeline.open().parts[row.variant].sketches["itl"].count == 2


def test_a_background_answer_has_its_row_without_anybody() -> None:
    observe, rows = observer()
    made = inbox(observe, lasting=True)
    end(made)
    observe.ended(made)
    assert [(row.outcome, row.background, row.good) for row in rows] == [("ok", True, True)]
    part = observe.timeline.open().parts[rows[0].variant]
    assert (part.ok, part.useful_tokens) == (1, 3)
    assert "e2e" not in part.sketches  # nobody waited for it


def test_a_vanished_client_that_may_come_back_leaves_no_row_yet() -> None:
    observe, rows = observer()
    call = Call("req_1")
    made = inbox(observe, call=call)
    made.resumable_s, call.status = 10.0, 499
    observe.left(call)
    assert not rows
    end(made)
    observe.ended(made)
    assert [(row.outcome, row.status) for row in rows] == [("ok", 200)]


@pytest.mark.parametrize(
    ("error", "outcome", "status"),
    [
        (PromptTooLong("long"), "refused", 400),
        (EngineFailed("broke"), "failed", 500),
        (DeadlinePassed("late"), "expired", 504),
        (Unavailable("gone"), "failed", 503),
    ],
)
def test_a_failure_is_whose_it_is(error: FreeholdError, outcome: str, status: int) -> None:
    observe, rows = observer()
    call = Call("req_1")
    made = inbox(observe, call=call, tokens=0)
    made.push(failed_chunk("r", error.failure()))
    call.status = error.status
    observe.left(call)
    assert [(row.outcome, row.status, row.code) for row in rows] == [(outcome, status, error.code)]


def test_a_refusal_is_of_its_models_variant_and_other_routes_have_no_rows() -> None:
    observe, rows = observer()
    call = Call("req_1")
    call.route, call.model, call.status, call.code = "/generate", "m", 429, "overloaded"
    observe.left(call)
    other = Call("req_2")
    other.route, other.status = "/v1/models/{id:path}", 404
    observe.left(other)
    assert [(row.outcome, row.code, row.variant) for row in rows] == [("refused", "overloaded", variant_of(CARD))]


def test_a_loop_is_seen_and_a_runaway_told_at_once() -> None:
    observe, rows = observer()
    events: list[Event] = []
    observe.on_event.append(events.append)
    call = Call("req_1")
    made = inbox(observe, call=call, tokens=0)
    for i in range(90):
        made.push(Chunk("r", 0, i, 1, "I am sorry. "))
    made.capped = True
    end(made, 90, "length")
    observe.left(call)
    assert (rows[0].looped, rows[0].runaway) == (True, True)
    assert [(event.kind, event.request) for event in events] == [("runaway", "r")]


def test_a_listener_that_breaks_costs_nobody() -> None:
    observe, rows = observer()

    def breaks(_: object) -> None:
        raise ValueError("a bug")

    observe.on_row.insert(0, breaks)
    observe.on_slot.append(breaks)
    made = inbox(observe, lasting=True)
    end(made)
    observe.ended(made)
    asyncio.run(observe.stop())
    assert len(rows) == len(observe.slots) == 1


def test_nothing_is_recorded_when_it_is_off() -> None:
    observe, rows = observer(recording="off")
    made = inbox(observe, lasting=True)
    end(made)
    observe.ended(made)
    asyncio.run(observe.stop())
    assert made.live is None
    assert not rows
    assert not observe.slots


def test_slots_close_in_time_and_carry_what_they_cost() -> None:
    clock = VirtualClock(1_000_000.0)
    fleet = Fleet()
    fleet.hello(Line(), 1, CARD)
    observe = Observe(ObserveConfig(price_per_hour_usd=36.0), fleet, clock=clock)
    told: list[Slot] = []
    observe.on_slot.append(told.append)
    for _ in range(25):
        clock.sleep(1.0)
        observe.turn()
    assert [slot.begin_unix_s for slot in told] == [1_000_000.0, 1_000_010.0]
    assert [slot.cost_usd for slot in told] == [pytest.approx(0.1)] * 2
    assert told[0].parts[variant_of(CARD)].batch_limit == 4


def test_steps_are_counted_by_one_gateway_alone() -> None:
    from freehold.core import StepRecord
    from freehold.worker.steplog import StepLog

    observe, _ = observer()
    log = StepLog()
    log._fresh.add(StepRecord(0, 1, 10, 1, 5.0, None))
    log._fresh.add(StepRecord(20, 2, 40, 2, 15.0, 0.1))
    card = msgspec.structs.replace(CARD, weight_bytes=1000, kv_bytes_per_token=2)
    sums = log.fresh(card)
    assert log.fresh(card) is None
    frame = Status(status("busy"), steps=sums)
    observe.told("w", frame)
    observe.retiring = True
    observe.told("w", frame)
    part = observe.timeline.open().parts[variant_of(CARD)]
    assert (part.steps, part.step_tokens, part.step_running, part.lone_tokens) == (2, 3, 3, 1)
    assert part.bytes_read == 2 * 1000 + 50 * 2
    assert part.step_s == pytest.approx(0.020)


@pytest.mark.parametrize(
    ("card", "variant"),
    [
        ({"revision": "", "source": "the built-in starter"}, "m/q8_0/sim"),
        ({"revision": "", "source": "org/other-model"}, "m@other-model/q8_0/sim"),
        ({"revision": "", "source": "/models/m"}, "m/q8_0/sim"),
        ({"quantization": ""}, "m@abc/sim"),
        ({"revision": "0123456789ab" + "c" * 28}, "m@0123456789ab/q8_0/sim"),
    ],
)
def test_variants_say_what_runs(card: dict[str, str], variant: str) -> None:
    assert variant_of(msgspec.structs.replace(CARD, **card)) == variant


# ---- after a crash -------------------------------------------------------------------------------


def test_requests_that_ended_without_a_gateway_get_their_rows(tmp_path: Path) -> None:
    path, now_s = tmp_path / "ledger.sqlite", time.time()
    ledger = SqliteLedger(path)
    for id in ("seen", "unseen", "open"):
        ledger.accept([Request(id=id, model="m", kind="text", prompt="x", received_unix_s=now_s - 60, keep=True)])
    result = Result(
        answers=(Answer(text="y"),), usage=Usage(prompt_tokens=3, completion_tokens=5), worker="w", queued_ms=2.0,
        first_token_ms=7.0, total_ms=20.0,
    )  # fmt: skip
    for claim in ledger.claim("w:7", 2, "m"):
        assert ledger.finish(claim.request.id, claim.attempt, result)
    ledger.close()
    history = History(tmp_path / "history.sqlite", 1.0, 1 << 30)
    history.add([Row(id="seen", route="/generate", model="m", variant="m", tenant="t", outcome="ok",
                     received_unix_s=now_s - 60)])  # fmt: skip
    until_written(history)

    async def rebuilt() -> int:
        jobs = AsyncLedger(lambda: SqliteLedger(path))
        await jobs.start()
        try:
            return await rebuild(jobs, history, now_s + 30.0)
        finally:
            await jobs.close()

    assert asyncio.run(rebuilt()) == 1
    history.close()
    row = next(read_rows(history.path, RowFilter(id="unseen")))
    assert (row.outcome, row.completion_tokens, row.attempts, row.worker) == ("ok", 5, 1, "w")
    assert row.queue_ms == pytest.approx(2.0)
    assert row.accepted_ms is not None
    assert row.delivered_ms == pytest.approx(row.accepted_ms + 20.0)


def until_written(history: History) -> None:
    end_s = time.monotonic() + 20.0
    while not history.path.exists() or not list(read_rows(history.path, RowFilter())):
        assert time.monotonic() < end_s
        time.sleep(0.05)
