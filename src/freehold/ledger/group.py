"""The ledger for an event loop: one thread owns the connection, and whatever waits is committed together.

While one group is on its way to the disk (`syncs.py`) the next ones are committed, and are synced together after it:
a slow disk makes groups larger instead of queues longer. Used by the gateway; workers call their ledger directly, in
their own loop.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

from freehold import log
from freehold.core import Request
from freehold.errors import RequestError, StoreAway
from freehold.ledger.calls import Calls
from freehold.ledger.protocol import Later, Ledger
from freehold.ledger.syncs import Syncs

T = TypeVar("T")

GROUP_REQUESTS = 256
"""Most accepts in one transaction: about 10 ms of write lock with ordinary prompts."""
NOTED_S = 0.05
"""What was delivered is noted together this often, out of the way of what is accepted."""


_Call = Callable[[Ledger], Any]


class _Job:
    """One call that waits for the thread: an accept (`request`), or anything else."""

    __slots__ = ("answer", "call", "error", "future", "request")

    def __init__(self, future: asyncio.Future[Any], request: Request | None = None, call: _Call | None = None) -> None:
        self.future = future
        self.request = request
        self.call = call
        self.answer: Any = None
        self.error: Exception | None = None


class AsyncLedger(Calls):
    """Same promises as the `Ledger` that `open` makes, awaited. Start and close it in the loop that uses it.

    A caller that is cancelled while it waits doesn't take its call back: the request may have been accepted.
    `on_visible` is called in the loop when workers can see what was accepted, while the disk is still at it.
    """

    def __init__(self, open: Callable[[], Ledger], on_visible: Callable[[], None] = lambda: None) -> None:
        self._open = open
        self.on_visible = on_visible
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._serve, name="ledger", daemon=True)
        self._opened: asyncio.Future[None] | None = None
        self._delivered: list[str] = []

    async def start(self) -> None:
        """Open the ledger in its thread. Raises `StoreError`; but one that is only away is opened when it is back, and
        until then every call raises `StoreAway`."""
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.create_future()
        self._thread.start()
        await self._opened

    async def close(self) -> None:
        """Finish what was asked for, then close the ledger."""
        self._note_delivered()
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def accept(self, request: Request) -> asyncio.Future[str]:
        """On its way at once, durable when awaited; see `Ledger.accept` for the id. Raises `Conflict` or
        `InvalidRequest` for this request alone."""
        return self._put(request=request)

    def delivered(self, id: str) -> None:
        """Noted soon, together with others; nobody waits for it."""
        assert self._loop is not None, "start() it first"
        if not self._delivered:
            self._loop.call_later(NOTED_S, self._note_delivered)
        self._delivered.append(id)

    async def _ask(self, call: Callable[[Ledger], T]) -> T:
        return cast(T, await self._put(call=call))

    def _note_delivered(self) -> None:
        ids, self._delivered = self._delivered, []
        if ids:
            self._put(call=lambda ledger: ledger.delivered(ids)).add_done_callback(_log_failure)

    def _put(self, *, request: Request | None = None, call: _Call | None = None) -> asyncio.Future[Any]:
        assert self._loop is not None, "start() it first"
        job = _Job(self._loop.create_future(), request, call)
        self._jobs.put(job)
        return job.future

    # ---- below: in the thread --------------------------------------------------------------------

    def _serve(self) -> None:
        assert self._opened is not None
        opening = _Job(self._opened)
        ledger: Ledger | None = None
        try:
            ledger = self._open()
        except StoreAway:
            pass  # every call tries again
        except Exception as error:  # noqa: BLE001  start() raises it
            opening.error = error
            self._deliver([opening])
            return
        self._deliver([opening])
        syncs = Syncs(self._synced)
        try:
            while jobs := self._gather():
                try:
                    ledger = ledger or self._open()
                except Exception as error:  # noqa: BLE001  the awaiting callers get it
                    self._fail(jobs, error)
                else:
                    self._work_off(ledger, syncs, jobs)
        finally:
            syncs.close()
            if ledger is not None:
                ledger.close()

    def _work_off(self, ledger: Ledger, syncs: Syncs[_Job], jobs: list[_Job]) -> None:
        """All that was gathered. A store that is away may take seconds to say so: then the rest isn't tried."""
        away = self._accept(ledger, syncs, [job for job in jobs if job.request is not None])
        calls = [job for job in jobs if job.call is not None]
        for job in calls:
            away = _run(job, ledger, away)
        self._deliver(calls)

    def _accept(self, ledger: Ledger, syncs: Syncs[_Job], jobs: list[_Job]) -> StoreAway | None:
        """One transaction for all. If one is refused (its id is taken), nothing was added: then each goes alone.
        Returns the error of a store that is away."""
        if not jobs:
            return None
        later: Later = []
        try:
            ids = ledger.accept([job.request for job in jobs if job.request is not None], self._tell_visible, later)
        except RequestError as error:
            if len(jobs) > 1:
                return [self._accept(ledger, syncs, [job]) for job in jobs][-1]
            self._fail(jobs, error)
        except Exception as error:  # noqa: BLE001  the awaiting callers get it
            self._fail(jobs, error)
            return error if isinstance(error, StoreAway) else None
        else:
            for job, id in zip(jobs, ids, strict=True):
                job.answer = id
            if later:
                syncs.put(jobs, later[-1])
            else:
                self._deliver(jobs)
        return None

    def _fail(self, jobs: list[_Job], error: Exception) -> None:
        for job in jobs:
            job.error = error
        self._deliver(jobs)

    def _synced(self, jobs: list[_Job], error: Exception | None) -> None:
        for job in jobs:
            job.error = error
        self._deliver(jobs)

    def _gather(self) -> list[_Job]:
        """Everything that waits; waits for something. Empty when it is time to close."""
        jobs: list[_Job] = []
        job = self._jobs.get()
        while job is not None:
            jobs.append(job)
            if len(jobs) == GROUP_REQUESTS or self._jobs.empty():
                return jobs
            job = self._jobs.get()
        if jobs:
            self._jobs.put(None)  # these first; the end is seen again in the next round
        return jobs

    def _tell_visible(self) -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self.on_visible)

    def _deliver(self, jobs: list[_Job]) -> None:
        if not jobs:
            return
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(_settle, jobs)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return


def _settle(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.answer)


def _run(job: _Job, ledger: Ledger, away: StoreAway | None) -> StoreAway | None:
    """`away`: why it isn't tried. Returns why the next one need not be."""
    assert job.call is not None
    try:
        if away is not None:
            raise away
        job.answer = job.call(ledger)
    except Exception as error:  # noqa: BLE001  the awaiting caller gets it
        job.error = error
        return error if isinstance(error, StoreAway) else None
    return None


def _log_failure(noted: asyncio.Future[Any]) -> None:
    """Nobody awaits it. If it can't be noted now, `sweep` finds these later."""
    if not noted.cancelled() and (error := noted.exception()) is not None:
        log.event("ledger.failed", level="error", why=str(error))
