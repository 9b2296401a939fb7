"""What becomes of requests whose worker is gone, whose deadline passed, or whom nobody is left to answer.

A worker's loss is no loss of its answers: what was shown of them here goes into the ledger, another worker goes on
after it, and the readers notice a pause.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Collection
from functools import partial

from freehold import log
from freehold.core import Failure, Result
from freehold.errors import FreeholdError, Unavailable
from freehold.gateway.attach import catch_up, waits_again
from freehold.gateway.desk import Desk
from freehold.gateway.fleet import Line
from freehold.gateway.insist import insist
from freehold.gateway.offers import unavailable
from freehold.ledger.protocol import Ended, LetGo, Progress
from freehold.pipe import Cancel, life_of

HOPELESS_S = 15.0
"""Waiting requests fail when nobody has been there to answer for this long."""
SWEEP_EVERY_S = 300.0
QUIET_S = 1.5
"""Of a request that a worker has begun: from here on the ledger is asked how far it is."""
MOST_ASKED = 64
"""Of quiet requests, in one round."""
MOST_REFUSED = 64
"""Of requests for a model that can't be loaded, in one transaction."""
OTHERS_S = 0.25
"""What other gateways have to save what they have shown in."""


async def worker_gone(desk: Desk, line: Line) -> None:
    """A worker's pipe ended: its requests are gone on with elsewhere, after what was shown here."""
    mine = [(id, inbox) for id, inbox in desk.inboxes.items() if inbox.workers.get(id) is line]
    seen = [Progress(id, inbox.attempts[id], inbox.tail(id)) for id, inbox in mine] + desk.unrecorded.of(line)
    if desk.name:  # others show its answers too, and save what they have when they miss it
        await insist(partial(desk.ledger.checkpoint, seen), lambda: desk.draining)
        await asyncio.sleep(OTHERS_S)
    gone = await insist(partial(desk.ledger.abandon, line.owner, seen), lambda: desk.draining)
    for id, inbox in mine:
        if inbox.workers.get(id) is line:
            del inbox.workers[id]
    await let_go(desk, line.owner, gone)
    for id, inbox in mine:
        if id not in gone.requeued and inbox.is_open(id):  # its end didn't arrive, or it was given back
            await catch_up(desk, id, inbox)


async def let_go(desk: Desk, owner: str, gone: LetGo) -> None:
    """An owner's claims are over."""
    for id in gone.requeued:
        inbox = desk.inboxes.get(id)
        line = inbox.workers.get(id) if inbox is not None else None
        if inbox is not None and (line is None or line.owner == owner):  # else another has begun it already
            inbox.workers.pop(id, None)
            waits_again(desk, id)
    for id in (*gone.poisoned, *gone.ended):
        if id in desk.inboxes:
            await catch_up(desk, id, desk.inboxes[id])
    desk.wake()
    log.event("worker.gone", level="warning", worker=owner, requeued=len(gone.requeued), poisoned=len(gone.poisoned))


async def orphans(desk: Desk, suspects: Collection[str]) -> set[str]:
    """Claims of earlier lives of this machine's workers, which ended while no gateway was there to see it. A life that
    holds requests, and isn't the one its supervisor knows, is a suspect (returned), and over if it was one a round ago.
    Claims of other hosts' workers end when their supervisor says so, or with their lease."""
    alive = desk.fleet.alive()
    if alive is None:
        return set()
    names = desk.fleet.own_names()
    held = {owner for owner, _, _ in await desk.ledger.holders()}
    gone = {owner for owner in held if life_of(owner) not in alive and owner.partition(":")[0] in names}
    for owner in gone.intersection(suspects):
        await let_go(desk, owner, await desk.ledger.abandon(owner))
    return gone


async def watch(desk: Desk, keep_results_s: float) -> None:
    """Once a second for ever: end leases, fail what nobody will answer, look after quiet requests, drop old results."""
    next_sweep_s = 0.0
    suspects: set[str] = set()
    while True:
        try:
            await _round(desk)
            suspects = await orphans(desk, suspects)
            if time.monotonic() >= next_sweep_s:
                next_sweep_s = time.monotonic() + SWEEP_EVERY_S
                await desk.ledger.sweep(keep_results_s)
        except FreeholdError as error:
            log.event("gateway.store", level="error", why=str(error))
        await asyncio.sleep(1.0)


async def _round(desk: Desk) -> None:
    if desk.inboxes and desk.fleet.hopeless(HOPELESS_S):
        why = desk.fleet.why_not_ready()
        give_up(desk, Unavailable("No worker is left to answer.", why, "Try again later.").failure())
    await desk.expire()
    await desk.unrecorded.look()
    await _refuse(desk)
    await _quiet(desk)
    for owner, gone in (await desk.ledger.reap()).items():
        await let_go(desk, owner, gone)


async def _refuse(desk: Desk) -> None:
    """End what waits for a model that can't be loaded, also what nobody waits for here; unless another machine serves
    it. Who asks later makes the supervisor try again."""
    claimant = f"gateway:{os.getpid()}"
    for model, failure in desk.fleet.offers.failed().items():
        if desk.fleet.crew(model):
            continue
        told = unavailable(model, failure).failure()
        while claims := await desk.ledger.claim(claimant, MOST_REFUSED, model):
            ended = [
                Ended(each.request.id, each.attempt, Result(failure=told, queued_ms=each.queued_ms)) for each in claims
            ]
            await desk.ledger.finish_all(ended)
            for claim in claims:
                desk.fail(claim.request.id, told)
        for id, inbox in list(desk.inboxes.items()):
            if id in desk.waiting_ids and inbox.request.model == model:  # another gateway has ended it
                await catch_up(desk, id, inbox)


async def _quiet(desk: Desk) -> None:
    """Requests that a worker has begun, and of which nothing was heard for a while: a worker that stands still may lose
    its lease, so what was shown goes into the ledger; and an end that got lost on the way is read there."""
    now_s = time.perf_counter()
    quiet = [
        (id, inbox)
        for id, inbox in desk.inboxes.items()
        if id not in desk.waiting_ids and now_s - inbox.heard_s > QUIET_S
    ][:MOST_ASKED]
    parts = [Progress(id, inbox.attempts[id], inbox.tail(id)) for id, inbox in quiet if id in inbox.attempts]
    if parts:
        await desk.ledger.checkpoint(parts)
    for id, inbox in quiet:
        inbox.heard_s = now_s
        await catch_up(desk, id, inbox)


def give_up(desk: Desk, failure: Failure) -> None:
    """End everything that is open here with `failure` (what goes on without a reader stays in the ledger)."""
    ids = [id for id, inbox in desk.inboxes.items() if not inbox.lasting]
    for id in ids:
        desk.tell(desk.inboxes[id].workers.get(id), Cancel(id))
        desk.fail(id, failure)
    desk.cancel_later(ids)
