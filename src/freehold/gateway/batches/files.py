"""Files as folders of the ledger: bytes on numbered sheets, what is told of them on the label."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from freehold.core import Json, Record
from freehold.errors import NotFound
from freehold.gateway.desk import Desk
from freehold.ledger.folders import Folder
from freehold.ledger.group import AsyncLedger

KIND = "file"
BITE_BYTES = 1 << 20
"""Of a file in memory at a time, for each who reads it."""


class File(Record, frozen=True):
    """The label of a file's folder."""

    filename: str
    purpose: str
    created_unix_s: int


def file_of(folder: Folder) -> File:
    return msgspec.msgpack.decode(folder.label, type=File)


def file_object(folder: Folder) -> Json:
    """OpenAI's `file`."""
    file = file_of(folder)
    return {
        "id": folder.id,
        "object": "file",
        "bytes": folder.bytes,
        "created_at": file.created_unix_s,
        "expires_at": int(folder.until_unix_s),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


async def find(desk: Desk, id: str, kind: str, tenant: str, *, param: str | None = None) -> Folder:
    """A tenant's own file or batch. Raises `NotFound`."""
    folder = await desk.ledger.folder(id)
    if folder is None or (folder.kind, folder.tenant) != (kind, tenant):
        why = "It never was, was deleted, or its time is over."
        raise NotFound(f"There is no {kind} {id[:100]!r}.", why, param=param)
    return folder


async def page_of(
    desk: Desk, kind: str, tenant: str, limit: int, after: str | None, *, oldest_first: bool = False
) -> tuple[list[Folder], bool]:
    """A page of a tenant's files or batches, and whether there are more. Raises `NotFound` for `after`."""
    if after is not None:
        await find(desk, after, kind, tenant, param="after")
    found = await desk.ledger.folders(kind, tenant, limit + 1, after, oldest_first=oldest_first)
    return found[:limit], len(found) > limit


async def files_of(
    desk: Desk, tenant: str, purpose: str | None, limit: int, after: str | None, *, oldest_first: bool
) -> tuple[list[Folder], bool]:
    """A page of a tenant's files, of one purpose if it is named."""
    rows: list[Folder] = []
    more = True
    while more and len(rows) <= limit:
        found, more = await page_of(desk, KIND, tenant, limit, after, oldest_first=oldest_first)
        rows += [folder for folder in found if purpose in (None, file_of(folder).purpose)]
        after = found[-1].id if found else None
    return rows[:limit], more or len(rows) > limit


def list_object(rows: list[Json], *, more: bool) -> Json:
    """OpenAI's page of a list."""
    first, last = (rows[0]["id"], rows[-1]["id"]) if rows else (None, None)
    return {"object": "list", "data": rows, "first_id": first, "last_id": last, "has_more": more}


async def pieces(ledger: AsyncLedger, id: str) -> AsyncIterator[bytes]:
    """All bytes of a file, in order."""
    after = -1
    while page := await ledger.sheets(id, after, BITE_BYTES):
        after = page[-1][0]
        yield b"".join(content for _, content in page)
