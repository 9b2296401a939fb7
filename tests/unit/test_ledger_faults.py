"""Clocks set back, files of older programs, two gateways on one file: nothing is lost."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from freehold.core import Chunk, Request, Result
from freehold.ledger import rows, statements
from freehold.ledger.group import AsyncLedger
from freehold.ledger.protocol import KEY_S, LEASE_S, Progress
from freehold.ledger.sqlite import SqliteLedger


def ask(id: str, **more: object) -> Request:
    return Request(id=id, model="m", kind="text", prompt="hello " * 20, **more)  # type: ignore[arg-type]


class TwoClocks:
    """A wall clock that somebody sets, and one that only goes on."""

    def __init__(self) -> None:
        self.wall_s = 1_700_000_000.0
        self.since_start_s = 5000.0

    def unix_s(self) -> float:
        return self.wall_s

    def monotonic_s(self) -> float:
        return self.since_start_s

    def sleep(self, seconds: float) -> None:
        self.wall_s += seconds
        self.since_start_s += seconds


def test_a_wall_clock_set_back_changes_no_lease_and_no_order(tmp_path: Path) -> None:
    clock = TwoClocks()
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", clock=clock)
    ledger.accept([ask("a"), ask("b")])
    assert len(ledger.claim("w:1", 1, "m")) == 1
    clock.wall_s -= 86_400
    ledger.accept([ask("c")])
    assert ledger.reap() == {}
    (claim,) = ledger.claim("w:2", 1, "m")
    assert (claim.request.id, claim.queued_ms) == ("b", 0.0)
    clock.sleep(LEASE_S)
    ledger.renew("w:2")
    assert {owner: gone.requeued for owner, gone in ledger.reap().items()} == {"w:1": ["a"]}
    assert ledger.depth().oldest_queued_s >= 0.0
    assert ledger.check_integrity() == []
    ledger.close()


def test_after_a_restart_of_the_machine_every_old_lease_is_over(tmp_path: Path) -> None:
    clock = TwoClocks()
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", clock=clock)
    ledger.accept([ask("a")])
    assert ledger.claim("w:1", 1, "m")
    ledger.renew("w:1", 1e6)
    clock.since_start_s = 30.0  # the monotonic clock began anew
    assert list(ledger.reap()) == ["w:1"]
    ledger.close()


def test_a_key_stands_for_a_day_and_its_request_with_it(tmp_path: Path) -> None:
    clock = TwoClocks()
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", clock=clock)
    first = ask("a", idempotency_key="k", fingerprint="f")
    assert ledger.accept([first, ask("b", idempotency_key="k", fingerprint="f")]) == ["a", "a"]
    (claim,) = ledger.claim("w:1", 1, "m")
    assert ledger.finish("a", claim.attempt, Result())
    clock.sleep(KEY_S - 60)
    assert ledger.sweep(10.0) == 0
    assert ledger.accept([ask("c", idempotency_key="k", fingerprint="f")]) == ["a"]
    clock.sleep(61)
    assert ledger.accept([ask("d", idempotency_key="k", fingerprint="f")]) == ["d"]
    assert ledger.sweep(10.0) == 1
    assert ledger.check_integrity() == []
    ledger.close()


def test_a_file_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    old = sqlite3.connect(path)
    old.executescript(dict(statements.migrations())[1])
    old.execute(f"PRAGMA application_id = {statements.APPLICATION_ID}")
    old.execute("PRAGMA user_version = 1")
    asked = [ask("waits", tenant="t", priority=-1), ask("ran"), ask("ended")]
    for seq, (request, state, worker) in enumerate(zip(asked, (0, 1, 2), ("", "w:1", "w:1"), strict=True), 1):
        row = rows.columns(request)
        result = rows.encode(Result()) if state == 2 else None
        old.execute(
            "INSERT INTO requests (seq, id, state, priority, due_unix_s, answers, keep, attempt, worker, "
            "accepted_unix_s, ended_unix_s, head, result) VALUES (?, ?, ?, ?, ?, 1, 0, ?, ?, 1.0, ?, ?, ?)",
            (seq, request.id, state, request.priority, row["due_unix_s"], min(state, 1), worker, result and 2.0,
             row["head"], result),
        )  # fmt: skip
        if state < 2:
            old.execute("INSERT INTO bodies VALUES (?, ?)", (seq, rows.encode(request)))
    old.commit()
    old.close()
    ledger = SqliteLedger(path)
    assert ledger.check_integrity() == []
    assert ledger.depth("m").queued_tokens == rows.columns(asked[0])["cost_tokens"]
    assert ledger.give_back("w:1").requeued == ["ran"]
    assert [claim.request for claim in ledger.claim("w:2", 9, "m")] == asked[:2]
    lots = dict(ledger._tables.db.execute("SELECT id, lot FROM requests"))
    assert lots == {request.id: rows.lot(request.id) for request in asked}
    ledger.close()


def test_two_gateways_on_one_file_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"

    async def main() -> None:
        both = [AsyncLedger(lambda: SqliteLedger(path)) for _ in range(2)]
        for ledger in both:
            await ledger.start()
        accepted = await asyncio.gather(
            *(both[i % 2].accept(ask(f"r{i}", idempotency_key=f"k{i // 2}", fingerprint="f")) for i in range(200))
        )
        for ledger in both:
            await ledger.close()
        assert len(set(accepted)) == 100

    asyncio.run(main())
    with closing(SqliteLedger(path)) as ledger:
        assert ledger.depth().queued == 100
        assert ledger.check_integrity() == []


def test_what_is_told_twice_is_kept_once(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    ledger.accept([ask("a")])
    (claim,) = ledger.claim("w:1", 1, "m")
    chunks = [Chunk("a", 0, i, 1, f"{i} ") for i in range(6)]
    for part in (chunks[:3], chunks[1:4], chunks[:4], chunks[5:]):  # the last comes after a gap
        assert ledger.checkpoint([Progress("a", claim.attempt, part)]) == [True]
    assert ledger.abandon("w:1", [Progress("a", claim.attempt, chunks[:5])]).requeued == ["a"]
    (again,) = ledger.claim("w:2", 1, "m")
    assert list(again.given) == chunks[:5]
    assert ledger.checkpoint([Progress("a", claim.attempt, chunks)]) == [False]
    told = ledger.progress("a", [3])
    assert told is not None
    assert list(told.chunks) == chunks[3:5]
    ledger.close()
