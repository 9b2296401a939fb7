"""A gateway's hold on one batch: its label is changed only by whoever has read it last, so that of several gateways
one drives it, and every write of one that has lost it is refused.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

import msgspec

from freehold.gateway.batches.batch import KIND, Batch, batch_of, encode
from freehold.gateway.desk import Desk
from freehold.ledger.folders import Folder, Sheet

LEASE_S = 4.0
"""A batch whose gateway hasn't been heard of for this long is taken over."""


class Lost(Exception):
    """Another gateway drives the batch, or it is gone."""


class Hold:
    """`batch` as it stands in the ledger. Every method may raise `Lost` or `StoreError`."""

    def __init__(self, desk: Desk, id: str) -> None:
        self._desk = desk
        self._id = id
        self._driver = secrets.token_hex(8)
        self._folder: Folder | None = None
        self.batch: Batch

    async def take(self) -> None:
        """From now on whoever drove it before is refused."""
        await self._read()
        await self.change(lambda batch: msgspec.structs.replace(batch, driver=self._driver), mine=False)

    async def change(self, change: Callable[[Batch], Batch], *, mine: bool = True) -> None:
        """Replace the label, with the changes that others have made meanwhile."""
        while True:
            assert self._folder is not None
            changed = change(self.batch)
            if changed == self.batch:
                await self._read(mine=mine)
                return
            label = encode(changed)
            version = self._folder.version
            if await self._desk.ledger.put_folder(msgspec.structs.replace(self._folder, label=label)):
                self._folder = msgspec.structs.replace(self._folder, label=label, version=version + 1)
                self.batch = changed
                return
            await self._read(mine=mine)

    async def renew(self) -> None:
        """It is still driven."""
        await self._desk.ledger.keep_note(KIND, self._id, LEASE_S, b"")

    async def write(self, folder_id: str, sheets: list[Sheet]) -> None:
        """Write what can't be taken back, as long as the batch is ours."""
        while sheets:
            assert self._folder is not None
            if await self._desk.ledger.add_sheets(folder_id, sheets, (self._id, self._folder.version)):
                return
            before = self._folder.version
            await self._read(mine=True)
            if self._folder.version == before:
                raise Lost  # the batch is as it was: it is the folder that is gone

    async def let_go(self) -> None:
        """Somebody else may go on at once."""
        await self._desk.ledger.keep_note(KIND, self._id, 0.0, b"")

    async def _read(self, *, mine: bool = False) -> None:
        folder = await self._desk.ledger.folder(self._id)
        if folder is None:
            raise Lost
        batch = batch_of(folder)
        if mine and batch.driver != self._driver:
            raise Lost
        self._folder, self.batch = folder, batch
