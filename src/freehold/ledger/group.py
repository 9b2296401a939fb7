"""The ledger for an event loop: one thread owns the connection, and whatever waits is committed together.

While one group is on its way to the disk the next one gathers, so a slow disk makes groups larger instead of
queues longer. Used by the gateway; workers call their ledger directly, in their own loop.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast

from freehold import log
from freehold.core import Json, Request
from freehold.errors import RequestError
from freehold.ledger.protocol import Claim, Depth, Ended, Entry, Ledger, LetGo, Listed, Progress, State, Told

T = TypeVar("T")

GROUP_REQUESTS = 256
"""Most accepts in one transaction: about 10 ms of write lock with ordinary prompts."""


_Call = Callable[[Ledger], Any]


class _Job:
    """One call that waits for the thread: an accept (`request`), an id that was `delivered`, or anything else."""

    __slots__ = ("answer", "call", "delivered", "error", "future", "request")

    def __init__(
        self,
        future: asyncio.Future[Any],
        request: Request | None = None,
        call: _Call | None = None,
        delivered: str = "",
    ) -> None:
        self.future = future
        self.request = request
        self.call = call
        self.delivered = delivered
        self.answer: Any = None
        self.error: Exception | None = None


class AsyncLedger:
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

    async def start(self) -> None:
        """Open the ledger in its thread. Raises `StoreError`."""
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.create_future()
        self._thread.start()
        await self._opened

    async def close(self) -> None:
        """Finish what was asked for, then close the ledger."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    async def accept(self, request: Request) -> str:
        """Durable when it returns; see `Ledger.accept` for the id. Raises `Conflict` or `InvalidRequest` for this
        request alone."""
        return cast(str, await self._put(request=request))

    def delivered(self, id: str) -> None:
        """Noted soon, together with others; nobody waits for it."""
        self._put(delivered=id)

    async def cancel(self, id: str) -> State | None:
        return await self._ask(lambda ledger: ledger.cancel(id))

    async def fetch(self, id: str) -> Entry | None:
        return await self._ask(lambda ledger: ledger.fetch(id))

    async def progress(self, id: str, have: Sequence[int] = ()) -> Told | None:
        return await self._ask(lambda ledger: ledger.progress(id, have))

    async def list_jobs(self, state: Listed | None = None, limit: int = 100, after: str | None = None) -> list[Entry]:
        return await self._ask(lambda ledger: ledger.list_jobs(state, limit, after))

    async def annotate(self, id: str, meta: Json) -> bool:
        return await self._ask(lambda ledger: ledger.annotate(id, meta))

    async def delete(self, id: str) -> bool:
        return await self._ask(lambda ledger: ledger.delete(id))

    async def expire(self) -> list[str]:
        return await self._ask(lambda ledger: ledger.expire())

    async def claim(self, owner: str, limit: int, model: str) -> list[Claim]:
        return await self._ask(lambda ledger: ledger.claim(owner, limit, model))

    async def abandon(self, owner: str, seen: Sequence[Progress] = ()) -> LetGo:
        return await self._ask(lambda ledger: ledger.abandon(owner, seen))

    async def checkpoint(self, parts: Sequence[Progress]) -> list[bool]:
        return await self._ask(lambda ledger: ledger.checkpoint(parts))

    async def reap(self) -> dict[str, LetGo]:
        return await self._ask(lambda ledger: ledger.reap())

    async def finish_all(self, ended: Sequence[Ended]) -> list[bool]:
        return await self._ask(lambda ledger: ledger.finish_all(ended))

    async def holders(self) -> list[tuple[str, str, bool]]:
        return await self._ask(lambda ledger: ledger.holders())

    async def depth(self, model: str | None = None) -> Depth:
        return await self._ask(lambda ledger: ledger.depth(model))

    async def sweep(self, older_than_s: float) -> int:
        return await self._ask(lambda ledger: ledger.sweep(older_than_s))

    async def keep_note(self, kind: str, id: str, in_s: float, blob: bytes) -> None:
        await self._ask(lambda ledger: ledger.keep_note(kind, id, in_s, blob))

    async def take_due(self, kind: str, lease_s: float, limit: int) -> list[tuple[str, bytes]]:
        return await self._ask(lambda ledger: ledger.take_due(kind, lease_s, limit))

    async def drop_note(self, kind: str, id: str) -> None:
        await self._ask(lambda ledger: ledger.drop_note(kind, id))

    async def check_integrity(self) -> list[str]:
        return await self._ask(lambda ledger: ledger.check_integrity())

    async def _ask(self, call: Callable[[Ledger], T]) -> T:
        return cast(T, await self._put(call=call))

    def _put(
        self, *, request: Request | None = None, call: _Call | None = None, delivered: str = ""
    ) -> asyncio.Future[Any]:
        assert self._loop is not None, "start() it first"
        job = _Job(self._loop.create_future(), request, call, delivered)
        self._jobs.put(job)
        return job.future

    # ---- below: in the thread --------------------------------------------------------------------

    def _serve(self) -> None:
        assert self._opened is not None
        opening = _Job(self._opened)
        try:
            ledger = self._open()
        except Exception as error:  # noqa: BLE001  start() raises it
            opening.error = error
            self._deliver([opening])
            return
        self._deliver([opening])
        try:
            while jobs := self._gather():
                _accept_together(ledger, [job for job in jobs if job.request is not None], self._tell_visible)
                _note_delivered(ledger, [job.delivered for job in jobs if job.delivered])
                for job in jobs:
                    if job.call is not None:
                        _run(job, job.call, ledger)
                self._deliver(jobs)
        finally:
            ledger.close()

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


def _run(job: _Job, call: _Call, ledger: Ledger) -> None:
    try:
        job.answer = call(ledger)
    except Exception as error:  # noqa: BLE001  the awaiting caller gets it
        job.error = error


def _note_delivered(ledger: Ledger, ids: Sequence[str]) -> None:
    """If it can't be noted now, `sweep` finds these later."""
    if not ids:
        return
    try:
        ledger.delivered(ids)
    except Exception as error:  # noqa: BLE001  the edge of a task: nobody awaits it
        log.event("ledger.failed", level="error", why=str(error))


def _accept_together(ledger: Ledger, jobs: Sequence[_Job], on_visible: Callable[[], None]) -> None:
    """One transaction for all. If one is refused (its id is taken), nothing was added: then each goes alone."""
    if not jobs:
        return
    requests = [job.request for job in jobs if job.request is not None]
    try:
        ids = ledger.accept(requests, on_visible)
    except RequestError as error:
        if len(jobs) == 1:
            jobs[0].error = error
            return
        for job in jobs:
            _accept_together(ledger, [job], on_visible)
    except Exception as error:  # noqa: BLE001  the awaiting callers get it
        for job in jobs:
            job.error = error
    else:
        for job, id in zip(jobs, ids, strict=True):
            job.answer = id
