"""What a ledger keeps beside requests: folders with a label and numbered sheets. A file is one, and so is a batch.

A label is replaced only by somebody who has read it as it is (`version`): of two who change it one is told no, and
reads it again. A sheet is written once: whoever writes it again changes nothing. So the lines of a batch are answered
exactly once, whoever drives it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec


class Folder(msgspec.Struct, frozen=True):
    """One thing that is kept for a tenant until its time is over. Those of nobody (`""`) are in no list."""

    id: str
    kind: str
    tenant: str
    label: bytes
    until_unix_s: float
    version: int = 0
    """How often it was put; 0: not yet."""
    bytes: int = 0
    """Of its sheets together, as the store counts them."""


Sheet = tuple[int, bytes]
"""A number and what stands there."""


Fence = tuple[str, int]
"""Id and version of a folder."""


class Folders(Protocol):
    """Part of `Ledger`. Any method may raise `StoreError`."""

    def put_folder(self, folder: Folder) -> bool:
        """Durably: a new one (version 0), or tenant, label and end of one that is there. False if its id is taken, or
        if it isn't there in that version (any more). What was written on its sheets before is durable then, too."""
        ...

    def folder(self, id: str) -> Folder | None: ...

    def folders(
        self, kind: str, tenant: str, limit: int, after: str | None = None, *, oldest_first: bool = False
    ) -> list[Folder]:
        """The newest first, or the oldest; `after` is the last id of the page before."""
        ...

    def drop_folder(self, id: str) -> bool:
        """Forget it with all its sheets. False if it isn't there."""
        ...

    def add_sheets(self, id: str, sheets: Sequence[Sheet], fence: Fence | None = None) -> bool:
        """Write sheets, all in one transaction; a number that is there stays as it is. False if the folder isn't there,
        or if another one doesn't stand in the version that `fence` names (any more): then nothing was written.
        Seen by everybody at once, durable with the next thing that is."""
        ...

    def sheets(self, id: str, after: int, most_bytes: int) -> list[Sheet]:
        """Sheets in order with numbers above `after`: one at least if there is one, then as many as fit."""
        ...

    def sheet_numbers(self, id: str) -> list[int]:
        """In order."""
        ...

    def folder_bytes(self) -> int:
        """Of all sheets of all folders."""
        ...
