"""The SQLite ledger against a plain model of it: random calls from two connections, the same answers from both."""

from __future__ import annotations

import math
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from freehold import order
from freehold.clock import VirtualClock
from freehold.core import Answer, Failure, Request, Result, Usage
from freehold.errors import Conflict
from freehold.ledger.protocol import FORGET_S, MAX_ATTEMPTS
from freehold.ledger.sqlite import SqliteLedger

OWNERS = ("worker-1:10", "worker-1:11", "worker-2:20")
DIED = Failure(code="worker_died", what="It died.")
ids = st.integers(0, 30).map(lambda number: f"r{number}")


@dataclass
class Row:
    request: Request
    arrival: int
    state: str = "queued"
    attempt: int = 0
    worker: str = ""
    cancel_asked: bool = False
    result: Result | None = None
    accepted_s: float = 0.0
    ended_s: float = 0.0


@dataclass
class Model:
    rows: dict[str, Row] = field(default_factory=dict)
    arrivals: int = 0

    def of(self, state: str) -> list[Row]:
        found = [row for row in self.rows.values() if row.state == state]
        return sorted(found, key=lambda row: row.arrival)


class LedgerMachine(RuleBasedStateMachine):
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = VirtualClock(1000.0)
        path = self.folder / "ledger.sqlite"
        self.ledgers = [SqliteLedger(path, clock=self.clock), SqliteLedger(path, clock=self.clock)]
        self.model = Model()
        self.turn = 0

    @property
    def ledger(self) -> SqliteLedger:
        """Each call from another connection than the one before."""
        self.turn += 1
        return self.ledgers[self.turn % 2]

    def teardown(self) -> None:
        for ledger in self.ledgers:
            ledger.close()
        shutil.rmtree(self.folder)

    def end(self, row: Row, result: Result | None) -> None:
        row.state, row.result, row.ended_s = "done", result, self.clock.unix_s()

    @rule(
        new=st.lists(
            st.tuples(
                ids, st.integers(-1, 1), st.none() | st.integers(900, 1100).map(float), st.booleans(), st.integers(1, 3)
            ),
            min_size=1, max_size=4,
        )
    )  # fmt: skip
    def accept(self, new: list[tuple[str, int, float | None, bool, int]]) -> None:
        requests = [
            Request(id=id, model="m", kind="text", prompt="p" + id, priority=p, deadline_unix_s=due, keep=keep, n=n)
            for id, p, due, keep, n in new
        ]
        names = [request.id for request in requests]
        if len(set(names)) < len(names) or any(name in self.model.rows for name in names):
            with pytest.raises(Conflict):
                self.ledger.accept(requests)
            return
        self.ledger.accept(requests)
        for request in requests:
            self.model.arrivals += 1
            self.model.rows[request.id] = Row(request, self.model.arrivals, accepted_s=self.clock.unix_s())

    @rule(target=claims, worker=st.sampled_from(OWNERS), limit=st.integers(0, 6))
    def claim(self, worker: str, limit: int) -> object:
        now = self.clock.unix_s()
        waiting = [row for row in self.model.of("queued") if not order.overdue(row.request, now)]
        waiting.sort(key=lambda row: order.key(row.request, row.arrival))
        expected = waiting[: order.take([row.request.n for row in waiting], limit)]
        got = self.ledger.claim(worker, limit)
        assert [claim.request for claim in got] == [row.request for row in expected]
        for row, claim in zip(expected, got, strict=True):
            row.state, row.worker, row.attempt = "running", worker, row.attempt + 1
            assert claim.attempt == row.attempt
            assert claim.queued_ms == pytest.approx((now - row.accepted_s) * 1000)
        return multiple(*[(claim.request.id, claim.attempt) for claim in got])

    @rule(ended=st.lists(consumes(claims), max_size=3, unique=True), text=st.text(max_size=5))
    def finish(self, ended: list[tuple[str, int]], text: str) -> None:
        result = Result(answers=(Answer(text=text),), usage=Usage(completion_tokens=3))
        expected = []
        for id, attempt in ended:
            row = self.model.rows.get(id)
            expected.append(row is not None and row.state == "running" and row.attempt == attempt)
            if row is not None and expected[-1]:
                self.end(row, result)
        assert self.ledger.finish_all([(id, attempt, result) for id, attempt in ended]) == expected

    @rule(id=ids)
    def cancel(self, id: str) -> None:
        row = self.model.rows.get(id)
        assert self.ledger.cancel(id) == (row.state if row else None)
        if row is None or row.state == "done":
            return
        row.cancel_asked = True
        if row.state == "queued":
            self.end(row, None)
            found = self.ledger.fetch(id)
            assert found is not None
            assert found.result is not None
            assert found.result.cancelled
            row.result = found.result

    @rule(some=st.lists(ids, unique=True, max_size=6), worker=st.sampled_from(OWNERS))
    def cancelled(self, some: list[str], worker: str) -> None:
        rows = self.model.rows
        wanted = {
            id for id in some
            if id in rows and rows[id].state == "running" and rows[id].worker == worker and not rows[id].cancel_asked
        }  # fmt: skip
        assert self.ledger.cancelled(worker, some) == [id for id in some if id not in wanted]

    @rule(worker=st.sampled_from((*OWNERS, "worker-1", "worker")), shown=st.sets(ids, max_size=10))
    def abandon(self, worker: str, shown: set[str]) -> None:
        held = [row for row in self.model.of("running") if worker in (row.worker, row.worker.split(":")[0])]
        self.check_let_go(held, shown, self.ledger.abandon(worker, shown, DIED))

    @rule()
    def recover(self) -> None:
        self.check_let_go(self.model.of("running"), set(), self.ledger.recover(DIED))

    def check_let_go(self, held: list[Row], shown: set[str], got: tuple[list[str], list[str]]) -> None:
        requeued, failed = [], []
        for row in held:
            if row.cancel_asked:
                self.end(row, None)
            elif row.request.id in shown or row.attempt >= MAX_ATTEMPTS:
                self.end(row, None)
                failed.append(row.request.id)
            else:
                row.state, row.worker = "queued", ""
                requeued.append(row.request.id)
            found = self.ledger.fetch(row.request.id)
            assert found is not None
            if row.state == "done":
                assert found.result is not None
                assert found.result.cancelled == row.cancel_asked
                failure = found.result.failure
                if row.cancel_asked or row.request.id in shown:
                    assert failure == (None if row.cancel_asked else DIED)
                else:
                    assert failure is not None
                    assert f"tried {row.attempt} times" in failure.why
                    assert failure.next != DIED.next
                row.result = found.result
        assert got == (requeued, failed)

    @rule()
    def expire(self) -> None:
        late = [row for row in self.model.of("queued") if order.overdue(row.request, self.clock.unix_s())]
        assert sorted(self.ledger.expire()) == sorted(row.request.id for row in late)
        for row in late:
            found = self.ledger.fetch(row.request.id)
            assert found is not None
            assert found.result is not None
            assert found.result.failure is not None
            assert found.result.failure.code == "deadline_passed"
            self.end(row, found.result)

    @rule(id=ids, meta=st.dictionaries(st.text(max_size=3), st.integers(-9, 9), max_size=2))
    def annotate(self, id: str, meta: dict[str, int]) -> None:
        row = self.model.rows.get(id)
        assert self.ledger.annotate(id, dict(meta)) == (row is not None)
        found = self.ledger.fetch(id)
        if row is not None and found is not None:
            assert found.request.meta == meta
            row.request = found.request

    @rule(id=ids)
    def delete(self, id: str) -> None:
        row = self.model.rows.get(id)
        gone = row is not None and row.state == "done"
        assert self.ledger.delete(id) == gone
        if gone:
            del self.model.rows[id]

    @rule(seconds=st.sampled_from((0.5, 30.0, FORGET_S + 1)))
    def time_passes(self, seconds: float) -> None:
        self.clock.sleep(seconds)

    @rule(older_than_s=st.sampled_from((0.0, 100.0, 10 * FORGET_S)))
    def sweep(self, older_than_s: float) -> None:
        now = self.clock.unix_s()
        old = [
            row.request.id for row in self.model.of("done")
            if row.ended_s < now - (older_than_s if row.request.keep else min(older_than_s, FORGET_S))
        ]  # fmt: skip
        assert self.ledger.sweep(older_than_s) == len(old)
        for id in old:
            del self.model.rows[id]

    @rule(id=ids)
    def fetch(self, id: str) -> None:
        row, found = self.model.rows.get(id), self.ledger.fetch(id)
        assert (found is None) == (row is None)
        if row is None or found is None:
            return
        assert (found.state, found.attempt, found.worker) == (row.state, row.attempt, row.worker)
        assert (found.cancel_asked, found.result) == (row.cancel_asked, row.result)
        assert found.accepted_unix_s == row.accepted_s
        forgotten = row.state == "done" and not row.request.keep
        assert found.request.prompt == ("" if forgotten else "p" + id)
        assert forgotten or found.request == row.request

    @invariant()
    def depth_agrees(self) -> None:
        depth = self.ledger.depth()
        queued, running = self.model.of("queued"), self.model.of("running")
        assert (depth.queued, depth.running) == (len(queued), len(running))
        oldest_s = min((row.accepted_s for row in queued), default=math.inf)
        assert depth.oldest_queued_s == (self.clock.unix_s() - oldest_s if queued else 0.0)

    @invariant()
    def is_sound(self) -> None:
        assert self.ledger.check_integrity() == []


LedgerMachine.TestCase.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
TestLedgerModel = LedgerMachine.TestCase
