"""What a ledger promises, whatever stores it.

A request is `queued` from `accept` until a worker claims it, `running` until it ends, then `done`. Each
claim has a fencing number (`attempt`) that rises with every claim of the same request; `finish` from an
older attempt is refused, so a request has exactly one final result.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Literal, Protocol

import msgspec

from freehold.core import Failure, Json, Request, Result

State = Literal["queued", "running", "done"]

MAX_ATTEMPTS = 3
"""A request whose worker died this often before showing anything is not tried again."""

FORGET_S = 600.0
"""An ended request that is not kept leaves a trace without content for this long."""


class Claim(msgspec.Struct, frozen=True):
    """One request handed to one worker."""

    request: Request
    attempt: int
    queued_ms: float


class Entry(msgspec.Struct, frozen=True):
    """One request as the ledger knows it."""

    request: Request
    state: State
    attempt: int
    worker: str
    result: Result | None
    accepted_unix_s: float
    cancel_asked: bool


class Depth(msgspec.Struct, frozen=True):
    """How much lies in the ledger now."""

    queued: int
    running: int
    oldest_queued_s: float


class Ledger(Protocol):
    """Safe to use from several processes at once; one object belongs to one thread."""

    def accept(self, requests: Sequence[Request], on_visible: Callable[[], None] | None = None) -> None:
        """Append all, durably, in one transaction: when this returns they survive a power cut. `on_visible` is
        called a little earlier, when they can be claimed: work may begin while the disk is still at it, as long
        as nobody is told of it before.
        Raises `Conflict` if an id is there already, `InvalidRequest` if one holds a number over 64 bits (then
        none was added)."""
        ...

    def claim(self, worker: str, limit: int) -> list[Claim]:
        """Take queued requests in order (`order.py`), marking them running. `limit` counts answers:
        a request takes `n` places; the first is taken however wide it is. Never one past its deadline."""
        ...

    def expire(self) -> list[str]:
        """End every queued request whose deadline has passed with `DeadlinePassed`. Returns their ids, to
        exactly one caller, who tells the clients."""
        ...

    def finish(self, id: str, attempt: int, result: Result) -> bool:
        """Record the one final result. False if the attempt is outdated or the request has ended."""
        ...

    def finish_all(self, ended: Sequence[tuple[str, int, Result]]) -> list[bool]:
        """`finish` for several in one transaction (the end of a step)."""
        ...

    def cancel(self, id: str) -> State | None:
        """Ask for the end of a request. A queued one is done (cancelled) at once; a running one is marked
        so that its worker stops it. Returns the state before, None if unknown."""
        ...

    def cancelled(self, worker: str, ids: Sequence[str]) -> list[str]:
        """Which of `ids`, claimed by `worker`, must stop: asked to end, or taken away from it."""
        ...

    def abandon(self, worker: str, shown: Collection[str], failure: Failure) -> tuple[list[str], list[str]]:
        """A worker is gone: one life of it (`pipe.owner`), or all lives of that name. Of its running requests
        those not in `shown` (no token of them has reached a gateway) go back to the queue, unless this was
        try number `MAX_ATTEMPTS` (then it fails, and says how often it was tried); the others end with
        `failure`. One that was asked to end just ends, cancelled. Returns (requeued ids, failed ids)."""
        ...

    def recover(self, failure: Failure) -> tuple[list[str], list[str]]:
        """`abandon` for whoever holds anything, shown to nobody: for a supervisor that has started no worker yet."""
        ...

    def holders(self) -> list[tuple[str, str, bool]]:
        """Every running request: who holds it, its id, and whether its result is kept."""
        ...

    def fetch(self, id: str) -> Entry | None: ...

    def annotate(self, id: str, meta: Json) -> bool:
        """Replace the request's `meta`."""
        ...

    def delete(self, id: str) -> bool:
        """Forget a finished request. False if it isn't there or hasn't ended."""
        ...

    def depth(self) -> Depth: ...

    def sweep(self, older_than_s: float) -> int:
        """Drop results that ended longer ago than this, and the traces of requests that were not kept after
        `FORGET_S` at the latest; returns how many."""
        ...

    def check_integrity(self) -> list[str]:
        """What is wrong with the stored state, in words; empty when all is well."""
        ...

    def close(self) -> None: ...
