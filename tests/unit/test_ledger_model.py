"""Both ledgers against one plain model of them: random calls from two connections, the same answers from each."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace

from freehold import order
from freehold.clock import VirtualClock
from freehold.core import Answer, Chunk, Request, Result, Sampling, Usage
from freehold.errors import Conflict
from freehold.ledger import rows
from freehold.ledger.protocol import ALL_LOTS, FORGET_S, KEY_S, LEASE_S, MAX_DEATHS, Ended, Ledger, LetGo, Progress
from freehold.ledger.redis import SILENCE_S, RedisLedger
from freehold.ledger.sqlite import SqliteLedger
from redis_server import RedisServer

OWNERS = ("worker-1:10", "worker-1:11", "worker-2:20")
MODELS = ("m", "m", "m", "o")
ids = st.integers(0, 30).map(lambda number: f"r{number}")
asked = st.fixed_dictionaries(
    {
        "id": ids,
        "model": st.sampled_from(MODELS),
        "priority": st.sampled_from((0, 0, 0, 0, 0, 0, -1)),
        "deadline_unix_s": st.sampled_from((None, None, None, None, 990.0, 1010.0, 1020.0, 1200.0)),
        "keep": st.booleans(),
        "n": st.integers(1, 3),
        "tenant": st.sampled_from(("a", "b", "c")),
        "sampling": st.integers(1, 60).map(lambda tokens: Sampling(max_tokens=tokens)),
        "idempotency_key": st.sampled_from((None, None, None, None, None, "k", "l")),
        "fingerprint": st.sampled_from(("f", "f", "f", "g")),
    }
)


@dataclass
class Row:
    request: Request
    arrival: int
    tag: int
    accepted_s: float
    state: str = "queued"
    attempt: int = 0
    worker: str = ""
    cancel_asked: int = 0
    deaths: int = 0
    delivered: bool = False
    poisoned: bool = False
    result: Result | None = None
    ended_s: float = 0.0
    body: bool = True
    chunks: list[Chunk] = field(default_factory=list)
    tops: dict[int, int] = field(default_factory=dict)

    @property
    def lane(self) -> tuple[str, int]:
        return self.request.model, self.request.priority

    @property
    def share(self) -> tuple[str, int, str]:
        return (*self.lane, self.request.tenant)

    def append(self, chunks: list[Chunk]) -> None:
        new, self.tops = rows.beyond(self.tops, chunks)
        self.chunks += new

    def forget(self) -> None:
        self.delivered = True
        self.chunks = []
        if not self.request.keep:
            self.body = False


@dataclass
class Model:
    rows: dict[str, Row] = field(default_factory=dict)
    keys: dict[tuple[str, str], tuple[str, str, float]] = field(default_factory=dict)
    virtual: dict[tuple[str, int], int] = field(default_factory=dict)
    finish: dict[tuple[str, int, str], int] = field(default_factory=dict)
    until_s: dict[str, float] = field(default_factory=dict)
    arrivals: int = 0
    notes: dict[str, tuple[float, bytes]] = field(default_factory=dict)
    asked_s: float | None = None
    """When somebody last asked for late owners."""

    def of(self, state: str) -> list[Row]:
        found = [row for row in self.rows.values() if row.state == state]
        return sorted(found, key=lambda row: row.arrival)

    def known(self, request: Request, now: float) -> tuple[str, str] | None:
        id, fingerprint, until = self.keys.get((request.tenant, request.idempotency_key or ""), ("", "", 0.0))
        return (id, fingerprint) if id in self.rows and until > now else None


class LedgerMachine(RuleBasedStateMachine):
    claims = Bundle("claims")

    def __init__(self, open: Callable[[VirtualClock], tuple[Ledger, Ledger]], silence: bool) -> None:
        super().__init__()
        self.clock = VirtualClock(1000.0)
        self.ledgers = open(self.clock)
        self.silence = silence
        """Leases begin anew after a silence: the server may have been away."""
        self.model = Model()
        self.turn = 0

    @property
    def ledger(self) -> Ledger:
        """Each call from another connection than the one before."""
        self.turn += 1
        return self.ledgers[self.turn % 2]

    def teardown(self) -> None:
        for ledger in self.ledgers:
            ledger.close()

    def end(self, row: Row, result: Result | None) -> None:
        row.state, row.result, row.ended_s = "done", result, self.clock.unix_s()
        if row.delivered:
            row.forget()

    def settle(self, row: Row, took: int) -> None:
        before = self.model.finish.get(row.share, 0)
        self.model.finish[row.share] = order.settled(before, order.cost_tokens(row.request), took)

    def learn_result(self, row: Row) -> Result:
        found = self.ledger.fetch(row.request.id)
        assert found is not None
        assert found.result is not None
        row.result = found.result
        return found.result

    @initialize(
        target=claims,
        new=st.lists(asked, min_size=4, max_size=8, unique_by=lambda one: one["id"]),
        limit=st.integers(2, 8),
    )
    def begin(self, new: list[dict[str, object]], limit: int) -> object:
        """Most calls are worth something only where something lies and runs."""
        self.accept([{**one, "idempotency_key": None} for one in new])
        return self.claim(OWNERS[0], limit, MODELS[0], ALL_LOTS)

    # ---- in ----

    @rule(new=st.lists(asked, min_size=1, max_size=4))
    def accept(self, new: list[dict[str, object]]) -> None:
        requests = [Request(kind="text", prompt=f"p{one['id']}", **one) for one in new]  # type: ignore[arg-type]
        now = self.clock.unix_s()
        expected: list[str] = []
        fresh: dict[str, Request] = {}
        keys: dict[tuple[str, str], tuple[str, str]] = {}
        for request in requests:
            key = (request.tenant, request.idempotency_key or "")
            known = (keys.get(key) or self.model.known(request, now)) if request.idempotency_key else None
            if known is not None and known[1] == request.fingerprint:
                expected.append(known[0])
            elif known is not None or request.id in self.model.rows or request.id in fresh:
                with pytest.raises(Conflict):
                    self.ledger.accept(requests)
                return
            else:
                fresh[request.id] = request
                expected.append(request.id)
                if request.idempotency_key:
                    keys[key] = (request.id, request.fingerprint)
        seen: list[int] = []
        assert self.ledger.accept(requests, lambda: seen.append(1)) == expected
        assert seen == [1]
        for request in fresh.values():
            self.model.arrivals += 1
            share = (request.model, request.priority, request.tenant)
            tag = order.tag_tokens(self.model.virtual.get(share[:2], 0), self.model.finish.get(share, 0))
            self.model.finish[share] = tag + order.cost_tokens(request)
            self.model.rows[request.id] = Row(request, self.model.arrivals, tag, now)
        for key, (id, fingerprint) in keys.items():
            self.model.keys[key] = (id, fingerprint, now + KEY_S)

    # ---- to a worker ----

    @rule(
        target=claims, owner=st.sampled_from(OWNERS), limit=st.integers(0, 6), model=st.sampled_from(MODELS),
        lots=st.sampled_from(((0, 100), (0, 100), (0, 50), (50, 100))),
    )  # fmt: skip
    def claim(self, owner: str, limit: int, model: str, lots: tuple[int, int]) -> object:
        now = self.clock.unix_s()
        waiting = [
            row for row in self.model.of("queued")
            if row.request.model == model
            and not order.overdue(row.request, now)
            and lots[0] <= rows.lot(row.request.id) < lots[1]
        ]  # fmt: skip
        waiting.sort(key=lambda row: order.key(row.request, row.arrival, row.tag))
        expected = waiting[: order.take([row.request.n for row in waiting], limit)]
        got = self.ledger.claim(owner, limit, model, lots)
        assert [claim.request for claim in got] == [row.request for row in expected]
        for row, claim in zip(expected, got, strict=True):
            row.state, row.worker, row.attempt = "running", owner, row.attempt + 1
            assert claim.attempt == row.attempt
            assert claim.queued_ms == pytest.approx((now - row.accepted_s) * 1000)
            assert list(claim.given) == row.chunks
        if expected:
            self.model.until_s[owner] = max(self.model.until_s.get(owner, 0.0), now + LEASE_S)
        for lane in {row.lane for row in expected}:
            tags = [
                row.tag for row in self.model.of("queued") if row.lane == lane and row.request.deadline_unix_s is None
            ]
            served = [(row.tag, row.request.deadline_unix_s is not None) for row in expected if row.lane == lane]
            before = self.model.virtual.get(lane, 0)
            self.model.virtual[lane] = order.advanced(before, served, min(tags, default=None))
        return multiple(*[(claim.request.id, claim.attempt) for claim in got])

    @rule(owner=st.sampled_from(OWNERS), lease_s=st.sampled_from((LEASE_S, 4 * LEASE_S)))
    def renew(self, owner: str, lease_s: float) -> None:
        self.ledger.renew(owner, lease_s)
        self.model.until_s[owner] = self.clock.unix_s() + lease_s

    @rule(
        running=st.lists(claims, max_size=3), choice=st.integers(0, 2), repeat=st.booleans(),
        tokens=st.integers(1, 3), ends=st.booleans(),
    )  # fmt: skip
    def checkpoint(self, running: list[tuple[str, int]], choice: int, repeat: bool, tokens: int, ends: bool) -> None:
        """What goes on where it stood, once or twice, or begins anew."""
        parts, expected = [], []
        for id, attempt in running:
            row = self.model.rows.get(id)
            chunks = self.more(row, id, choice, tokens, ends) if row is not None else []
            parts.append(Progress(id, attempt, [*chunks, *chunks] if repeat else chunks))
            held = row is not None and row.state == "running" and row.attempt == attempt
            expected.append(held)
            if row is not None and held:
                row.append(chunks)
        assert self.ledger.checkpoint(parts) == expected

    def more(self, row: Row, id: str, choice: int, tokens: int, ends: bool) -> list[Chunk]:
        choice %= row.request.n
        top = max(0, row.tops.get(choice, 0))
        usage = Usage(prompt_tokens=2, completion_tokens=top + tokens)
        told = Chunk(id, choice, top, tokens, f"{choice}.{top} ", ids=tuple(range(tokens)))
        return [told, Chunk(id, choice, top + tokens, 0, "", None, "stop", usage)] if ends else [told]

    @rule(ended=st.lists(consumes(claims), max_size=3, unique=True), text=st.text(max_size=5), took=st.integers(0, 90))
    def finish(self, ended: list[tuple[str, int]], text: str, took: int) -> None:
        result = Result(answers=(Answer(text=text),), usage=Usage(completion_tokens=took))
        expected, told = [], []
        for id, attempt in ended:
            row = self.model.rows.get(id)
            expected.append(row is not None and row.state == "running" and row.attempt == attempt)
            chunks = self.more(row, id, 0, 2, True) if row is not None else []
            told.append(Ended(id, attempt, result, chunks))
            if row is not None and expected[-1]:
                row.append(chunks)
                self.settle(row, order.took_tokens(result.usage))
                self.end(row, result)
        assert self.ledger.finish_all(told) == expected

    @rule(some=st.lists(ids, max_size=6))
    def delivered(self, some: list[str]) -> None:
        self.ledger.delivered(some)
        for row in [self.model.rows[id] for id in some if id in self.model.rows]:
            if row.state == "done" and not row.delivered:
                row.forget()
            row.delivered = row.delivered or row.state == "running"

    # ---- out of the order ----

    @rule(id=ids)
    def cancel(self, id: str) -> None:
        row = self.model.rows.get(id)
        assert self.ledger.cancel(id) == (row.state if row else None)
        if row is None or row.state == "done":
            return
        row.cancel_asked = 1
        if row.state == "queued":
            self.settle(row, 0)
            self.end(row, None)
            row.forget()
            assert self.learn_result(row).cancelled

    @rule(some=st.lists(ids, unique=True, max_size=6), owner=st.sampled_from(OWNERS))
    def cancelled(self, some: list[str], owner: str) -> None:
        expected = {}
        for id in some:
            row = self.model.rows.get(id)
            if row is None or row.state != "running" or row.worker != owner:
                expected[id] = "lost"
            elif row.cancel_asked:
                expected[id] = "overdue" if row.cancel_asked == 2 else "cancelled"
        assert self.ledger.cancelled(owner, some) == expected

    @rule(owner=st.sampled_from(OWNERS), more=st.booleans(), ends=st.booleans(), well=st.booleans())
    def let_go(self, owner: str, more: bool, ends: bool, well: bool) -> None:
        """The gateway may have seen more than was checkpointed, and also of claims that are others' by now."""
        seen = []
        for row in self.model.of("running"):
            if more and row.worker == owner:
                chunks = self.more(row, row.request.id, 0, 1, ends)
                seen.append(Progress(row.request.id, row.attempt, [*row.chunks, *chunks]))
                row.append(chunks)
            elif more:
                seen.append(Progress(row.request.id, row.attempt, self.more(row, row.request.id, 0, 1, ends)))
        got = self.ledger.give_back(owner, seen) if well else self.ledger.abandon(owner, seen)
        self.check_let_go(owner, got, 0 if well else 1)

    @rule()
    def reap(self) -> None:
        now = self.clock.unix_s()
        late = [owner for owner in OWNERS if self.model.until_s.get(owner, math.inf) <= now]
        silent = self.silence and self.model.asked_s is not None and now - self.model.asked_s > SILENCE_S
        self.model.asked_s = now
        got = self.ledger.reap()
        if silent:
            assert got == {}
            self.model.until_s |= dict.fromkeys(late, now + LEASE_S)
            return
        holding = {row.worker for row in self.model.of("running")}
        assert set(got) == holding.intersection(late)
        for owner in got:
            self.check_let_go(owner, got[owner], 1)
        for owner in late:
            self.model.until_s.pop(owner, None)

    def check_let_go(self, owner: str, got: LetGo, deaths: int) -> None:
        requeued, poisoned, ended = [], [], []
        for row in [row for row in self.model.of("running") if row.worker == owner]:
            whole = rows.complete(row.tops, row.request.n)
            if whole:
                chunks = list(row.chunks)
                self.end(row, None)
                result = self.learn_result(row)
                assert (result.cancelled, result.failure) == (False, None)
                texts = ["".join(c.text for c in chunks if c.choice == choice) for choice in range(row.request.n)]
                assert [answer.text for answer in result.answers] == texts
                assert [answer.finish for answer in result.answers] == ["stop"] * row.request.n
                self.settle(row, order.took_tokens(result.usage))
                ended.append(row.request.id)
            elif row.cancel_asked or row.delivered:
                self.end(row, None)
                result = self.learn_result(row)
                assert result.cancelled == (row.cancel_asked == 1)
                assert (result.failure is not None) == (row.cancel_asked == 2)
                ended.append(row.request.id)
            elif row.deaths + deaths >= MAX_DEATHS:
                row.deaths, row.poisoned = row.deaths + deaths, True
                row.request = replace(row.request, keep=True)
                self.end(row, None)
                failure = self.learn_result(row).failure
                assert failure is not None
                assert (failure.code, f"tried {row.deaths} times" in failure.why) == ("poisoned", True)
                poisoned.append(row.request.id)
            else:
                row.deaths += deaths
                row.state, row.worker = "queued", ""
                requeued.append(row.request.id)
        assert got == LetGo(requeued, poisoned, got.ended)
        assert sorted(got.ended) == sorted(ended)
        self.model.until_s.pop(owner, None)

    @rule()
    def expire(self) -> None:
        now = self.clock.unix_s()
        late = [row for row in self.model.of("queued") if order.overdue(row.request, now)]
        assert sorted(self.ledger.expire()) == sorted(row.request.id for row in late)
        for row in late:
            if row.attempt == 0:
                self.settle(row, 0)
            self.end(row, None)
            failure = self.learn_result(row).failure
            assert failure is not None
            assert failure.code == "deadline_passed"
        for row in self.model.of("running"):
            if order.overdue(row.request, now) and not row.cancel_asked:
                row.cancel_asked = 2

    # ---- seen from outside ----

    @rule(id=ids, meta=st.dictionaries(st.text(max_size=3), st.integers(-9, 9), max_size=2))
    def annotate(self, id: str, meta: dict[str, int]) -> None:
        row = self.model.rows.get(id)
        assert self.ledger.annotate(id, dict(meta)) == (row is not None)
        if row is not None:
            row.request = replace(row.request, meta=meta)

    @rule(id=ids)
    def delete(self, id: str) -> None:
        row = self.model.rows.get(id)
        gone = row is not None and row.state == "done"
        assert self.ledger.delete(id) == gone
        if gone:
            del self.model.rows[id]

    @rule(seconds=st.sampled_from((0.5, 4.0, 30.0, FORGET_S + 1, KEY_S)))
    def time_passes(self, seconds: float) -> None:
        self.clock.sleep(seconds)

    @rule(older_than_s=st.sampled_from((0.0, 100.0, 10 * FORGET_S)))
    def sweep(self, older_than_s: float) -> None:
        now = self.clock.unix_s()
        others_before = now - min(older_than_s, FORGET_S)
        self.model.keys = {key: value for key, value in self.model.keys.items() if value[2] > now}
        keyed = {id for id, *_ in self.model.keys.values()}
        old = [
            row.request.id for row in self.model.of("done")
            if row.ended_s < (now - older_than_s if row.request.keep else others_before)
            and row.request.id not in keyed
        ]  # fmt: skip
        assert self.ledger.sweep(older_than_s) == len(old)
        for id in old:
            del self.model.rows[id]
        for row in self.model.of("done"):
            if not row.delivered and row.ended_s < others_before:
                row.forget()

    @rule(id=ids)
    def fetch(self, id: str) -> None:
        row, found = self.model.rows.get(id), self.ledger.fetch(id)
        assert (found is None) == (row is None)
        if row is None or found is None:
            return
        assert (found.state, found.attempt, found.worker) == (row.state, row.attempt, row.worker)
        assert (found.cancel_asked, found.deaths) == (bool(row.cancel_asked), row.deaths)
        assert found.result == row.result
        assert found.accepted_unix_s == row.accepted_s
        assert found.request.prompt == ("p" + id if row.body else "")
        if row.body and not row.poisoned:
            assert found.request == row.request

    @rule(id=ids, have=st.lists(st.integers(0, 5), max_size=3))
    def progress(self, id: str, have: list[int]) -> None:
        row, told = self.model.rows.get(id), self.ledger.progress(id, have)
        assert (told is None) == (row is None)
        if row is not None and told is not None:
            assert (told.state, told.attempt, told.result) == (row.state, row.attempt, row.result)
            assert told.chunks == rows.unseen(row.chunks, have)

    @rule(state=st.sampled_from((None, "queued", "running", "done", "poisoned")), limit=st.integers(1, 4))
    def list_jobs(self, state: str | None, limit: int) -> None:
        """Page by page it is everything, once."""
        newest = sorted(self.model.rows.values(), key=lambda row: -row.arrival)
        expected = [
            (row.request.id, row.state, row.deaths) for row in newest
            if state is None or (row.poisoned if state == "poisoned" else row.state == state)
        ]  # fmt: skip
        found: list[tuple[str, str, int]] = []
        while page := self.ledger.list_jobs(state, limit, found[-1][0] if found else None):  # type: ignore[arg-type]
            assert len(page) <= limit
            assert all(entry.request.prompt == "" for entry in page)
            found += [(entry.request.id, entry.state, entry.deaths) for entry in page]
        assert found == expected

    @rule(id=st.sampled_from("abc"), in_s=st.sampled_from((0.0, 3.0, 40.0)), blob=st.binary(max_size=3))
    def keep_note(self, id: str, in_s: float, blob: bytes) -> None:
        self.ledger.keep_note("k", id, in_s, blob)
        self.model.notes[id] = (self.clock.unix_s() + in_s, blob)

    @rule(lease_s=st.sampled_from((0.5, 20.0)), limit=st.integers(1, 3))
    def take_due(self, lease_s: float, limit: int) -> None:
        now = self.clock.unix_s()
        due = {id for id, (due_s, _) in self.model.notes.items() if due_s <= now}
        assert self.ledger.take_due("other", lease_s, limit) == []
        got = self.ledger.take_due("k", lease_s, limit)
        assert len({id for id, _ in got}) == len(got) == min(limit, len(due))
        for id, blob in got:
            assert id in due
            assert blob == self.model.notes[id][1]
            self.model.notes[id] = (now + lease_s, blob)

    @rule(id=st.sampled_from("abc"))
    def drop_note(self, id: str) -> None:
        self.ledger.drop_note("k", id)
        self.model.notes.pop(id, None)

    @rule(model=st.sampled_from((None, *MODELS)))
    def depth(self, model: str | None) -> None:
        depth = self.ledger.depth(model)
        queued, running = (
            [row for row in self.model.of(state) if model in (None, row.request.model)]
            for state in ("queued", "running")
        )
        assert (depth.queued, depth.running) == (len(queued), len(running))
        assert depth.queued_tokens == sum(order.cost_tokens(row.request) for row in queued)
        assert (depth.queued_bytes > 0) == bool(queued)
        oldest_s = min((row.accepted_s for row in queued), default=math.inf)
        assert depth.oldest_queued_s == (self.clock.unix_s() - oldest_s if queued else 0.0)
        next = min(queued, key=lambda row: order.key(row.request, row.arrival, row.tag), default=None)
        due_unix_s = next.request.deadline_unix_s if next is not None and model is not None else None
        assert depth.next_due_unix_s == (math.inf if due_unix_s is None else due_unix_s)

    @invariant()
    def holders_agree(self) -> None:
        held = [(row.worker, row.request.id, row.request.keep) for row in self.model.of("running")]
        assert sorted(self.ledger.holders()) == sorted(held)

    @invariant()
    def is_sound(self) -> None:
        assert self.ledger.check_integrity() == []


