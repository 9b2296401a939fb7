"""Takes up batches that nobody drives: new ones, and those whose gateway has died or left. A few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from freehold import log
from freehold.errors import FreeholdError
from freehold.gateway.batches.batch import ENDED, KIND
from freehold.gateway.batches.drive import Drive
from freehold.gateway.batches.hold import LEASE_S, Hold, Lost
from freehold.gateway.desk import Desk
from freehold.gateway.stream import Handler

LOOK_S = 0.5
AT_ONCE = 4
"""Batches that one gateway drives; the others wait for their turn."""


async def drive_batches(desk: Desk, handlers: Mapping[str, Handler]) -> None:
    """Until this gateway is about to leave; what it drives is then anybody's."""
    driving: set[str] = set()

    def room() -> int:
        """Lines that one batch may have on their way: its part of the share of all workers' places."""
        return max(1, int(places(desk) * desk.server.batch_share) // max(1, len(driving)))

    async def attend(id: str) -> None:
        try:
            await _drive(Drive(desk, handlers, hold := Hold(desk, id), room), hold, desk, id)
        except Lost:
            log.event("batch.lost", batch=id)
        except FreeholdError as error:  # the ledger's: once the lease is over it is taken up again
            log.event("batch.interrupted", level="error", batch=id, why=str(error))
        except Exception as error:  # noqa: BLE001  the edge of a task: one batch's bug isn't the gateway's end
            log.event("gateway.bug", level="error", error=error, batch=id)
        finally:
            driving.discard(id)

    async with asyncio.TaskGroup() as group:
        while not desk.draining:
            try:
                for id in await _due(desk, AT_ONCE - len(driving)):
                    if id not in driving:
                        driving.add(id)
                        group.create_task(attend(id))
            except FreeholdError as error:
                log.event("gateway.store", level="error", why=str(error))
            await asyncio.sleep(LOOK_S)


async def _due(desk: Desk, most: int) -> list[str]:
    """Batches to take up; none where nobody would answer their lines."""
    if most < 1 or desk.draining or not desk.fleet.models():
        return []
    return [id for id, _ in await desk.ledger.take_due(KIND, LEASE_S, most)]


async def _drive(drive: Drive, hold: Hold, desk: Desk, id: str) -> None:
    try:
        await hold.take()
    except Lost:  # deleted, or never made
        await desk.ledger.drop_note(KIND, id)
        return
    if hold.batch.status in ENDED or await drive.to_the_end():
        await desk.ledger.drop_note(KIND, id)


def places(desk: Desk) -> int:
    """Answers that all workers can make at once."""
    cards = (desk.fleet.card_of(worker) for worker in desk.fleet.lines)
    return sum(card.max_batch for card in cards if card is not None)
