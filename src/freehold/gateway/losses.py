"""What becomes of requests whose worker is gone, whose deadline passed, or whom nobody is left to answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterator

from freehold import log
from freehold.core import Answer, Chunk, Failure, Result
from freehold.errors import DeadlinePassed, FreeholdError, Unavailable, WorkerDied
from freehold.gateway.desk import Desk
from freehold.gateway.fleet import Line
from freehold.gateway.inbox import RESTART
from freehold.ledger.protocol import Ended
from freehold.pipe import Cancel

HOPELESS_S = 15.0
"""Waiting requests fail when nobody has been there to answer for this long."""
SWEEP_EVERY_S = 300.0


async def worker_gone(desk: Desk, line: Line) -> None:
    """A worker's pipe ended: its unseen requests begin anew elsewhere, the shown ones fail."""
    shown = list(desk.lately_ended.pop(line.owner, ()))
    for id, inbox in desk.inboxes.items():
        if inbox.workers.get(id) is line:
            if inbox.shown:
                shown.append(id)
            else:
                inbox.drop(id)
    failure = WorkerDied(
        "The worker died while answering.",
        f"The connection to {line.worker!r} was lost.",
        "Send the request again.",
    ).failure()
    requeued = await _abandon(desk, line.owner, shown, failure)
    await _settle(desk, line, set(requeued))


async def _abandon(desk: Desk, owner: str, shown: Collection[str], failure: Failure) -> list[str]:
    """What a dead worker held is begun anew or ends. Returns the ids of the former."""
    failed = [id for id in shown if await _end(desk, id, owner, failure)]
    requeued, poisoned, _ = await desk.ledger.abandon(owner)
    failed += poisoned
    for id in requeued:
        if id in desk.inboxes:
            desk.inboxes[id].restart(id)
            desk.waiting_ids.add(id)
    for id in failed:
        entry = await desk.ledger.fetch(id) if id in desk.inboxes else None
        desk.fail(id, (entry.result.failure if entry and entry.result else None) or failure)
    desk.wake()
    log.event("worker.gone", level="warning", worker=owner, requeued=len(requeued), failed=len(failed))
    return requeued


async def _end(desk: Desk, id: str, owner: str, failure: Failure) -> bool:
    """A request that can't begin anew ends, if it is still the dead worker's."""
    entry = await desk.ledger.fetch(id)
    if entry is None or entry.state != "running" or entry.worker != owner:
        return False
    result = Result(cancelled=True) if entry.cancel_asked else Result(failure=failure)
    return (await desk.ledger.finish_all([Ended(id, entry.attempt, result)]))[0] and not entry.cancel_asked


async def orphans(desk: Desk, suspects: Collection[str]) -> set[str]:
    """Requests of workers that ended while no gateway was there to see it. Whoever holds requests and isn't alive is
    a suspect (returned), and given up if it was one a round ago. An answer that is kept begins anew; any other had
    its reader at a gateway that is gone."""
    if desk.fleet.alive() is None:
        return set()
    held = await desk.ledger.holders()
    gone = {owner for owner, _, _ in held} - (desk.fleet.alive() or set())
    for owner in gone.intersection(suspects):
        shown = [id for holder, id, keep in held if holder == owner and _unread(desk, id, keep)]
        failure = WorkerDied("The worker died while answering.", next="Send the request again.").failure()
        await _abandon(desk, owner, shown, failure)
    return gone


def _unread(desk: Desk, id: str, keep: bool) -> bool:
    """Something of it was shown, or nobody is there to be shown it."""
    inbox = desk.inboxes.get(id)
    return inbox.shown if inbox is not None else not keep


async def watch(desk: Desk, keep_results_s: float) -> None:
    """Once a second for ever: fail what nobody will answer, drop results past their time."""
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
    for id in await desk.ledger.expire():
        late = DeadlinePassed("The deadline passed while the request waited.", next="Ask for more time.")
        desk.fail(id, late.failure())


def give_up(desk: Desk, failure: Failure) -> None:
    """End everything that is open here with `failure` (asynchronous requests stay in the ledger)."""
    ids = [id for id, inbox in desk.inboxes.items() if not inbox.silent]
    for id in ids:
        desk.tell(desk.inboxes[id].workers.get(id), Cancel(id))
        desk.fail(id, failure)
    desk.cancel_later(ids)


async def _settle(desk: Desk, line: Line, requeued: set[str]) -> None:
    """Requests that the dead worker had finished, but whose last chunks were lost with its pipe."""
    for id, inbox in list(desk.inboxes.items()):
        if id in requeued or inbox.workers.get(id, line) is not line:
            continue
        entry = await desk.ledger.fetch(id)
        if entry is None or entry.state != "done" or id not in desk.inboxes:
            continue
        result = entry.result
        if inbox.shown or result is None or result.failure or result.cancelled:
            lost = WorkerDied("The end of the answer was lost with its worker.", next="Send it again.").failure()
            desk.fail(id, (result.failure if result else None) or lost)
            continue
        desk.deliver(Chunk(id, RESTART, 0, 0, ""), line)
        for chunk in _retold(id, result):
            desk.deliver(chunk, line)


def _retold(id: str, result: Result) -> Iterator[Chunk]:
    """A result that was kept, as the chunks that were lost: one an answer."""
    for i, answer in enumerate(result.answers or (Answer(),)):
        chunk = Chunk(id, i, 0, 0, answer.text, answer.logprobs, answer.finish, stop=answer.stop)
        chunk.embeddings = result.embeddings
        if i == 0:
            chunk.usage, chunk.tokens = result.usage, result.usage.completion_tokens
        yield chunk
