"""Tells a response that is being answered now, to any number of readers, and waits for what the ledger records.

A worker records a kept answer before it tells its end, so nothing is missing in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec

from freehold.core import Chunk
from freehold.errors import ResumeFailed
from freehold.gateway.desk import Desk
from freehold.gateway.reader import ClientGone, Reader
from freehold.gateway.responses.events import Writer
from freehold.gateway.responses.object import Outcome, outcome_of
from freehold.gateway.usage import Counter
from freehold.ledger.protocol import Entry


async def tell(reader: Reader, writer: Writer, desk: Desk) -> AsyncIterator[bytes]:
    """The events that `writer` makes of an answer, from its beginning to its end. Raises `ClientGone`."""
    out: list[bytes] = []
    counter = Counter()
    outcome: Outcome | None = None
    with desk.followers.following(reader.hang_up):
        try:
            writer.begin(out)
            while outcome is None:
                if out:
                    yield b"".join(out)
                    out.clear()
                if desk.followers.cut is not None:
                    reader.hang_up()
                for chunk in await reader.take():
                    counter.add(chunk)
                    writer.feed(chunk.text, chunk.logprobs, out)
                    outcome = outcome or end_of(chunk, counter)
            keep = reader.inbox.request.keep
            writer.end(await as_recorded(desk, writer.id, outcome) if keep else outcome, out)
        except ResumeFailed as error:
            writer.cut_off(error.failure(), out)
        except ClientGone:
            if desk.followers.cut is None:
                raise
            writer.cut_off(desk.followers.cut, out)
    yield b"".join(out)


def end_of(chunk: Chunk, counter: Counter) -> Outcome | None:
    if chunk.finish is None and chunk.failure is None:
        return None
    return Outcome(finish=chunk.finish or "error", usage=counter.total(), failure=chunk.failure)


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


async def tell_kept(writer: Writer, entry: Entry) -> AsyncIterator[bytes]:
    """The events of a response that has ended."""
    out: list[bytes] = []
    answer, outcome = outcome_of(entry)
    writer.begin(out)
    writer.feed(answer.text, answer.logprobs, out)
    writer.end(outcome, out)
    yield b"".join(out)
