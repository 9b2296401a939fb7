"""Background responses that are being answered now: their text so far, for any number of readers.

The ledger keeps what ended; this keeps what is under way, in the gateway that accepted it. A worker records a kept
answer before it tells its end, so nothing is missing in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec

from freehold.core import Chunk, TokenLogprob
from freehold.gateway.desk import Desk
from freehold.gateway.inbox import RESTART, Inbox
from freehold.gateway.responses.events import Writer
from freehold.gateway.responses.object import Outcome, outcome_of
from freehold.gateway.usage import Counter
from freehold.ledger.protocol import Entry


class Live:
    """One answer as it grows. `push` is told every chunk, as it comes."""

    def __init__(self, at_end: Callable[[], None]) -> None:
        self.inbox: Inbox | None = None
        self.pieces: list[tuple[str, tuple[TokenLogprob, ...] | None]] = []
        self.outcome: Outcome | None = None
        self._at_end = at_end
        self._counter = Counter()
        self._changed = asyncio.Event()

    def push(self, chunk: Chunk) -> None:
        self._counter.add(chunk)
        if chunk.choice == RESTART:
            self.pieces.clear()
            return
        if chunk.text or chunk.logprobs:
            self.pieces.append((chunk.text, chunk.logprobs))
        if chunk.finish is not None or chunk.failure is not None:
            self.outcome = Outcome(finish=chunk.finish or "error", usage=self._counter.total(), failure=chunk.failure)
            self._at_end()
        self._wake()

    async def tell(self, writer: Writer, desk: Desk) -> AsyncIterator[bytes]:
        """The events that `writer` makes of it, until the end."""
        out: list[bytes] = []
        writer.begin(out)
        told = 0
        with desk.following(self._wake):
            while True:
                changed = self._changed
                for text, logprobs in self.pieces[told:]:
                    writer.feed(text, logprobs, out)
                if told < len(self.pieces) and self.inbox is not None:
                    self.inbox.shown = True
                told = len(self.pieces)
                if self.outcome is not None:
                    writer.end(await as_recorded(desk, writer.id, self.outcome), out)
                elif desk.cut is not None:
                    writer.cut_off(desk.cut, out)
                if out:
                    yield b"".join(out)
                    out.clear()
                if self.outcome is not None or desk.cut is not None:
                    return
                await changed.wait()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


async def until_done(desk: Desk, id: str, longest_s: float = 2.0) -> Entry | None:
    """The ledger's entry once it has ended; as it is then, if that takes longer than `longest_s`."""
    wait_s = 0.001
    while True:
        entry = await desk.ledger.fetch(id)
        if entry is None or entry.state == "done" or longest_s <= 0:
            return entry
        await asyncio.sleep(wait_s)
        longest_s -= wait_s
        wait_s = min(wait_s * 2, 0.1)


async def as_recorded(desk: Desk, id: str, outcome: Outcome) -> Outcome:
    """`outcome` with the time of its end that the ledger has, so that a kept response never changes afterwards."""
    entry = await until_done(desk, id, 0.5)
    if entry is None or entry.state != "done":
        return outcome
    return msgspec.structs.replace(outcome, ended_unix_s=outcome_of(entry)[1].ended_unix_s)


async def tell_kept(writer: Writer, desk: Desk) -> AsyncIterator[bytes]:
    """The events of a response that the ledger holds; waits for its end if another gateway accepted it."""
    out: list[bytes] = []
    writer.begin(out)
    with desk.following(lambda: None):
        while True:
            entry = await until_done(desk, writer.id, 1.0)
            if entry is None:
                return
            if entry.state == "done":
                break
            if desk.cut is not None:
                writer.cut_off(desk.cut, out)
            if out:
                yield b"".join(out)
                out.clear()
            if desk.cut is not None:
                return
    answer, outcome = outcome_of(entry)
    writer.feed(answer.text, answer.logprobs, out)
    writer.end(outcome, out)
    yield b"".join(out)
