"""What a gateway can't hear, where several hosts share a store: a worker whose connection broke though it may live, a
request that another gateway cancelled or let go. It is read in the ledger, which both sides reach.

The end of a connection over TCP is no death. A worker's own supervisor tells of that, or else its lease ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from functools import partial
from typing import TypeVar

from freehold import log
from freehold.errors import FreeholdError
from freehold.gateway.attach import catch_up
from freehold.gateway.desk import Desk
from freehold.gateway.fleet import Line
from freehold.gateway.insist import insist
from freehold.gateway.losses import OTHERS_S, let_go
from freehold.ledger.protocol import Progress
from freehold.pipe import life_of

T = TypeVar("T")
LOOK_S = 0.1
"""How often an answer is read in the ledger whose worker is out of reach; it gets there every 50 ms."""
WAITING_LOOK_S = 1.0
MOST_ASKED = 64
"""Requests, in one round."""


async def out_of_sight(desk: Desk, line: Line) -> None:
    """A worker's connection over TCP ended: what was shown of its answers goes into the ledger, and the rest is read
    there until it is back, or another has them."""
    mine = [(id, inbox) for id, inbox in desk.inboxes.items() if inbox.workers.get(id) is line]
    if mine:  # else it may well have left
        log.event("worker.out_of_sight", level="warning", worker=line.owner, running=len(mine))
    for id, inbox in mine:
        del inbox.workers[id]
    seen = [Progress(id, inbox.attempts[id], inbox.tail(id)) for id, inbox in mine] + desk.unrecorded.of(line)
    await insist(partial(desk.ledger.checkpoint, seen), lambda: desk.draining)


async def ended_elsewhere(desk: Desk, lives: Collection[str]) -> None:
    """A supervisor tells which of its workers' lives have ended: others go on with what they held."""
    fresh = set(lives) - desk.fleet.ended
    desk.fleet.ended |= fresh
    if not fresh:
        return
    holders = await insist(desk.ledger.holders, lambda: desk.draining)
    held = {owner for owner, _, _ in holders if life_of(owner) in fresh}
    if not held:
        return
    mine = [
        (id, inbox)
        for id, inbox in desk.inboxes.items()
        if (line := inbox.workers.get(id)) is not None and line.owner in held
    ]
    await desk.ledger.checkpoint([Progress(id, inbox.attempts[id], inbox.tail(id)) for id, inbox in mine])
    await asyncio.sleep(OTHERS_S)
    for owner in held:
        gone = await insist(partial(desk.ledger.abandon, owner), lambda: desk.draining)
        if any(gone):  # else another gateway was first
            await let_go(desk, owner, gone)


async def read_along(desk: Desk) -> None:
    """For ever: tell the readers of what can't be heard here what the ledger has of it."""
    next_waiting_s, round, looks, why = 0.0, 0, 0, ""
    while True:
        await asyncio.sleep(LOOK_S)
        round += 1
        try:
            unheard = [
                (id, inbox)
                for id, inbox in desk.inboxes.items()
                if id not in desk.waiting_ids and id not in inbox.workers
            ]
            for id, inbox in _some(unheard, round):
                await catch_up(desk, id, inbox, ask=round % 10 == 0)
            if time.monotonic() >= next_waiting_s:
                next_waiting_s, looks = time.monotonic() + WAITING_LOOK_S, looks + 1
                await _look_at_waiting(desk, looks)
            why = ""
        except FreeholdError as error:
            if str(error) != why:
                log.event("gateway.store", level="error", why=str(error))
            why = str(error)
            await asyncio.sleep(WAITING_LOOK_S)


async def _look_at_waiting(desk: Desk, round: int) -> None:
    """Somebody else may have ended what waits here, or a worker begun it that can't say so: some of them in turn, the
    overdue always."""
    waiting = [id for id in desk.inboxes if id in desk.waiting_ids]
    now_s = time.time()
    due = [id for id in waiting if (desk.inboxes[id].request_of(id).deadline_unix_s or now_s) < now_s]
    for id in [*due, *_some(waiting, round)][:MOST_ASKED]:
        inbox = desk.inboxes.get(id)
        if inbox is None or id not in desk.waiting_ids:
            continue
        told = await desk.ledger.progress(id)
        if told is None or told.state == "done" or (told.state == "running" and told.chunks):
            desk.waiting_ids.discard(id)
            desk.intake.begun(id, None, None)
            await catch_up(desk, id, inbox)


def _some(each: Sequence[T], round: int) -> Sequence[T]:
    """`MOST_ASKED` of them, others in each round."""
    if len(each) <= MOST_ASKED:
        return each
    start = round * MOST_ASKED % len(each)
    return [*each[start:], *each[:start]][:MOST_ASKED]
