"""Drives one batch from wherever it stands to its end: look at the file, ask the lines, publish what came.

A bounded number of lines is on its way at a time, in the order of the file. What they answered is written with the
number of its line, together with others, and only then forgotten elsewhere; a driver that takes over leaves out the
numbers that are there, and asks the rest again under the same keys.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping

import msgspec

from freehold import log
from freehold.gateway.batches.answer import Answered, answer, key_of
from freehold.gateway.batches.batch import Batch, Status, become, unanswered_line
from freehold.gateway.batches.check import check, lines_of
from freehold.gateway.batches.files import KIND as FILE
from freehold.gateway.batches.files import File
from freehold.gateway.batches.hold import LEASE_S, Hold
from freehold.gateway.batches.lines import Complaint, read_line
from freehold.gateway.call import new_id
from freehold.gateway.desk import Desk
from freehold.gateway.stream import Handler
from freehold.gateway.webhooks import keep_webhook
from freehold.ledger.folders import Folder, Sheet

BEAT_S = LEASE_S / 4
WRITE_S = 0.25
"""Answers are written together, this often."""
GROUP = 500
"""Lines that are reported unanswered in one write."""


class Drive:
    """One batch and its lines on the way. `room()`: how many may be."""

    def __init__(self, desk: Desk, handlers: Mapping[str, Handler], hold: Hold, room: Callable[[], int]) -> None:
        self._desk = desk
        self._handlers = handlers
        self._hold = hold
        self._room = room
        self._running: set[asyncio.Task[Answered]] = set()
        self._answered: list[Answered] = []
        self._good: set[int] = set()
        self._bad: set[int] = set()
        self._full = False
        self._beat_s = self._written_s = time.monotonic()

    async def to_the_end(self) -> bool:
        """False if this gateway is about to leave: another one goes on. Raises `Lost` or `StoreError`."""
        try:
            await self._hold.renew()
            if self._hold.batch.status == "validating":
                await self._begin()
            if self._hold.batch.status in ("in_progress", "cancelling") and not await self._ask_lines():
                return False
            if self._hold.batch.status in ("finalizing", "cancelling"):
                await self._publish()
        finally:
            for task in self._running:
                task.cancel()  # the requests themselves go on
        return True

    # ---- the file --------------------------------------------------------------------------------

    async def _begin(self) -> None:
        batch = self._hold.batch
        total, complaints = await check(self._desk, batch)
        if complaints:
            await self._end(lambda now: become(now, "failed", complaints=complaints))
            return
        output, error = new_id("file-"), new_id("file-")
        until_unix_s = batch.expires_unix_s + self._desk.server.keep_files_s
        for id in (output, error):
            await self._desk.ledger.put_folder(Folder(id, FILE, "", b"", until_unix_s))

        def begun(now: Batch) -> Batch:
            now = msgspec.structs.replace(now, total=total, output_id=output, error_id=error)
            return now if now.status == "cancelling" else become(now, "in_progress")

        await self._hold.change(begun)

    # ---- the lines -------------------------------------------------------------------------------

    async def _ask_lines(self) -> bool:
        """Until every line has an answer, or no more are wanted."""
        batch = self._hold.batch
        if batch.output_id:  # else it was cancelled before it had begun
            self._good = set(await self._desk.ledger.sheet_numbers(batch.output_id))
            self._bad = set(await self._desk.ledger.sheet_numbers(batch.error_id))
        rest = lines_of(self._desk, batch, self._good | self._bad)
        outcome = await self._until_answered(rest)
        if outcome is None:
            await self._write()
            await self._hold.let_go()
            return False
        if outcome != "completed":
            await self._stop_lines()
        await self._write()
        if outcome == "expired":
            await self._report_rest()
        await self._finalize(outcome)
        return True

    async def _until_answered(self, rest: AsyncIterator[tuple[int, bytes]]) -> Status | None:
        """What the batch ends as; None if somebody else has to go on with it."""
        at_end = False
        while True:
            if (outcome := self._over()) is not None or self._desk.draining:
                return outcome
            while not at_end and not self._full and len(self._running) < self._room():
                at_end = not await self._start(rest)
            if at_end and not self._running:
                return "completed"
            if self._running:
                await asyncio.wait(self._running, timeout=WRITE_S, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(WRITE_S)
            self._collect()
            if time.monotonic() - self._written_s > WRITE_S:
                await self._write()
            if time.monotonic() - self._beat_s > BEAT_S:
                await self._beat()

    def _over(self) -> Status | None:
        if self._hold.batch.status == "cancelling":
            return "cancelled"
        return "expired" if time.time() >= self._hold.batch.expires_unix_s else None

    async def _start(self, rest: AsyncIterator[tuple[int, bytes]]) -> bool:
        """Ask the next line; False if there is none."""
        async for number, text in rest:
            line = read_line(text)
            work = answer(self._handlers, self._hold.batch, number, line)
            self._running.add(asyncio.create_task(work, name=key_of(self._hold.batch.id, number)))
            return True
        return False

    def _collect(self) -> None:
        done = {task for task in self._running if task.done()}
        self._running -= done
        answered = [task.result() for task in done]
        for each in answered:
            self._desk.observe.left(each.call)
        self._answered += answered

    async def _write(self) -> None:
        """Put what was answered into the files. Only then is it forgotten where it was made."""
        self._written_s = time.monotonic()
        answered, self._answered = self._answered, []
        if not answered:
            return
        batch = self._hold.batch
        for id, known, good in ((batch.output_id, self._good, True), (batch.error_id, self._bad, False)):
            sheets: list[Sheet] = [(each.number, each.text) for each in answered if each.good == good]
            await self._hold.write(id, sheets)
            known.update(number for number, _ in sheets)
        for each in answered:
            for request_id in each.call.asked:
                await self._desk.ledger.delete(request_id)

    async def _beat(self) -> None:
        """Show that it goes on, and how far it is; hear whether it shall."""
        self._beat_s = time.monotonic()
        await self._hold.renew()
        await self._hold.change(self._counted)
        full = await self._desk.ledger.folder_bytes() > self._desk.server.max_files_mb << 20
        if full and not self._full:
            log.event("batch.no_room", level="warning", batch=self._hold.batch.id)
        self._full = full

    def _counted(self, batch: Batch) -> Batch:
        return msgspec.structs.replace(batch, completed=len(self._good), failed=len(self._bad))

    async def _stop_lines(self) -> None:
        """What is on its way is wanted no more."""
        self._collect()
        for task in self._running:
            task.cancel()
        self._running.clear()
        key = key_of(self._hold.batch.id, "")
        ours = [id for id, inbox in self._desk.inboxes.items() if (inbox.request.idempotency_key or "").startswith(key)]
        for id in ours:
            await self._desk.cancel(id)

    async def _report_rest(self) -> None:
        """The lines for which the time didn't suffice, in the error file."""
        batch = self._hold.batch
        group: list[Sheet] = []
        async for number, text in lines_of(self._desk, batch, self._good | self._bad):
            group.append((number, unanswered_line(batch, number, read_line(text).custom_id)))
            self._bad.add(number)
            if len(group) == GROUP:
                await self._hold.write(batch.error_id, group)
                await self._hold.renew()
                group = []
        await self._hold.write(batch.error_id, group)

    # ---- the end ---------------------------------------------------------------------------------

    async def _finalize(self, outcome: Status) -> None:
        answered = len(self._good) + len(self._bad)
        gone: tuple[Complaint, ...] = ()
        if outcome in ("completed", "expired") and answered < self._hold.batch.total:
            outcome, gone = "failed", (Complaint(code="input_file_gone", message="The input file was deleted."),)

        def answered_so_far(now: Batch) -> Batch:
            now = msgspec.structs.replace(self._counted(now), outcome=outcome, complaints=gone)
            return now if outcome == "cancelled" else become(now, "finalizing")

        await self._hold.change(answered_so_far)

    async def _publish(self) -> None:
        """Now the files are their tenant's."""
        batch = self._hold.batch
        for id, number, name in (
            (batch.output_id, batch.completed, "output"),
            (batch.error_id, batch.failed, "error"),
        ):
            folder = await self._desk.ledger.folder(id)
            if folder is None or folder.tenant:
                continue
            if not number:
                await self._desk.ledger.drop_folder(id)
                continue
            file = File(
                filename=f"{batch.id}_{name}.jsonl", purpose="batch_output", created_unix_s=int(time.time())
            )  # fmt: skip
            until_unix_s = time.time() + (batch.output_lasts_s or self._desk.server.keep_files_s)
            label = msgspec.msgpack.encode(file)
            await self._desk.ledger.put_folder(
                msgspec.structs.replace(folder, tenant=batch.tenant, label=label, until_unix_s=until_unix_s)
            )
        await self._end(lambda now: become(now, now.outcome))

    async def _end(self, change: Callable[[Batch], Batch]) -> None:
        batch = self._hold.batch
        if batch.webhook is not None:
            await keep_webhook(self._desk, batch.id, *batch.webhook)
        await self._hold.change(change)
        log.event("batch.ended", batch=batch.id, status=self._hold.batch.status, lines=batch.total)
