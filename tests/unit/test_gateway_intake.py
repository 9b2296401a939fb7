"""What the gateway learns of pace and lengths, and whom it lets in by it."""

from __future__ import annotations

import time

import pytest

from freehold.core import CardPace, Chunk, ModelCard, Request, Sampling, Usage, WorkerStatus
from freehold.errors import DeadlineUnmeetable, Forbidden, InvalidRequest, KeyLimited, Overloaded, RequestError
from freehold.gateway.auth import LOCAL, Key
from freehold.gateway.call import Call
from freehold.gateway.errors import error_headers
from freehold.gateway.fleet import Fleet
from freehold.gateway.intake import Intake
from freehold.gateway.lengths import Lengths
from freehold.gateway.pace import WorkerPace, together
from freehold.gateway.terms import set_terms
from freehold.pipe import Frame
from freehold.settings import ServerConfig
from freehold.telemetry.metrics import Metrics

PROFILED = CardPace(step_ms=20.0, lone_step_ms=10.0, prefill_ms_per_token=0.0)


def card(places: int = 4, pace: CardPace | None = PROFILED, engine: str = "sim") -> ModelCard:
    return ModelCard(name="m", engine=engine, source="s", context_tokens=4096, max_batch=places, pace=pace)


class Wire:
    """A worker's line that goes nowhere."""

    worker = "worker-1"
    owner = "worker-1:7"

    def send(self, frame: Frame) -> None: ...


def intake(*, keys: dict[str, Key] | None = None, loaded: ModelCard | None = None, **server: object) -> Intake:
    fleet = Fleet()
    fleet.hello(Wire(), 7, loaded or card())
    fleet.status("worker-1", WorkerStatus(name="worker-1", pid=7, state="ready"), None)
    settings = ServerConfig(**server)  # type: ignore[arg-type]
    return Intake(fleet, settings, Metrics(), lambda id: 0.0, lambda tenant: (keys or {}).get(tenant, LOCAL))


def request(id: str, tokens: int | None = 50, due_in_s: float | None = None, tenant: str = "local") -> Request:
    due = None if due_in_s is None else time.time() + due_in_s
    sampling = Sampling(max_tokens=tokens, ignore_eos=tokens is not None)
    return Request(
        id=id, model="m", kind="text", prompt=f"prompt {id}", sampling=sampling, deadline_unix_s=due, tenant=tenant
    )


# ---- pace ----------------------------------------------------------------------------------------


def play(pace: WorkerPace, running: int, step_s: float, steps: int, *, waits: bool = True) -> None:
    pace.begun(running, 0, 0.0)
    for step in range(steps):
        pace.stepped(running, step * step_s, queue_waits=waits)
    pace.ended(running)


def test_a_profile_is_the_first_word_and_work_the_better_one() -> None:
    pace = WorkerPace(card())
    assert (pace.step_s, pace.lone_step_s) == (0.02, 0.01)
    play(pace, 4, 0.05, 100)
    assert pace.step_s == pytest.approx(0.05)
    play(pace, 1, 0.03, 100, waits=False)
    assert (pace.step_s, pace.lone_step_s) == pytest.approx((0.05, 0.03))


def test_without_a_profile_a_half_full_batch_is_better_than_nothing() -> None:
    pace = WorkerPace(card(pace=None))
    assert together([pace]).step_s == 0.0
    play(pace, 2, 0.04, 50, waits=False)
    assert pace.step_s == pytest.approx(0.04)
    play(pace, 4, 0.06, 50)
    assert pace.step_s == pytest.approx(0.06)


def test_engines_that_hide_their_steps_are_measured_by_their_tokens() -> None:
    pace = WorkerPace(card(pace=None))
    pace.begun(4, 0, 0.0)
    for number in range(40):
        pace.stepped(8, number * 0.1, queue_waits=True)  # two steps in each frame
    assert pace.step_s == pytest.approx(0.05)


def test_a_pause_is_no_slow_step() -> None:
    pace = WorkerPace(card())
    play(pace, 4, 0.02, 50)
    pace.begun(4, 0, 0.0)
    pace.stepped(4, 1000.0, queue_waits=True)
    pace.stepped(4, 1060.0, queue_waits=True)
    assert pace.step_s == pytest.approx(0.02)


def test_reading_prompts_is_not_counted_twice() -> None:
    told = CardPace(step_ms=20.0, lone_step_ms=20.0, prefill_ms_per_token=1.0)
    pace = WorkerPace(card(pace=told))
    pace.begun(4, 0, 0.0)
    pace.stepped(4, 0.0, queue_waits=True)
    pace.begun(0, 100, 0.0)
    for step in range(1, 10):
        pace.stepped(4, step * 0.02 + 0.1, queue_waits=True)
    assert pace.step_s == pytest.approx(0.02, rel=0.2)
    assert pace.stretch > 1.0


# ---- lengths -------------------------------------------------------------------------------------


def test_lengths_are_learnt_by_key_and_limit() -> None:
    lengths, asked = Lengths(), request("a", None)
    assert lengths.answer_tokens(asked) == (512, 512)
    for _ in range(100):
        lengths.learn(asked, Usage(prompt_tokens=16, completion_tokens=30))
    mean, most = lengths.answer_tokens(asked)
    assert mean == pytest.approx(30, abs=1)
    assert 30 <= most < 60
    assert lengths.answer_tokens(request("b", None, tenant="other")) == (512, 512)
    assert lengths.prompt_tokens(asked) == pytest.approx(16, rel=0.1)
    assert lengths.answer_tokens(request("c", 20)) == (20, 20)


