"""Brings notices to their receivers: each has a line of its own, so one that is dead holds up nobody else.

What a receiver hasn't had stays in its line, and on the disk, and is tried again with longer and longer pauses: hours,
days, and after a restart. It gets everything in order, each thing at least once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable

from freehold import log
from freehold.core import Record
from freehold.gateway.alert_store import Waiting
from freehold.gateway.notify_forms import Notice
from freehold.gateway.notify_send import Receiver, Undelivered, repeat, send
from freehold.gateway.webhooks import pause_s
from freehold.telemetry.alerts import Alert

MOST_WAITING = 1000
UNFIT_TRIES = 3
LONGEST_PAUSE_S = 900.0
REPEAT_S = 60.0


class Outcome(Record, frozen=True):
    """What became of a test."""

    kind: str
    host: str
    delivered: bool
    why: str = ""


class Line:
    """What one receiver is still to be told, oldest first."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.waiting: deque[Notice] = deque()
        self.trouble = ""
        """Why it doesn't get through at the moment."""
        self.delivered_unix_s: float | None = None
        self.woken = asyncio.Event()

    def put(self, notice: Notice) -> Notice | None:
        """The one that is dropped for it, if too many wait."""
        dropped = self.waiting.popleft() if len(self.waiting) >= MOST_WAITING else None
        self.waiting.append(notice)
        self.woken.set()
        return dropped


class Notifier:
    """`put` from the event loop; `run` for ever."""

    def __init__(
        self, receivers: Iterable[Receiver], firing: Callable[[], list[Alert]], server: str,
        stored: Callable[[list[Waiting]], None], done: Callable[[Waiting], None],
    ) -> None:  # fmt: skip
        """`firing`: what has been told and isn't over. `stored` and `done` keep the copy on the disk."""
        self.lines = {each.kind: Line(each) for each in receivers}
        self._firing = firing
        self._server = server
        self._stored = stored
        self._done = done

    def resume(self, waiting: Iterable[Waiting]) -> None:
        """What an earlier gateway left. A receiver that is no longer set gets nothing."""
        for each in waiting:
            if each.receiver in self.lines:
                self.lines[each.receiver].put(each.notice)
            else:
                self._done(each)

    def put(self, notice: Notice) -> None:
        self._stored([Waiting(kind, notice) for kind in self.lines])
        for kind, line in self.lines.items():
            dropped = line.put(notice)
            if dropped is not None:
                log.event("alerts.dropped", level="error", receiver=kind, why=f"{MOST_WAITING} notices wait for it.")
                self._done(Waiting(kind, dropped))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for line in self.lines.values():
                group.create_task(self._serve(line))
                if line.receiver.kind == "alertmanager":
                    group.create_task(self._repeat(line))

    async def test(self, notice: Notice) -> list[Outcome]:
        """One try with each receiver, at once and past what waits."""
        return list(await asyncio.gather(*(_try(line.receiver, notice) for line in self.lines.values())))

    async def _serve(self, line: Line) -> None:
        tries = 0
        while True:
            if not line.waiting:
                line.woken.clear()
                await line.woken.wait()
            notice = line.waiting[0]
            try:
                await send(line.receiver, notice)
                line.trouble, line.delivered_unix_s = "", time.time()
            except Undelivered as error:
                tries += 1
                line.trouble = str(error)
                given_up = error.unfit and tries >= UNFIT_TRIES
                event = "alerts.not_taken" if given_up else "alerts.undelivered"
                log.event(event, level="warning", receiver=line.receiver.kind, tries=tries, why=str(error))
                if not given_up:
                    await asyncio.sleep(min(LONGEST_PAUSE_S, max(pause_s(tries), error.retry_after_s or 0.0)))
                    continue
            tries = 0
            if line.waiting and line.waiting[0] is notice:
                line.waiting.popleft()
            self._done(Waiting(line.receiver.kind, notice))

    async def _repeat(self, line: Line) -> None:
        """An Alertmanager forgets what it isn't told again."""
        while True:
            await asyncio.sleep(REPEAT_S)
            firing = self._firing()
            if firing and not line.waiting:
                try:
                    await repeat(line.receiver, firing, self._server)
                    line.trouble = ""
                except Undelivered as error:
                    line.trouble = str(error)


async def _try(receiver: Receiver, notice: Notice) -> Outcome:
    try:
        await send(receiver, notice)
    except Undelivered as error:
        return Outcome(kind=receiver.kind, host=receiver.host, delivered=False, why=str(error))
    return Outcome(kind=receiver.kind, host=receiver.host, delivered=True)
