"""Folders and their sheets in Redis: see `folders.py`; one script a call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from freehold.ledger.folders import Fence, Folder, Sheet


class RedisFolders:
    """The part of `RedisLedger` that keeps files and batches."""

    def put_folder(self, folder: Folder) -> bool:
        named = (folder.id, folder.kind, folder.version)
        return bool(self._run("put_folder", *named, folder.tenant, folder.label, folder.until_unix_s) == 1)

    def folder(self, id: str) -> Folder | None:
        found = self._run("folder", id)
        return _folder(found) if found else None

    def folders(
        self, kind: str, tenant: str, limit: int, after: str | None = None, *, oldest_first: bool = False
    ) -> list[Folder]:
        order = "oldest" if oldest_first else "newest"
        return [_folder(row) for row in self._run("folders", kind, tenant, limit, after or "", order)]

    def drop_folder(self, id: str) -> bool:
        return bool(self._run("drop_folder", id) == 1)

    def add_sheets(self, id: str, sheets: Sequence[Sheet], fence: Fence | None = None) -> bool:
        return bool(
            self._run("add_sheets", id, *(fence or ("", 0)), *(value for sheet in sheets for value in sheet)) == 1
        )

    def sheets(self, id: str, after: int, most_bytes: int) -> list[Sheet]:
        return [(int(number), content) for number, content in self._run("sheets", id, after, most_bytes)]

    def sheet_numbers(self, id: str) -> list[int]:
        return [int(number) for number in self._run("sheet_numbers", id)]

    def folder_bytes(self) -> int:
        return int(self._run("folder_bytes"))

    def _run(self, name: str, *values: Any, again: Sequence[Any] = ()) -> Any:
        raise NotImplementedError


def _folder(row: Sequence[bytes]) -> Folder:
    id, kind, tenant, label, until, version, size = row
    return Folder(id.decode(), kind.decode(), tenant.decode(), label, float(until), int(version), int(size))
