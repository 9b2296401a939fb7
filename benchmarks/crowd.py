"""A crowd of clients with deadlines: each sends when the schedule says, whatever the server does, hangs up when its
time is over, and, if told to, comes back once when a refusal says so. Times count from the intended send.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import uvloop

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
_AFTER_MS = re.compile(rb"retry-after-ms: (\d+)", re.IGNORECASE)
_END = b"\r\n0\r\n\r\n"
_TOKENS = re.compile(rb'"completion_tokens": ?(\d+)')
HANG_UP_LATE_S = 0.02
"""A client waits this much longer than its deadline, so that the server's own word for it can be heard."""


@dataclass(slots=True)
class Try:
    """One request. Seconds since the start of the run; 0 for what never came."""

    due_s: float
    intended_s: float
    again: bool = False
    sent_s: float = 0.0
    status: int = 0
    first_s: float = 0.0
    end_s: float = 0.0
    tokens: int = 0
    retry_after_s: float | None = None

    @property
    def good(self) -> bool:
        """Answered whole and in time."""
        return self.status == 200 and 0 < self.end_s <= self.due_s and self.tokens > 0

    @property
    def refused(self) -> bool:
        return self.status in (429, 503)


@dataclass(slots=True)
class Crowd:
    """`body(number)` makes a request's body. `deadline_header`: the server is told the deadline."""

    port: int
    body: Callable[[int], bytes]
    deadline_s: float
    deadline_header: bool
    comes_back: bool
    tries: list[Try] = field(default_factory=list)
    _start_s: float = 0.0

    def run(self, arrivals: Sequence[float]) -> list[Try]:
        """Everybody's tries, in no order."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._all(arrivals))
        return self.tries

    async def _all(self, arrivals: Sequence[float]) -> None:
        self._start_s = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number, at_s in enumerate(arrivals):
                group.create_task(self._one(number, at_s))

    def _now_s(self) -> float:
        return time.perf_counter() - self._start_s

    async def _one(self, number: int, at_s: float) -> None:
        first = await self._send(number, Try(due_s=at_s + self.deadline_s, intended_s=at_s))
        if self.comes_back and first.refused and first.retry_after_s is not None:
            at_s = first.end_s + first.retry_after_s
            await self._send(number, Try(due_s=at_s + self.deadline_s, intended_s=at_s, again=True))

    async def _send(self, number: int, one: Try) -> Try:
        await asyncio.sleep(max(0.0, one.intended_s - self._now_s()))
        self.tries.append(one)
        left_s = one.due_s - self._now_s() + HANG_UP_LATE_S
        try:
            await asyncio.wait_for(self._exchange(self.body(number), one), left_s)
        except (TimeoutError, OSError):
            one.end_s = 0.0
        return one

    async def _exchange(self, body: bytes, one: Try) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            one.sent_s = self._now_s()
            head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: application/json\r\n"
            if self.deadline_header:
                head += f"x-freehold-deadline-ms: {max(1, round((one.due_s - one.sent_s) * 1000))}\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            await self._read(reader, one)
        finally:
            writer.transport.abort()  # hanging up is part of the test: no polite end

    async def _read(self, reader: asyncio.StreamReader, one: Try) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        found, after = _STATUS.match(head), _AFTER_MS.search(head)
        one.status = int(found[1]) if found else 0
        one.retry_after_s = int(after[1]) / 1000 if after else None
        if one.status != 200:
            one.end_s = self._now_s()
            return
        tail = b""
        while data := await reader.read(1 << 16):
            if not one.first_s and b"data:" in data:
                one.first_s = self._now_s()
            tail = (tail + data)[-2048:]
            if tail.endswith(_END):
                break
        counts = _TOKENS.findall(tail)
        one.tokens = int(counts[-1]) if counts else 0
        one.end_s = self._now_s()


def poisson(rate: float, seconds: float, seed: int = 1) -> list[float]:
    """Arrival times of an open loop."""
    dice, at_s, times = random.Random(seed), 0.0, []
    while (at_s := at_s + dice.expovariate(rate)) < seconds:
        times.append(at_s)
    return times