def many(machine: Callable[[], LedgerMachine]) -> None:
    run_state_machine_as_test(machine, settings=settings(max_examples=40, stateful_step_count=40, deadline=None))


def long_day(machine: LedgerMachine, seed: int) -> None:
    """The same calls, so many and so weighted that requests live through everything: hundreds in one store."""
    chance = random.Random(seed)
    claims: list[tuple[str, int]] = []
    number = itertools.count()

    def some(count: int) -> list[str]:
        return [f"d{chance.randrange(max(1, machine.model.arrivals))}" for _ in range(count)]

    def new() -> dict[str, object]:
        due = chance.choice((None, None, None, machine.clock.unix_s() + chance.choice((0.4, 20.0, 60.0))))
        return {
            "id": f"d{next(number)}", "model": chance.choice(MODELS), "priority": chance.choice((0, 0, 0, -1)),
            "deadline_unix_s": due, "keep": chance.random() < 0.3, "n": chance.choice((1, 1, 2)),
            "tenant": chance.choice("aaab"), "sampling": Sampling(max_tokens=chance.randrange(1, 60)),
            "idempotency_key": chance.choice((None, None, None, "k", "l")), "fingerprint": "f",
        }  # fmt: skip

    def claim() -> None:
        values = machine.claim(chance.choice(OWNERS), chance.randrange(1, 6), chance.choice(MODELS), ALL_LOTS)
        claims.extend(values.values if isinstance(values, MultipleResults) else [values])  # type: ignore[list-item]

    def picked(count: int) -> list[tuple[str, int]]:
        return list(dict.fromkeys(chance.choice(claims[-12:]) for _ in range(count))) if claims else []

    calls: list[tuple[int, Callable[[], object]]] = [
        (6, lambda: machine.accept([new() for _ in range(chance.randrange(1, 4))])),
        (8, claim),
        (8, lambda: machine.checkpoint(
            picked(3), chance.randrange(2), chance.random() < 0.3, chance.randrange(1, 4), chance.random() < 0.2)),
        (3, lambda: machine.finish(picked(2), "t", chance.randrange(90))),
        (2, lambda: machine.delivered(some(4))),
        (1, lambda: machine.cancel(some(1)[0])),
        (1, lambda: machine.cancelled(list(dict.fromkeys(some(6))), chance.choice(OWNERS))),
        (4, lambda: machine.let_go(
            chance.choice(OWNERS), chance.random() < 0.5, chance.random() < 0.2, chance.random() < 0.3)),
        (2, lambda: machine.reap()),
        (1, lambda: machine.renew(chance.choice(OWNERS), 2 * LEASE_S)),
        (1, lambda: machine.expire()),
        (1, lambda: machine.annotate(some(1)[0], {"a": 1})),
        (1, lambda: machine.delete(some(1)[0])),
        (3, lambda: machine.time_passes(chance.choice((0.5, 4.0, 11.0)))),
        (1, lambda: machine.sweep(chance.choice((100.0, FORGET_S)))),
        (2, lambda: machine.fetch(some(1)[0])),
        (2, lambda: machine.progress(some(1)[0], [chance.randrange(4)])),
        (1, lambda: machine.list_jobs(chance.choice((None, "queued", "done", "poisoned")), 4)),
        (1, lambda: machine.depth(None)),
    ]  # fmt: skip
    for _ in range(400):
        chance.choices([call for _, call in calls], [weight for weight, _ in calls])[0]()
        machine.holders_agree()
        machine.is_sound()
    assert any(row.poisoned for row in machine.model.rows.values())
    machine.teardown()


