"""What must reach the ledger although it is away just now: asked again until it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from freehold.errors import StoreAway

T = TypeVar("T")
AGAIN_S = 0.25


async def insist(ask: Callable[[], Awaitable[T]], is_over: Callable[[], bool]) -> T:
    """The answer of `ask`. Raises `StoreAway` too once `is_over`: nobody can wait any more."""
    while True:
        try:
            return await ask()
        except StoreAway:
            if is_over():
                raise
            await asyncio.sleep(AGAIN_S)