# ---- who is let in -------------------------------------------------------------------------------


def test_what_runs_and_waits_is_in_the_way() -> None:
    gate = intake()
    for number in range(12):
        (one,) = gate.admit([request(str(number))])
        if number < 4:
            gate.begun(one.id, Wire(), 0.0)
    with pytest.raises(DeadlineUnmeetable) as caught:  # 12 x 50 tokens at 200 a second before it, a second for itself
        gate.admit([request("urgent but late", due_in_s=1.5)])
    assert caught.value.retry_after_s is not None
    assert 0 < caught.value.retry_after_s < 3
    for number in range(12):
        gate.left(str(number))
    assert gate.admit([request("now", due_in_s=1.5)])


def test_the_same_request_again_finds_the_place_that_was_kept() -> None:
    gate, now_s = intake(max_queue=2), 100.0
    gate.admit([request("a")], now_s)
    gate.admit([request("b")], now_s)
    with pytest.raises(Overloaded) as caught:
        gate.admit([request("c")], now_s)
    assert caught.value.retry_after_s is not None
    back_s = now_s + caught.value.retry_after_s
    gate.begun("a", Wire(), 0.0)
    with pytest.raises(Overloaded):
        gate.admit([request("d")], back_s)  # not his place
    again = Request(id="c2", model="m", kind="text", prompt="prompt c", sampling=request("c").sampling)
    assert gate.admit([again], back_s)


def test_a_refusal_says_when_in_the_words_clients_know() -> None:
    gate = intake(max_queue=0)
    with pytest.raises(Overloaded) as caught:
        gate.admit([request("x")])
    headers = dict(error_headers(caught.value, b""))
    assert int(headers[b"retry-after"]) * 1000 >= int(headers[b"retry-after-ms"]) > 0
    assert headers[b"x-should-retry"] == b"true"
    caught.value.retry_after_s = 90.0
    assert dict(error_headers(caught.value, b""))[b"x-should-retry"] == b"false"


def test_a_key_has_its_own_limit() -> None:
    gate = intake(keys={"k": Key(id="k", name="k", sha256="", last4="", created_unix_s=0, max_queued=1)})
    gate.admit([request("a", tenant="k")])
    with pytest.raises(KeyLimited):
        gate.admit([request("b", tenant="k")])
    gate.admit([request("c")])
    gate.begun("a", Wire(), 0.0)
    gate.admit([request("d", tenant="k")])
    gate.requeued("a")
    with pytest.raises(KeyLimited):
        gate.admit([request("e", tenant="k")])


def test_off_is_off() -> None:
    gate = intake(admission="off", max_queue=3)
    for number in range(3):
        gate.admit([request(str(number), due_in_s=0.001)])
    with pytest.raises(Overloaded):
        gate.admit([request("full")])


@pytest.mark.parametrize(("engine", "capped"), [("sim", 1000), ("remote", None)])
def test_an_answer_without_a_limit_gets_one(engine: str, capped: int | None) -> None:
    gate = intake(loaded=card(engine=engine), default_max_tokens=1000)
    (asked,) = gate.admit([request("a", None)])
    assert asked.sampling.max_tokens == capped
    gate.answered(asked, Chunk("a", 0, 0, 0, "", finish="length", usage=Usage(completion_tokens=1000)))
    text = gate.metrics.text(queued=0, running=0, worker_states=[])
    assert (b'freehold_runaway_answers_total{model="m"} 1.0' in text) is (capped is not None)


# ---- terms ---------------------------------------------------------------------------------------

VIP = Key(id="v", name="v", sha256="", last4="", created_unix_s=0, priority=-5, deadline_ms=700)


def terms(key: Key, **headers: str) -> Call:
    call = Call("req_1")
    set_terms(
        call,
        key,
        [(f"x-freehold-{name.replace('_', '-')}".encode(), value.encode()) for name, value in headers.items()],
    )
    return call


def test_a_key_gives_the_terms_that_headers_leave_open() -> None:
    call = terms(VIP)
    assert call.deadline_unix_s is not None
    assert (call.tenant, call.priority, call.deadline_unix_s - call.received_unix_s) == ("v", -5, pytest.approx(0.7))
    call = terms(VIP, deadline_ms="2500", priority="3")
    assert call.deadline_unix_s is not None
    assert (call.priority, call.deadline_unix_s - call.received_unix_s) == (3, pytest.approx(2.5))
    assert (terms(LOCAL).deadline_unix_s, terms(LOCAL, priority="-100").priority) == (None, -100)


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"priority": "-6"}, Forbidden), ({"priority": "x"}, InvalidRequest), ({"priority": "101"}, InvalidRequest),
        ({"deadline_ms": "0"}, InvalidRequest), ({"deadline_ms": "9" * 30}, InvalidRequest),
    ],
)  # fmt: skip
def test_terms_that_nobody_can_have(headers: dict[str, str], error: type[RequestError]) -> None:
    with pytest.raises(error):
        terms(VIP, **headers)
