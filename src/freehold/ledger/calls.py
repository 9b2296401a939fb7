"""The ledger's calls, awaited: one line each. `group.py` carries them to the thread that owns the connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from freehold.core import Json
from freehold.ledger.folders import Fence, Folder, Sheet
from freehold.ledger.protocol import Claim, Depth, Ended, Entry, Ledger, LetGo, Listed, Progress, State, Told

T = TypeVar("T")


class Calls(Protocol):
    """Same promises as `Ledger`'s methods of the same names."""

    async def _ask(self, call: Callable[[Ledger], T]) -> T: ...

    async def cancel(self, id: str) -> State | None:
        return await self._ask(lambda ledger: ledger.cancel(id))

    async def fetch(self, id: str) -> Entry | None:
        return await self._ask(lambda ledger: ledger.fetch(id))

    async def progress(self, id: str, have: Sequence[int] = ()) -> Told | None:
        return await self._ask(lambda ledger: ledger.progress(id, have))

    async def list_jobs(self, state: Listed | None = None, limit: int = 100, after: str | None = None) -> list[Entry]:
        return await self._ask(lambda ledger: ledger.list_jobs(state, limit, after))

    async def annotate(self, id: str, meta: Json) -> bool:
        return await self._ask(lambda ledger: ledger.annotate(id, meta))

    async def delete(self, id: str) -> bool:
        return await self._ask(lambda ledger: ledger.delete(id))

    async def expire(self) -> list[str]:
        return await self._ask(lambda ledger: ledger.expire())

    async def claim(self, owner: str, limit: int, model: str) -> list[Claim]:
        return await self._ask(lambda ledger: ledger.claim(owner, limit, model))

    async def abandon(self, owner: str, seen: Sequence[Progress] = ()) -> LetGo:
        return await self._ask(lambda ledger: ledger.abandon(owner, seen))

    async def checkpoint(self, parts: Sequence[Progress]) -> list[bool]:
        return await self._ask(lambda ledger: ledger.checkpoint(parts))

    async def reap(self) -> dict[str, LetGo]:
        return await self._ask(lambda ledger: ledger.reap())

    async def finish_all(self, ended: Sequence[Ended]) -> list[bool]:
        return await self._ask(lambda ledger: ledger.finish_all(ended))

    async def holders(self) -> list[tuple[str, str, bool]]:
        return await self._ask(lambda ledger: ledger.holders())

    async def depth(self, model: str | None = None) -> Depth:
        return await self._ask(lambda ledger: ledger.depth(model))

    async def sweep(self, older_than_s: float) -> int:
        return await self._ask(lambda ledger: ledger.sweep(older_than_s))

    async def keep_note(self, kind: str, id: str, in_s: float, blob: bytes) -> None:
        await self._ask(lambda ledger: ledger.keep_note(kind, id, in_s, blob))

    async def take_due(self, kind: str, lease_s: float, limit: int) -> list[tuple[str, bytes]]:
        return await self._ask(lambda ledger: ledger.take_due(kind, lease_s, limit))

    async def drop_note(self, kind: str, id: str) -> None:
        await self._ask(lambda ledger: ledger.drop_note(kind, id))

    async def put_folder(self, folder: Folder) -> bool:
        return await self._ask(lambda ledger: ledger.put_folder(folder))

    async def folder(self, id: str) -> Folder | None:
        return await self._ask(lambda ledger: ledger.folder(id))

    async def folders(
        self, kind: str, tenant: str, limit: int, after: str | None = None, *, oldest_first: bool = False
    ) -> list[Folder]:
        return await self._ask(lambda ledger: ledger.folders(kind, tenant, limit, after, oldest_first=oldest_first))

    async def drop_folder(self, id: str) -> bool:
        return await self._ask(lambda ledger: ledger.drop_folder(id))

    async def add_sheets(self, id: str, sheets: Sequence[Sheet], fence: Fence | None = None) -> bool:
        return await self._ask(lambda ledger: ledger.add_sheets(id, sheets, fence))

    async def sheets(self, id: str, after: int, most_bytes: int) -> list[Sheet]:
        return await self._ask(lambda ledger: ledger.sheets(id, after, most_bytes))

    async def sheet_numbers(self, id: str) -> list[int]:
        return await self._ask(lambda ledger: ledger.sheet_numbers(id))

    async def folder_bytes(self) -> int:
        return await self._ask(lambda ledger: ledger.folder_bytes())

    async def check_integrity(self) -> list[str]:
        return await self._ask(lambda ledger: ledger.check_integrity())
