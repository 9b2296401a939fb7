"""The card of the model that a call asks for. It comes first: without it a request can't be checked, nor accepted."""

from __future__ import annotations

import time

from freehold.core import ModelCard
from freehold.errors import DeadlinePassed
from freehold.gateway.call import Call
from freehold.gateway.desk import Desk


async def card_of(desk: Desk, model: str | None, call: Call) -> ModelCard:
    """None: of the only or first one. Waits while nothing is known of it, at most until the call's deadline. Raises
    `ModelNotFound`, `Unavailable` or `DeadlinePassed`; nothing was accepted then."""
    desk.intake.check_served()
    offers = desk.fleet.offers
    if offers and (model is None or model in offers):
        return await _offered(desk, model or offers.first(), call.deadline_unix_s)
    return await desk.fleet.card(model)


async def _offered(desk: Desk, model: str, due_unix_s: float | None) -> ModelCard:
    """Of one that is loaded when somebody asks for it."""
    while True:
        desk.fleet.offers.check(model)
        if (card := desk.fleet.models().get(model)) is not None:
            return card
        desk.check_open()
        wait_s = 1.0 if due_unix_s is None else min(1.0, due_unix_s - time.time())
        if wait_s <= 0:
            raise DeadlinePassed(f"The deadline passed while {model!r} was loaded.", next="Ask for more time.")
        desk.supervisor.want(model)
        await desk.fleet.change(wait_s)
