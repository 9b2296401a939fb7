"""The ledger on one machine: an SQLite file that gateway and workers open side by side.

Every change is one tiny BEGIN IMMEDIATE transaction; what a client is told about is synced to the disk after it
(`disk.py` says why that is enough). A claim, a checkpoint or an end that isn't kept needs no sync: a power cut then
only has the work done again. Statements are in `sql/queries.sql`; what is read about many is in `sqlite_views.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from freehold import order
from freehold.clock import Clock, SystemClock
from freehold.core import Chunk, Request, Result
from freehold.ledger import rows
from freehold.ledger.protocol import (
    ALL_LOTS,
    KEY_S,
    LEASE_S,
    MAX_DEATHS,
    STATES,
    Claim,
    Ended,
    Later,
    LetGo,
    Progress,
    State,
    Why,
)
from freehold.ledger.shares import Shares
from freehold.ledger.sqlite_views import DONE, QUEUED, RUNNING, SqliteViews
from freehold.ledger.tables import Tables


class SqliteLedger(SqliteViews):
    """One connection; belongs to the thread that made it. Any method may raise `StoreError`."""

    def __init__(
        self, path: Path | str, *, clock: Clock | None = None, busy_timeout_s: float = 5.0, synced: bool = True
    ) -> None:
        """`synced` False: nothing waits for the disk, and a power cut may lose what was accepted."""
        super().__init__(Tables(Path(path), busy_timeout_s), clock or SystemClock())
        self._synced = synced

    # ---- in --------------------------------------------------------------------------------------

    def accept(
        self, requests: Sequence[Request], on_visible: Callable[[], None] | None = None, later: Later | None = None
    ) -> list[str]:
        now = self._clock.unix_s()
        ready = [(request, rows.columns(request), rows.encode(request)) for request in requests]
        with self._tables.write():
            shares = Shares(self._tables)
            ids = [self._known(new[0], now) or self._add(shares, *new, now) for new in ready]
            shares.save()
        if on_visible is not None:
            on_visible()
        if later is None:
            self._sync()
        else:
            later.append(self._sync)
        return ids

    def _known(self, request: Request, now: float) -> str | None:
        """The id that was accepted under the request's idempotency key."""
        key = request.idempotency_key
        found = self._run("known_key", tenant=request.tenant, key=key, now=now) if key is not None else []
        for fingerprint, id in found:
            if fingerprint != request.fingerprint:
                raise rows.key_taken(id)
            return str(id)
        return None

    def _add(self, shares: Shares, request: Request, columns: dict[str, Any], body: bytes, now: float) -> str:
        tag = shares.tag(request, columns["cost_tokens"])
        try:
            ((seq,),) = self._run("accept", **columns, tag_tokens=tag, body_bytes=len(body), now=now)
        except sqlite3.IntegrityError as error:
            raise rows.id_taken(request.id) from error
        self._run("accept_body", seq=seq, request=body)
        if request.idempotency_key is not None:
            key = {"tenant": request.tenant, "key": request.idempotency_key, "fingerprint": request.fingerprint}
            self._run("set_key", **key, seq=seq, until=now + KEY_S)
        return request.id

    # ---- to a worker -----------------------------------------------------------------------------

    def claim(self, owner: str, limit: int, model: str, lots: tuple[int, int] = ALL_LOTS) -> list[Claim]:
        if limit < 1 or not self._read("any_queued", model=model):
            return []
        now = self._clock.unix_s()
        with self._tables.write():
            found = self._run("next_queued", model=model, now=now, lot_from=lots[0], lot_to=lots[1], limit=limit)
            found = found[: order.take([answers for _, answers, *_ in found], limit)]
            given = [self._pieces(seq) if attempt else () for seq, _, attempt, *_ in found]
            for seq, *_ in found:
                self._run("claim", seq=seq, owner=owner)
            if found:
                self._run("touch", owner=owner, now=self._clock.monotonic_s(), lease_s=LEASE_S)
                shares = Shares(self._tables)
                for priority in {row[5] for row in found}:
                    served = [(tag, bool(due)) for *_, lane, tag, due in found if lane == priority]
                    shares.advance((model, priority), served)
        return [
            Claim(rows.requests.decode(row[4]), row[2] + 1, rows.since_ms(row[3], now), chunks)
            for row, chunks in zip(found, given, strict=True)
        ]

    def renew(self, owner: str, lease_s: float = LEASE_S) -> None:
        with self._tables.write():
            self._run("renew", owner=owner, now=self._clock.monotonic_s(), lease_s=lease_s)

    def checkpoint(self, parts: Sequence[Progress]) -> list[bool]:
        if not parts:
            return []
        with self._tables.write():
            return [self._append(part) for part in parts]

    def _append(self, part: Progress) -> bool:
        for seq, _, attempt, state, _, number, tops in self._run("top", id=part.id):
            if state != RUNNING or attempt != part.attempt:
                return False
            new, after = rows.beyond(rows.decode_tops(tops), part.chunks)
            if new:
                next = 0 if number is None else number + 1
                self._run(
                    "add_piece", seq=seq, number=next, tops=rows.encode_tops(after), chunks=rows.encode_chunks(new)
                )
            return True
        return False

    def finish(self, id: str, attempt: int, result: Result, chunks: Sequence[Chunk] = ()) -> bool:
        return self.finish_all([Ended(id, attempt, result, chunks)])[0]

    def finish_all(self, ended: Sequence[Ended]) -> list[bool]:
        now = self._clock.unix_s()
        done: list[bool] = []
        any_kept = False
        with self._tables.write():
            shares = Shares(self._tables)
            for id, attempt, result, chunks in ended:
                if chunks:
                    self._append(Progress(id, attempt, chunks))
                keep = self._record(shares, id, attempt, result, now)
                done.append(keep is not None)
                any_kept = any_kept or bool(keep)
            shares.save()
        if any_kept:
            self._sync()
        return done

    def delivered(self, ids: Sequence[str]) -> None:
        if not ids:
            return
        with self._tables.write():
            for id in ids:
                for seq, state, keep in self._run("deliver", id=id):
                    if state == DONE:
                        self._forget(seq, keep)

    # ---- out of the order ------------------------------------------------------------------------

    def cancel(self, id: str) -> State | None:
        now = self._clock.unix_s()
        with self._tables.write():
            found = self._run("look", id=id)
            if not found:
                return None
            seq, state, keep, accepted, *share, cost = found[0]
            before: State = STATES[state]
            if state == RUNNING:
                self._run("ask_cancel", seq=seq)
            elif state == QUEUED:
                self._end(seq, rows.cancelled(rows.since_ms(accepted, now)), now, cancel_asked=1)
                self._give_back_share(share, cost)
                self._run("set_delivered", seq=seq)  # whoever asks for the end doesn't read on
                self._forget(seq, keep)
        self._sync()
        return before

    def expire(self) -> list[str]:
        now = self._clock.unix_s()
        if not self._read("overdue", now=now):
            return []
        with self._tables.write():
            found = self._run("overdue", now=now)
            for seq, _, state, attempt, accepted, *share, cost in found:
                if state == QUEUED:
                    if attempt == 0:
                        self._give_back_share(share, cost)
                    self._end(seq, rows.overdue(attempt, rows.since_ms(accepted, now)), now)
                else:
                    self._run("mark_overdue", seq=seq)
        self._sync()
        return [id for _, id, state, *_ in found if state == QUEUED]

    def abandon(self, owner: str, seen: Sequence[Progress] = ()) -> LetGo:
        with self._tables.write():
            gone = self._let_go(owner, seen, 1)
        return self._told(gone)

    def give_back(self, owner: str, parts: Sequence[Progress] = ()) -> LetGo:
        with self._tables.write():
            gone = self._let_go(owner, parts, 0)
        return self._told(gone)

    def reap(self) -> dict[str, LetGo]:
        now_s = self._clock.monotonic_s()
        if not self._read("late_owners", now=now_s):
            return {}
        with self._tables.write():
            late = self._run("late_owners", now=now_s)
            reaped = {owner: self._let_go(owner, (), 1) for (owner,) in late}
        for gone in reaped.values():
            self._told(gone)
        return reaped

    def cancelled(self, owner: str, ids: Sequence[str]) -> dict[str, Why]:
        standing = dict(self._read("standing", ids=rows.json_list(ids), owner=owner))
        return rows.why_stopped(ids, standing)

    # ---- below: inside a transaction -------------------------------------------------------------

    def _let_go(self, owner: str, seen: Sequence[Progress], deaths: int) -> LetGo:
        now = self._clock.unix_s()
        gone = LetGo([], [], [])
        for part in seen:
            if any(holder == owner for *_, holder, _, _ in self._run("top", id=part.id)):
                self._append(part)
        shares = Shares(self._tables)
        for seq, id, attempt, cancel_asked, accepted, answers, died, delivered in self._run("held_by", owner=owner):
            total_ms = rows.since_ms(accepted, now)
            ((*_, tops),) = self._run("top", id=id)
            if rows.complete(rows.decode_tops(tops), answers):
                self._record(shares, id, attempt, rows.told_by(self._pieces(seq), owner, total_ms), now)
                gone.ended.append(id)
            elif cancel_asked or delivered:
                self._end(seq, rows.cut_short(cancel_asked, total_ms), now, cancel_asked)
                gone.ended.append(id)
            elif died + deaths >= MAX_DEATHS:
                self._end(seq, rows.poisoned(died + deaths, total_ms), now)
                self._run("poison", seq=seq, deaths=died + deaths)
                gone.poisoned.append(id)
            else:
                self._run("requeue", seq=seq, deaths=died + deaths)
                gone.requeued.append(id)
        shares.save()
        self._run("forget_owner", owner=owner)
        return gone

    def _record(self, shares: Shares, id: str, attempt: int, result: Result, now: float) -> int | None:
        """The end as its worker tells it, or would have. Whether it is kept; None if that attempt can't end it."""
        for seq, keep, delivered, model, priority, tenant, cost in self._run(
            "finish", id=id, attempt=attempt, result=rows.encode(result), now=now
        ):
            shares.settle((model, priority, tenant), cost, order.took_tokens(result.usage))
            if delivered:
                self._forget(seq, keep)
            return int(keep)
        return None

    def _give_back_share(self, share: Sequence[Any], cost_tokens: int) -> None:
        """A request that never ran took nothing."""
        model, priority, tenant = share
        shares = Shares(self._tables)
        shares.settle((model, priority, tenant), cost_tokens, 0)
        shares.save()

    def _told(self, gone: LetGo) -> LetGo:
        if gone.poisoned or gone.ended:
            self._sync()
        return gone

    def _end(self, seq: int, result: Result, now: float, cancel_asked: int = 0) -> None:
        for keep, delivered in self._run(
            "end", seq=seq, result=rows.encode(result), now=now, cancel_asked=cancel_asked
        ):
            if delivered:
                self._forget(seq, keep)

    def _forget(self, seq: int, keep: int) -> None:
        """Its reader has it all: the pieces go, and the content unless it is kept."""
        self._run("forget_pieces", seq=seq)
        if not keep:
            self._run("forget_body", seq=seq)

    def _sync(self) -> None:
        if self._synced:
            self._tables.sync()
