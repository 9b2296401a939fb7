"""Folders and their sheets in the SQLite file: see `folders.py`."""

from __future__ import annotations

from collections.abc import Sequence

from freehold.clock import Clock
from freehold.ledger.folders import Fence, Folder, Sheet
from freehold.ledger.tables import Tables

BITE = 64
"""Sheets read at once: of a file's, several MiB."""
BITES = 32
"""Of sheets that are cleared in one round of `keep_up`, each in a transaction of its own."""


class SqliteFolders:
    """The part of `SqliteLedger` that keeps files and batches."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock

    def put_folder(self, folder: Folder) -> bool:
        end = {"label": folder.label, "tenant": folder.tenant, "until": folder.until_unix_s}
        with self._tables.write():
            if folder.version == 0:
                found = self._tables.run("new_folder", id=folder.id, kind=folder.kind, **end)
            else:
                named = {"id": folder.id, "kind": folder.kind, "version": folder.version}
                found = self._tables.run("put_folder", **named, **end)
        self._tables.sync()
        return bool(found)

    def folder(self, id: str) -> Folder | None:
        return next((Folder(*row) for row in self._tables.read("folder", id=id)), None)

    def folders(
        self, kind: str, tenant: str, limit: int, after: str | None = None, *, oldest_first: bool = False
    ) -> list[Folder]:
        asked = {"kind": kind, "tenant": tenant, "limit": limit, "after": after}
        if oldest_first:
            return [Folder(*row) for row in self._tables.read("oldest_folders", **asked)]
        return [Folder(*row) for row in self._tables.read("newest_folders", **asked)]

    def drop_folder(self, id: str) -> bool:
        with self._tables.write():
            dropped = self._tables.run("drop_folder", id=id)
        self._tables.sync()
        return bool(dropped)

    def sweep_folders(self) -> None:
        """Drop those whose time is over."""
        with self._tables.write():
            self._tables.run("drop_ended_folders", now=self._clock.unix_s())

    def clear_folders(self) -> None:
        """Take away some of what dropped folders have left."""
        bites = BITES
        for (seq,) in self._tables.read("gone_folders"):
            while bites and self._clear_some(seq):
                bites -= 1

    def _clear_some(self, seq: int) -> bool:
        with self._tables.write():
            if self._tables.run("clear_sheets", seq=seq):
                return True
            self._tables.run("clear_folder", seq=seq)
            return False

    def add_sheets(self, id: str, sheets: Sequence[Sheet], fence: Fence | None = None) -> bool:
        with self._tables.write():
            if fence is not None and not self._tables.run("stands", id=fence[0], version=fence[1]):
                return False
            for (seq,) in self._tables.run("folder_seq", id=id):
                added = [
                    length
                    for number, content in sheets
                    for (length,) in self._tables.run("add_sheet", seq=seq, number=number, content=content)
                ]
                self._tables.run("count_bytes", seq=seq, bytes=sum(added))
                return True
        return False

    def sheets(self, id: str, after: int, most_bytes: int) -> list[Sheet]:
        found: list[Sheet] = []
        size = 0
        while page := self._tables.read("sheets", id=id, after=found[-1][0] if found else after, limit=BITE):
            for number, content in page:
                size += len(content)
                if found and size > most_bytes:
                    return found
                found.append((number, content))
        return found

    def sheet_numbers(self, id: str) -> list[int]:
        return [number for (number,) in self._tables.read("sheet_numbers", id=id)]

    def folder_bytes(self) -> int:
        ((size,),) = self._tables.read("folder_bytes")
        return int(size)
