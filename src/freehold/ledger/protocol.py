"""What a ledger promises, whatever stores it.

A request is `queued` from `accept` until a worker claims it, `running` until it ends, then `done`. Each claim has a
fencing number (`attempt`) that rises with every claim of the same request; a write of an older attempt is refused, so
a request has exactly one final result, and what was shown of it is continued, never told twice.

A claim belongs to an `owner`, one life of a worker (`pipe.owner`), and is good as long as the owner's lease: a
heartbeat (`renew`), not a fixed time in which a long answer must end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from freehold.core import Chunk, Json, Request, Result
from freehold.ledger.folders import Folders

State = Literal["queued", "running", "done"]
Listed = Literal["queued", "running", "done", "poisoned"]
Why = Literal["cancelled", "overdue", "lost"]
"""Why a worker must stop: somebody asked for it, its deadline passed, or the claim is no longer the worker's."""

STATES: tuple[State, ...] = ("queued", "running", "done")
MAX_DEATHS = 3
"""A request whose workers died this often is poison: it ends with `Poisoned`."""
FORGET_S = 600.0
"""How long an ended request can be resumed that nobody has read to its end; then a trace without content is left."""
KEY_S = 86_400.0
"""How long an idempotency key stands for its request."""
LEASE_S = 10.0
"""A claim's lease until `renew` asks for another."""
ALL_LOTS = (0, 100)


class Progress(msgspec.Struct, frozen=True):
    """Chunks of one request as one attempt made them, in order. Each carries tokens, an end, or both: by its offset a
    store tells what it has already."""

    id: str
    attempt: int
    chunks: Sequence[Chunk]


class Claim(msgspec.Struct, frozen=True):
    """One request handed to one worker."""

    request: Request
    attempt: int
    queued_ms: float
    given: tuple[Chunk, ...] = ()
    """What earlier attempts made of it: the answer goes on after these."""


class Entry(msgspec.Struct, frozen=True):
    """One request as the ledger knows it."""

    request: Request
    state: State
    attempt: int
    worker: str
    """The owner that claimed it last."""
    result: Result | None
    accepted_unix_s: float
    cancel_asked: bool
    deaths: int = 0
    """Workers that died of it, or with it."""


class Told(msgspec.Struct, frozen=True):
    """How far a request is, for a reader that has seen some of it."""

    state: State
    attempt: int
    chunks: tuple[Chunk, ...]
    """In order within each answer."""
    result: Result | None


class Ended(NamedTuple):
    """The end of a request as its worker reports it, with the chunks not checkpointed yet."""

    id: str
    attempt: int
    result: Result
    chunks: Sequence[Chunk] = ()


class LetGo(NamedTuple):
    """Ids of what an owner held, by what became of it."""

    requeued: list[str]
    poisoned: list[str]
    ended: list[str]
    """Cancelled, or complete: only the report of its end was missing."""


class Depth(msgspec.Struct, frozen=True):
    """How much lies in the ledger now."""

    queued: int
    running: int
    oldest_queued_s: float
    queued_tokens: int
    """By `order.cost_tokens`."""
    queued_bytes: int
    next_due_unix_s: float = math.inf
    """Of one model: the deadline of the request that is next; infinite for none."""


Later = list[Callable[[], None]]


