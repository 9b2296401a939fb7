"""The first thing done with a batch: its input file is read whole, and every line is looked at."""

from __future__ import annotations

from collections.abc import AsyncIterator

from freehold.gateway.batches.batch import Batch
from freehold.gateway.batches.files import pieces
from freehold.gateway.batches.lines import Checker, Complaint, Cutter
from freehold.gateway.desk import Desk


async def check(desk: Desk, batch: Batch) -> tuple[int, tuple[Complaint, ...]]:
    """How many lines there are, and what is wrong with them."""
    checker = Checker(batch.endpoint, desk.server.max_batch_lines, desk.server.max_body_bytes)
    cutter = Cutter(desk.server.max_body_bytes)
    async for piece in pieces(desk.ledger, batch.input_file_id):
        checker.look(cutter.feed(piece))
        if checker.over:
            break
    else:
        checker.look(cutter.end())
        checker.end()
    return checker.lines, tuple(checker.complaints)


async def lines_of(desk: Desk, batch: Batch, skip: set[int]) -> AsyncIterator[tuple[int, bytes]]:
    """Number and text of each line of a checked file, but those in `skip`."""
    cutter = Cutter(desk.server.max_body_bytes)
    async for piece in pieces(desk.ledger, batch.input_file_id):
        for number, text in cutter.feed(piece):
            if number not in skip and text is not None:
                yield number, text
    for number, text in cutter.end():
        if number not in skip and text is not None:
            yield number, text