Open = Callable[[VirtualClock], tuple[Ledger, Ledger]]


@pytest.fixture
def sqlite(tmp_path: Path) -> Open:
    numbers = itertools.count()

    def open(clock: VirtualClock) -> tuple[Ledger, Ledger]:
        path = tmp_path / f"{next(numbers)}.sqlite"
        return SqliteLedger(path, clock=clock), SqliteLedger(path, clock=clock)

    return open


@pytest.fixture
def redis(redis_server: RedisServer) -> Open:
    def open(clock: VirtualClock) -> tuple[Ledger, Ledger]:
        prefix = f"model-{next(_prefixes)}"
        ledgers = [RedisLedger(redis_server.url, prefix=prefix, clock=clock) for _ in range(2)]
        return ledgers[0], ledgers[1]

    return open


_prefixes = itertools.count()


def test_sqlite_does_what_the_model_does(sqlite: Open) -> None:
    many(lambda: LedgerMachine(sqlite, silence=False))


def test_redis_does_what_the_model_does(redis: Open) -> None:
    many(lambda: LedgerMachine(redis, silence=True))


@pytest.mark.parametrize("seed", range(3))
def test_a_long_day_in_sqlite(sqlite: Open, seed: int) -> None:
    long_day(LedgerMachine(sqlite, silence=False), seed)


@pytest.mark.parametrize("seed", range(3))
def test_a_long_day_in_redis(redis: Open, seed: int) -> None:
    long_day(LedgerMachine(redis, silence=True), seed)
