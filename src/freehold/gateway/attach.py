"""Takes up requests that this gateway doesn't know yet, or lost sight of: from the ledger, and from their worker."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from freehold.core import Result
from freehold.errors import NotFound
from freehold.gateway.inbox import Inbox
from freehold.gateway.retold import retold
from freehold.pipe import Follow

if TYPE_CHECKING:
    from freehold.gateway.desk import Desk


async def attached(desk: Desk, ids: Sequence[str], resumable_s: float) -> Inbox:
    """A new inbox with everything that was made of the requests. Raises `NotFound`."""
    entries = [await desk.ledger.fetch(id) for id in ids]
    requests = [entry.request for entry in entries if entry is not None]
    if len(requests) != len(ids):
        raise unknown(ids[0])
    if (inbox := desk.inboxes.get(ids[0])) is not None:  # somebody else came first
        return inbox
    inbox = Inbox(requests, lasting=requests[0].keep, resumable_s=resumable_s)
    known = [entry for entry in entries if entry is not None]
    inbox.taken_up = True
    inbox.accepted_s -= max(0.0, time.time() - min(entry.accepted_unix_s for entry in known))
    inbox.noted = all(entry.state == "done" for entry in known)  # it had its row, or will
    desk.inboxes |= dict.fromkeys(ids, inbox)
    for id in ids:
        await catch_up(desk, id, inbox)
    return inbox


async def catch_up(desk: Desk, id: str, inbox: Inbox, *, ask: bool = True) -> None:
    """Read in the ledger how far a request is: what is missing here, and its end if it has ended unheard. `ask`: also
    whoever works on it, if that isn't known."""
    told = await desk.ledger.progress(id, inbox.have(id))
    if not inbox.is_open(id):
        return
    if told is None:
        desk.fail(id, NotFound(f"The request {id[:100]!r} is gone.", "It was deleted.").failure())
        return
    if told.attempt >= inbox.attempts.get(id, 0):
        for chunk in told.chunks:
            desk.push(inbox, chunk)
    if told.attempt > inbox.attempts.get(id, told.attempt):  # whoever had it has lost it
        inbox.workers.pop(id, None)
    if told.state == "running" and id not in inbox.workers and ask:
        desk.tell(None, Follow(id, desk.name))
    elif told.state == "queued" and id not in inbox.workers:
        waits_again(desk, id)
    elif told.state == "done" and inbox.is_open(id):
        for chunk in retold(id, inbox, told.result or Result()):
            desk.push(inbox, chunk)


def waits_again(desk: Desk, id: str) -> None:
    """Nobody works on it: it is in the queue."""
    desk.waiting_ids.add(id)
    desk.intake.requeued(id)


def unknown(id: str) -> NotFound:
    return NotFound(f"There is no request {id[:100]!r}.", "It never was, or its time is over.")
