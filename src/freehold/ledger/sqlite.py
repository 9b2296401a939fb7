"""The ledger on one machine: an SQLite file that gateway and workers open side by side.

Every change is one tiny BEGIN IMMEDIATE transaction; what a client is told about is synced to the disk
after it (`disk.py` says why that is enough). A claim or an end that isn't kept needs no sync: a power cut
then only has the work done again. Statements are in `sql/queries.sql`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from freehold import order
from freehold.clock import Clock, SystemClock
from freehold.core import Failure, Json, Request, Result
from freehold.errors import Conflict, DeadlinePassed, WorkerDied
from freehold.ledger import disk, rows, statements
from freehold.ledger.protocol import FORGET_S, MAX_ATTEMPTS, Claim, Depth, Entry, State

STATES: tuple[State, ...] = ("queued", "running", "done")
QUEUED, RUNNING, DONE = range(3)
EMPTYING_MS = 50
"""Emptying the log keeps writers out, and gives up rather than wait longer than this for readers."""

_Held = tuple[int, str, int, int, int, float]
"""seq, id, attempt, keep, cancel_asked, accepted_unix_s"""


class SqliteLedger:
    """One connection; belongs to the thread that made it. Any method may raise `StoreError`."""

    def __init__(self, path: Path | str, *, clock: Clock | None = None, busy_timeout_s: float = 10.0) -> None:
        self._path = Path(path)
        self._busy_timeout_s = busy_timeout_s
        self._log_pages = 0
        """How long the write-ahead log was when it was last copied."""
        self._clock: Clock = clock or SystemClock()
        self._sql = statements.queries()
        self._db = disk.connect(self._path, busy_timeout_s)
        with disk.translated(self._path):
            self._disk = disk.Durable(self._path)

    def accept(self, requests: Sequence[Request], on_visible: Callable[[], None] | None = None) -> None:
        now = self._clock.unix_s()
        ready = [(rows.columns(request), rows.encode(request)) for request in requests]
        with self._write():
            for columns, body in ready:
                try:
                    ((seq,),) = self._all("accept", **columns, now=now)
                except sqlite3.IntegrityError as error:
                    what = f"Request {columns['id']} was accepted before."
                    raise Conflict(what, next="Give each request its own id.") from error
                self._all("accept_body", seq=seq, request=body)
        if on_visible is not None:
            on_visible()
        self._sync()

    def claim(self, worker: str, limit: int) -> list[Claim]:
        if limit < 1 or not self._read("any_queued"):
            return []
        now = self._clock.unix_s()
        with self._write():
            found = self._all("next_queued", now=now, limit=limit)
            found = found[: order.take([answers for _, answers, *_ in found], limit)]
            for seq, *_ in found:
                self._all("claim", seq=seq, worker=worker)
        return [
            Claim(rows.requests.decode(body), attempt + 1, rows.since_ms(accepted, now))
            for _, _, attempt, accepted, body in found
        ]

    def expire(self) -> list[str]:
        now = self._clock.unix_s()
        if not self._read("overdue", now=now):
            return []
        with self._write():
            found = self._all("overdue", now=now)
            for seq, _, keep, accepted in found:
                waited_ms = rows.since_ms(accepted, now)
                why = f"It waited {waited_ms / 1000:.1f} s in the queue."
                failure = DeadlinePassed("The request's deadline passed before it could start.", why).failure()
                self._end(seq, keep, Result(failure=failure, queued_ms=waited_ms, total_ms=waited_ms), now)
        self._sync()
        return [id for _, id, _, _ in found]

    def finish(self, id: str, attempt: int, result: Result) -> bool:
        return self.finish_all([(id, attempt, result)])[0]

    def finish_all(self, ended: Sequence[tuple[str, int, Result]]) -> list[bool]:
        now = self._clock.unix_s()
        ready = [(id, attempt, rows.encode(result)) for id, attempt, result in ended]
        done: list[bool] = []
        any_kept = False
        with self._write():
            for id, attempt, result in ready:
                found = self._all("finish", id=id, attempt=attempt, result=result, now=now)
                for seq, keep in found:
                    any_kept = any_kept or bool(keep)
                    if not keep:
                        self._all("forget_body", seq=seq)
                done.append(bool(found))
        if any_kept:
            self._sync()
        return done

    def cancel(self, id: str) -> State | None:
        now = self._clock.unix_s()
        with self._write():
            found = self._all("look", id=id)
            if not found:
                return None
            seq, state, keep, accepted = found[0]
            before: State = STATES[state]
            if state != DONE:
                self._all("ask_cancel", seq=seq)
            if state == QUEUED:
                waited_ms = rows.since_ms(accepted, now)
                self._end(seq, keep, Result(cancelled=True, queued_ms=waited_ms, total_ms=waited_ms), now)
        self._sync()
        return before

    def cancelled(self, worker: str, ids: Sequence[str]) -> list[str]:
        wanted = {id for (id,) in self._read("still_wanted", ids=json.dumps(list(ids)), worker=worker)}
        return [id for id in ids if id not in wanted]

    def abandon(self, worker: str, shown: Collection[str], failure: Failure) -> tuple[list[str], list[str]]:
        with self._write():
            ended = self._let_go(self._all("held_by", worker=worker), shown, failure)
        self._sync()
        return ended

    def recover(self, failure: Failure) -> tuple[list[str], list[str]]:
        with self._write():
            ended = self._let_go(self._all("held"), (), failure)
        self._sync()
        return ended

    def holders(self) -> list[tuple[str, str, bool]]:
        return [(worker, id, bool(keep)) for worker, id, keep in self._read("holders")]

    def fetch(self, id: str) -> Entry | None:
        found = self._read("fetch", id=id)
        if not found:
            return None
        request, state, attempt, worker, result, accepted, cancel_asked = found[0]
        return Entry(
            request=rows.requests.decode(request),
            state=STATES[state],
            attempt=attempt,
            worker=worker,
            result=rows.results.decode(result) if result is not None else None,
            accepted_unix_s=accepted,
            cancel_asked=bool(cancel_asked),
        )

    def annotate(self, id: str, meta: Json) -> bool:
        with self._write():
            found = self._all("contents", id=id)
            for seq, keep, head, body in found:
                if keep or body is None:
                    self._all("set_head", seq=seq, head=rows.with_meta(head, meta))
                if body is not None:
                    self._all("set_body", seq=seq, request=rows.with_meta(body, meta))
        self._sync()
        return bool(found)

    def delete(self, id: str) -> bool:
        with self._write():
            found = self._all("delete", id=id)
            for (seq,) in found:
                self._all("forget_body", seq=seq)
        self._sync()
        return bool(found)

    def depth(self) -> Depth:
        ((queued, oldest),) = self._read("depth_queued")
        ((running,),) = self._read("depth_running")
        age_s = max(0.0, self._clock.unix_s() - oldest) if queued else 0.0
        return Depth(queued=queued, running=running, oldest_queued_s=age_s)

    def sweep(self, older_than_s: float) -> int:
        now = self._clock.unix_s()
        limits = {"kept_before": now - older_than_s, "others_before": now - min(older_than_s, FORGET_S)}
        dropped = 0
        while True:
            with self._write():
                found = self._all("old_results", **limits)
                for (seq,) in found:
                    self._all("drop", seq=seq)
                    self._all("forget_body", seq=seq)
            if not found:
                return dropped
            dropped += len(found)

    def check_integrity(self) -> list[str]:
        with disk.translated(self._path):
            try:
                damage = [line for (line,) in self._db.execute("PRAGMA integrity_check") if line != "ok"]
                return damage or [line for (line,) in self._all("wrong_rows")]
            except sqlite3.DatabaseError as error:
                if disk.damaged(error):
                    return [str(error)]  # too broken even to be checked
                raise

    def checkpoint(self) -> None:
        """Copy the write-ahead log into the database as far as it goes without stopping anyone. Once nobody has
        written since the last time, empty the log: what was deleted is then in neither file."""
        with disk.translated(self._path):
            ((_, pages, copied),) = self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
            if pages > 0 and pages == copied == self._log_pages:
                self._db.execute(f"PRAGMA busy_timeout = {EMPTYING_MS}")
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                self._db.execute(f"PRAGMA busy_timeout = {int(self._busy_timeout_s * 1000)}")
                pages = 0
            self._log_pages = pages

    def close(self) -> None:
        self._disk.close()
        self._db.close()

    # ---- below: inside a transaction -------------------------------------------------------------

    def _let_go(self, held: Sequence[_Held], shown: Collection[str], failure: Failure) -> tuple[list[str], list[str]]:
        now = self._clock.unix_s()
        requeued: list[str] = []
        failed: list[str] = []
        for seq, id, attempt, keep, cancel_asked, accepted in held:
            total_ms = rows.since_ms(accepted, now)
            if cancel_asked:
                self._end(seq, keep, Result(cancelled=True, total_ms=total_ms), now)
            elif id in shown or attempt >= MAX_ATTEMPTS:
                told = failure if id in shown else _tried(attempt)
                self._end(seq, keep, Result(failure=told, total_ms=total_ms), now)
                failed.append(id)
            else:
                self._all("requeue", seq=seq)
                requeued.append(id)
        return requeued, failed

    def _end(self, seq: int, keep: int, result: Result, now: float) -> None:
        self._all("end", seq=seq, result=rows.encode(result), now=now)
        if not keep:
            self._all("forget_body", seq=seq)

    def _all(self, name: str, **values: object) -> list[tuple[Any, ...]]:
        return self._db.execute(self._sql[name], values).fetchall()

    def _read(self, name: str, **values: object) -> list[tuple[Any, ...]]:
        with disk.translated(self._path):
            return self._all(name, **values)

    @contextmanager
    def _write(self) -> Iterator[None]:
        with disk.translated(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                disk.rollback(self._db)
                raise

    def _sync(self) -> None:
        with disk.translated(self._path):
            self._disk.sync()


def _tried(times: int) -> Failure:
    """No advice to send it again: it may well be what they died of."""
    why = f"It was tried {times} times, and each time the worker died before the answer began."
    return WorkerDied("The request could not be answered.", why, "See the server's log for why workers die.").failure()
