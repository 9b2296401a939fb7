"""One who reads an inbox, chunk by chunk, from its beginning: a client, or whoever tells an answer again."""

from __future__ import annotations

import asyncio

from freehold.core import Chunk
from freehold.gateway.inbox import Inbox


class ClientGone(Exception):
    """The reader's own client has disconnected."""


class Reader:
    """One who reads an inbox, from its beginning."""

    __slots__ = ("_at", "_read_bytes", "_waiter", "cancels", "gone", "inbox")

    def __init__(self, inbox: Inbox, *, cancels: bool = False) -> None:
        """`cancels`: when the last such reader leaves, nobody wants the answer any more."""
        self.inbox = inbox
        self.cancels = cancels
        self.gone = False
        self._at = 0
        self._read_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        inbox.readers.append(self)
        inbox.came += 1

    @property
    def pending(self) -> bool:
        """Chunks wait to be taken."""
        return self._at < len(self.inbox.chunks)

    @property
    def unread_bytes(self) -> int:
        """About what it keeps in memory by not reading."""
        return self.inbox.told_bytes - self._read_bytes

    @property
    def done(self) -> bool:
        """There is nothing more to come."""
        return self.inbox.ended and not self.pending

    async def take(self) -> list[Chunk]:
        """All chunks that wait; waits for at least one. Raises `ClientGone`."""
        await self.first()
        chunks = self.inbox.chunks[self._at :] if self._at else list(self.inbox.chunks)
        self._at, self._read_bytes = len(self.inbox.chunks), self.inbox.told_bytes
        return chunks

    async def first(self) -> None:
        """Wait until there is something to take. Raises `ClientGone`."""
        while not self.pending and not self.gone:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self.gone:
            raise ClientGone

    def hang_up(self) -> None:
        """The client is gone: `take` raises from now on."""
        self.gone = True
        self.wake()

    def leave(self) -> None:
        if self in self.inbox.readers:
            self.inbox.readers.remove(self)

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