class Ledger(Folders, Protocol):
    """Safe to use from several processes at once; one object belongs to one thread. Any method may raise `StoreError`;
    repeating the call is then safe, whether or not the first one was carried out."""

    def accept(
        self, requests: Sequence[Request], on_visible: Callable[[], None] | None = None, later: Later | None = None
    ) -> list[str]:
        """Append all, durably, in one transaction: when this returns they survive a power cut. `on_visible` is
        called a little earlier, when they can be claimed: work may begin while the disk is still at it, as long
        as nobody is told of it before. With `later`, a store may leave the last part to the caller, and appends it
        there: they survive once that call has returned, in any thread before `close`, and so does what came earlier.
        Returns the ids: its own for a new request; for one whose idempotency key is known, that of the request
        accepted before.
        Raises `Conflict` if an id is there already or a key came with another body, `InvalidRequest` if one holds
        a number over 64 bits (then none was added)."""
        ...

    def claim(self, owner: str, limit: int, model: str, lots: tuple[int, int] = ALL_LOTS) -> list[Claim]:
        """Take queued requests for `model` in order (`order.py`), marking them running. `limit` counts answers:
        a request takes `n` places; the first is taken however wide it is. Never one past its deadline. Every
        request has a lot from 0 to 99: only those from `lots[0]` to below `lots[1]` are taken. The owner's lease then
        lasts `LEASE_S` at least."""
        ...

    def renew(self, owner: str, lease_s: float = LEASE_S) -> None:
        """The owner lives, and what it holds stays its own for another `lease_s`."""
        ...

    def checkpoint(self, parts: Sequence[Progress]) -> list[bool]:
        """Append to what is known of running answers, all in one transaction, without waiting for the disk. False:
        another attempt has it or it has ended; stop working on it."""
        ...

    def finish(self, id: str, attempt: int, result: Result, chunks: Sequence[Chunk] = ()) -> bool:
        """Record the one final result. False if the attempt is outdated or the request has ended."""
        ...

    def finish_all(self, ended: Sequence[Ended]) -> list[bool]:
        """`finish` for several in one transaction (the end of a step)."""
        ...

    def delivered(self, ids: Sequence[str]) -> None:
        """The last byte of these answers has been sent: what need not be kept of them is dropped as soon as they
        have ended."""
        ...

    def cancel(self, id: str) -> State | None:
        """Ask for the end of a request. A queued one is done (cancelled) at once; a running one is marked
        so that its worker stops it. Returns the state before, None if unknown."""
        ...

    def expire(self) -> list[str]:
        """End every queued request whose deadline has passed with `DeadlinePassed`, and mark running ones so that their
        workers stop them. Returns the ids of those ended here, to exactly one caller, who tells the clients."""
        ...

    def cancelled(self, owner: str, ids: Sequence[str]) -> dict[str, Why]:
        """Which of `ids`, claimed by `owner`, must stop, and why."""
        ...

    def abandon(self, owner: str, seen: Sequence[Progress] = ()) -> LetGo:
        """That life is over (its process is gone): what it held goes back to the queue with one death more, and after
        `MAX_DEATHS` ends with `Poisoned`, kept for inspection. `seen` is what reached a gateway, perhaps more than
        was checkpointed: a later attempt goes on after it. One that was asked to end ends."""
        ...

    def reap(self) -> dict[str, LetGo]:
        """`abandon` for every owner whose lease is over."""
        ...

    def give_back(self, owner: str, parts: Sequence[Progress] = ()) -> LetGo:
        """`abandon` by the owner itself, in good health, at the end of a drain: no death is counted."""
        ...

    def holders(self) -> list[tuple[str, str, bool]]:
        """Every running request: who holds it, its id, and whether its result is kept."""
        ...

    def progress(self, id: str, have: Sequence[int] = ()) -> Told | None:
        """How far a request is. `have` is the number of tokens already had of each answer: chunks that end beyond it
        are given. None if it is unknown."""
        ...

    def fetch(self, id: str) -> Entry | None: ...

    def list_jobs(self, state: Listed | None = None, limit: int = 100, after: str | None = None) -> list[Entry]:
        """The newest requests first, without their content; `after` is the last id of the page before."""
        ...

    def annotate(self, id: str, meta: Json) -> bool:
        """Replace the request's `meta`."""
        ...

    def delete(self, id: str) -> bool:
        """Forget a finished request, and its idempotency key. False if it isn't there or hasn't ended."""
        ...

    def depth(self, model: str | None = None) -> Depth:
        """Of one model, or of all."""
        ...

    def sweep(self, older_than_s: float) -> int:
        """Drop results that ended longer ago than this, and the traces of requests that were not kept after
        `FORGET_S` at the latest (or with their idempotency key); returns how many. Folders whose time is over
        go too."""
        ...

    def keep_note(self, kind: str, id: str, in_s: float, blob: bytes) -> None:
        """Durably: something to be done `in_s` seconds from now. One with this kind and id is replaced."""
        ...

    def take_due(self, kind: str, lease_s: float, limit: int) -> list[tuple[str, bytes]]:
        """Id and blob of notes that are due. Each is due again in `lease_s`: of two takers one gets it, and if that one
        dies another does."""
        ...

    def drop_note(self, kind: str, id: str) -> None:
        """It is done."""
        ...

    def check_integrity(self) -> list[str]:
        """What is wrong with the stored state, in words; empty when all is well."""
        ...

    def keep_up(self) -> None:
        """Housekeeping, about once a second, from one process that nobody waits for."""
        ...

    def close(self) -> None: ...
