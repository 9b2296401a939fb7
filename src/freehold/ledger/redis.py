"""The ledger for many machines, in Redis or Valkey: each call is one atomic script (`lua/`), durable as the server is.

With `appendfsync always` the server syncs once for all it has read in one turn, before it answers any of it: a group
of accepts is one script and one sync, and everything else that came along is synced with it. Times are the server's,
so that clocks of hosts need not agree; leases too.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from freehold import order
from freehold.clock import Clock
from freehold.core import Chunk, Json, Request, Result
from freehold.ledger import redis_wire as wire
from freehold.ledger import rows
from freehold.ledger.protocol import (
    ALL_LOTS,
    FORGET_S,
    KEY_S,
    LEASE_S,
    MAX_DEATHS,
    STATES,
    Claim,
    Depth,
    Ended,
    Entry,
    Later,
    LetGo,
    Listed,
    Progress,
    State,
    Told,
    Why,
)  # fmt: skip
from freehold.ledger.redis_folders import RedisFolders
from freehold.ledger.redis_link import TIMEOUT_S, Fsync, RedisLink

SILENCE_S = 5.0
"""If nobody has asked for late owners for this long, the server was away: leases begin anew."""
BITE = 200


class RedisLedger(RedisFolders):
    """One connection; belongs to the thread that made it. Any method may raise `StoreError`. `clock` is for tests: it
    takes the place of the server's."""

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "freehold",
        fsync: Fsync | None = None,
        timeout_s: float = TIMEOUT_S,
        loading_s: float = 0.0,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock
        self._link = RedisLink(url, prefix, fsync, timeout_s, loading_s)
        self._claims: dict[str, str] = {}
        """Owner -> the number of a claim whose answer hasn't come yet: asked again, it is the same claim."""

    # ---- in --------------------------------------------------------------------------------------

    def accept(
        self, requests: Sequence[Request], on_visible: Callable[[], None] | None = None, later: Later | None = None
    ) -> list[str]:
        """Nothing is left for `later`: a server's answer says that its disk has it, where that is asked for."""
        ready = [wire.row(request, self._link.prefix) for request in requests]
        blobs = [blob for row in ready for blob in (row.pop("head"), row.pop("body"))]
        content = (wire.pack(ready), *blobs)
        found = [text.decode() for text in self._run("accept", KEY_S, "", *content, again=(KEY_S, "again", *content))]
        if found and not found[0]:
            _, why, id = found
            raise rows.key_taken(id) if why == "key" else rows.id_taken(id)
        if on_visible is not None:
            on_visible()
        return found

    # ---- to a worker -----------------------------------------------------------------------------

    def claim(self, owner: str, limit: int, model: str, lots: tuple[int, int] = ALL_LOTS) -> list[Claim]:
        if limit < 1:
            return []
        call = self._claims.setdefault(owner, secrets.token_hex(8))
        now, *found = self._run("claim", owner, limit, model, *lots, call, LEASE_S, wire.sortable(math.inf))
        del self._claims[owner]
        return [
            Claim(
                wire.request_of(body, meta),
                int(attempt),
                rows.since_ms(float(accepted), float(now)),
                rows.decode_each(chunks),
            )
            for attempt, accepted, body, meta, chunks in found
        ]

    def renew(self, owner: str, lease_s: float = LEASE_S) -> None:
        self._run("renew", owner, lease_s)

    def checkpoint(self, parts: Sequence[Progress]) -> list[bool]:
        if not parts:
            return []
        return [known == 1 for known in self._run("checkpoint", *wire.packed(parts))]

    def finish(self, id: str, attempt: int, result: Result, chunks: Sequence[Chunk] = ()) -> bool:
        return self.finish_all([Ended(id, attempt, result, chunks)])[0]

    def finish_all(self, ended: Sequence[Ended]) -> list[bool]:
        if not ended:
            return []
        blobs: list[bytes] = []
        ready = [
            (
                id,
                attempt,
                wire.put(blobs, rows.encode(result)),
                order.took_tokens(result.usage),
                wire.parts_of(chunks, blobs),
            )
            for id, attempt, result, chunks in ended
        ]
        return [known == 1 for known in self._run("finish", wire.pack(ready), *blobs)]

    def delivered(self, ids: Sequence[str]) -> None:
        if ids:
            self._run("delivered", *ids)

    # ---- out of the order ------------------------------------------------------------------------

    def cancel(self, id: str) -> State | None:
        state = self._run("cancel", id, rows.encode(rows.cancelled(0.0)))
        return None if state is None else STATES[int(state)]

    def expire(self) -> list[str]:
        results = [rows.encode(rows.overdue(attempt, 0.0)) for attempt in (0, 1)]
        return [id.decode() for id in self._run("expire", *results)]

    def abandon(self, owner: str, seen: Sequence[Progress] = ()) -> LetGo:
        return self._let_go(owner, seen, 1)

    def give_back(self, owner: str, parts: Sequence[Progress] = ()) -> LetGo:
        return self._let_go(owner, parts, 0)

    def reap(self) -> dict[str, LetGo]:
        late = [owner.decode() for owner in self._run("late", SILENCE_S, LEASE_S)]
        reaped = {owner: self._let_go(owner, (), 1, "late") for owner in late}
        return {owner: gone for owner, gone in reaped.items() if any(gone)}

    def _let_go(self, owner: str, seen: Sequence[Progress], deaths: int, late: str = "") -> LetGo:
        ends = [rows.cut_short(1, 0.0), rows.cut_short(rows.BY_DEADLINE, 0.0), rows.poisoned(MAX_DEATHS, 0.0)]
        ends.append(rows.cut_short(0, 0.0))
        results = [rows.encode(end) for end in ends]
        index, *chunks = wire.packed(seen)
        found = self._run("let_go", owner, deaths, MAX_DEATHS, late, index, *results, *chunks)
        requeued, poisoned, ended, whole = ([id.decode() for id in ids] for ids in found)
        if whole:
            for id in whole:
                _, attempt, _, chunks, total_ms = self._run("how_far", id)
                result = rows.told_by(rows.decode_each(chunks), owner, float(total_ms))
                self.finish(id, int(attempt), result)
            self._let_go(owner, (), deaths, late)
        return LetGo(requeued, poisoned, ended + whole)

    def cancelled(self, owner: str, ids: Sequence[str]) -> dict[str, Why]:
        standing: dict[str, int] = {}
        for id, (state, holder, asked) in zip(
            ids, self._link.fields_of(ids, ["state", "owner", "cancel"]), strict=True
        ):
            if state == b"1" and holder == owner.encode() and asked is not None:
                standing[id] = int(asked)
        return rows.why_stopped(ids, standing)

    # ---- seen from outside -----------------------------------------------------------------------

    def holders(self) -> list[tuple[str, str, bool]]:
        return [(owner.decode(), id.decode(), keep == b"1") for owner, id, keep in self._run("holders")]

    def progress(self, id: str, have: Sequence[int] = ()) -> Told | None:
        found = self._run("how_far", id)
        if not found:
            return None
        state, attempt, result, chunks, _ = found
        ended = rows.results.decode(result) if result else None
        return Told(STATES[int(state)], int(attempt), rows.unseen(rows.decode_each(chunks), have), ended)

    def fetch(self, id: str) -> Entry | None:
        ((body, head, *rest, meta),) = self._link.fields_of([id], wire.FIELDS)
        return None if head is None else wire.entry_of(body or head, meta, rest)

    def list_jobs(self, state: Listed | None = None, limit: int = 100, after: str | None = None) -> list[Entry]:
        wanted = "" if state is None else state if state == "poisoned" else STATES.index(state)
        return [wire.entry_of(head, None, rest) for head, *rest in self._run("list", wanted, limit, after or "")]

    def annotate(self, id: str, meta: Json) -> bool:
        return bool(self._run("annotate", id, wire.pack(meta)) == 1)

    def delete(self, id: str) -> bool:
        return bool(self._run("delete", id) == 1)

    def depth(self, model: str | None = None) -> Depth:
        now, queued, running, oldest, tokens, size, due = self._run("depth", *([] if model is None else [model]))
        age_s = max(0.0, float(now) - float(oldest)) if oldest else 0.0
        return Depth(queued, running, age_s, tokens, size, float(due))

    def sweep(self, older_than_s: float) -> int:
        self._run("sweep_shares")
        dropped = kept_passed = others_passed = 0
        while True:
            ages = (older_than_s, min(older_than_s, FORGET_S))
            gone, kept, others, forgotten = self._run("sweep", *ages, kept_passed, others_passed, BITE)
            dropped, kept_passed, others_passed = dropped + gone, kept_passed + kept, others_passed + others
            if not (gone or kept or others or forgotten):
                return int(dropped)

    def keep_note(self, kind: str, id: str, in_s: float, blob: bytes) -> None:
        self._run("keep_note", kind, id, in_s, blob)

    def take_due(self, kind: str, lease_s: float, limit: int) -> list[tuple[str, bytes]]:
        return [(id.decode(), blob) for id, blob in self._run("take_due", kind, lease_s, limit)]

    def drop_note(self, kind: str, id: str) -> None:
        self._run("drop_note", kind, id)

    def check_integrity(self) -> list[str]:
        return [wrong.decode() for wrong in self._run("check")]

    def keep_up(self) -> None:
        """Redis rewrites its file by itself."""

    def close(self) -> None:
        self._link.close()

    def _run(self, name: str, *values: Any, again: Sequence[Any] = ()) -> Any:
        now = "" if self._clock is None else repr(self._clock.unix_s())
        return self._link.run(name, now, *values, again=(now, *again) if again else ())
