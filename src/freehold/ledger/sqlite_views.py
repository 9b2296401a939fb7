"""What is read in the SQLite ledger without changing who does what: one request, lists, depth, upkeep and checks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from freehold.clock import Clock
from freehold.core import Chunk, Json
from freehold.ledger import rows
from freehold.ledger.protocol import FORGET_S, STATES, Depth, Entry, Listed, Told
from freehold.ledger.sqlite_folders import SqliteFolders
from freehold.ledger.tables import Tables

QUEUED, RUNNING, DONE = range(3)


class SqliteViews(SqliteFolders):
    """The part of `SqliteLedger` that follows requests from outside."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        super().__init__(tables, clock)

    def holders(self) -> list[tuple[str, str, bool]]:
        return [(worker, id, bool(keep)) for worker, id, keep in self._read("holders")]

    def progress(self, id: str, have: Sequence[int] = ()) -> Told | None:
        with self._tables.snapshot():
            found = self._run("how_far", id=id)
            if not found:
                return None
            seq, state, attempt, result = found[0]
            chunks = rows.unseen(self._pieces(seq), have)
        return Told(STATES[state], attempt, chunks, None if result is None else rows.results.decode(result))

    def fetch(self, id: str) -> Entry | None:
        return next((_entry(row) for row in self._read("fetch", id=id)), None)

    def list_jobs(self, state: Listed | None = None, limit: int = 100, after: str | None = None) -> list[Entry]:
        if state == "poisoned":
            found = self._read("newest_poisoned", limit=limit, after=after)
        else:
            number = None if state is None else STATES.index(state)
            found = self._read("newest", state=number, limit=limit, after=after)
        return [_entry(row) for row in found]

    def annotate(self, id: str, meta: Json) -> bool:
        with self._tables.write():
            found = self._run("contents", id=id)
            for seq, keep, head, body in found:
                if keep or body is None:
                    self._run("set_head", seq=seq, head=rows.with_meta(head, meta))
                if body is not None:
                    self._run("set_body", seq=seq, request=rows.with_meta(body, meta))
        self._tables.sync()
        return bool(found)

    def delete(self, id: str) -> bool:
        with self._tables.write():
            found = self._run("delete", id=id)
            for (seq,) in found:
                self._drop_all_of(seq)
        self._tables.sync()
        return bool(found)

    def depth(self, model: str | None = None) -> Depth:
        if model is None:
            ((queued, oldest, tokens, size),) = self._read("depth_all_queued")
        else:
            ((queued, oldest, tokens, size),) = self._read("depth_queued", model=model)
        ((running,),) = self._read("depth_running", model=model)
        age_s = max(0.0, self._clock.unix_s() - oldest) if queued else 0.0
        next_due = self._read("next_due", model=model) if queued and model is not None else []
        return Depth(queued, running, age_s, tokens, size, next_due[0][0] if next_due else math.inf)

    def sweep(self, older_than_s: float) -> int:
        now = self._clock.unix_s()
        limits = {"kept_before": now - older_than_s, "others_before": now - min(older_than_s, FORGET_S)}
        with self._tables.write():
            self._run("old_keys", now=now)
            self._run("old_shares")
            self._run("old_owners", now=self._clock.monotonic_s())
        dropped = 0
        while count := self._drop_old(limits):
            dropped += count
        while self._forget_unread(limits["others_before"]):
            pass
        self.sweep_folders()
        return dropped

    def _drop_old(self, limits: dict[str, float]) -> int:
        with self._tables.write():
            found = self._run("old_results", **limits)
            for (seq,) in found:
                self._run("drop", seq=seq)
                self._drop_all_of(seq)
        return len(found)

    def _forget_unread(self, others_before: float) -> int:
        with self._tables.write():
            found = self._run("unread", others_before=others_before)
            for seq, keep in found:
                self._run("set_delivered", seq=seq)
                self._run("forget_pieces", seq=seq)
                if not keep:
                    self._run("forget_body", seq=seq)
        return len(found)

    def _drop_all_of(self, seq: int) -> None:
        self._run("forget_body", seq=seq)
        self._run("forget_pieces", seq=seq)
        self._run("forget_key", seq=seq)

    def keep_note(self, kind: str, id: str, in_s: float, blob: bytes) -> None:
        with self._tables.write():
            self._run("keep_note", kind=kind, id=id, due=self._clock.unix_s() + in_s, blob=blob)
        self._tables.sync()

    def take_due(self, kind: str, lease_s: float, limit: int) -> list[tuple[str, bytes]]:
        now = self._clock.unix_s()
        if not self._read("any_due", kind=kind, now=now):
            return []
        with self._tables.write():
            found = self._run("take_due", kind=kind, now=now, until=now + lease_s, limit=limit)
        return [(id, blob) for id, blob in found]

    def drop_note(self, kind: str, id: str) -> None:
        with self._tables.write():
            self._run("drop_note", kind=kind, id=id)
        self._tables.sync()

    def check_integrity(self) -> list[str]:
        return self._tables.check_integrity()

    def keep_up(self) -> None:
        """See `Tables.checkpoint`; the supervisor does it, so that nobody else waits for it."""
        self.clear_folders()
        self._tables.checkpoint()

    def close(self) -> None:
        self._tables.close()

    def _pieces(self, seq: int) -> tuple[Chunk, ...]:
        return rows.decode_chunks(chunks for (chunks,) in self._run("pieces", seq=seq))

    def _run(self, name: str, **values: object) -> list[tuple[Any, ...]]:
        return self._tables.run(name, **values)

    def _read(self, name: str, **values: object) -> list[tuple[Any, ...]]:
        return self._tables.read(name, **values)


def _entry(row: tuple[Any, ...]) -> Entry:
    request, state, attempt, worker, result, accepted, cancel_asked, deaths = row
    return Entry(
        request=rows.requests.decode(request),
        state=STATES[state],
        attempt=attempt,
        worker=worker,
        result=None if result is None else rows.results.decode(result),
        accepted_unix_s=accepted,
        cancel_asked=bool(cancel_asked),
        deaths=deaths,
    )
