"""POST /v1/files: the form is read as it comes, and the file goes sheet by sheet into the ledger.

Until its last byte is there the file is nobody's: what was cut off is never seen, and swept soon.
"""

from __future__ import annotations

import time

import msgspec

from freehold.errors import InvalidRequest, TooLarge
from freehold.gateway.batches.files import KIND, File, file_object
from freehold.gateway.batches.form import UploadForm
from freehold.gateway.body import DISCARD_BYTES, header
from freehold.gateway.call import Call, HeaderList, new_id
from freehold.gateway.desk import Desk
from freehold.gateway.errors import HttpError
from freehold.gateway.reader import ClientGone
from freehold.gateway.stream import Receive, Send, send_json
from freehold.ledger.folders import Folder

PATH = "/v1/files"
SHEET_BYTES = 128 << 10
UNFINISHED_S = 3600.0
LEAST_S, MOST_S = 3600, 2_592_000
"""Between which `expires_after` may lie, as with OpenAI."""
_FIELDS = ("purpose", "expires_after[anchor]", "expires_after[seconds]")


async def upload(desk: Desk, call: Call, headers: HeaderList, receive: Receive, send: Send) -> None:
    """The plain ASGI handler; it reads the body itself."""
    call.route = PATH
    body = _Body(receive)
    try:
        desk.check_open()
        folder = await _store(desk, call, headers, body)
    except (InvalidRequest, TooLarge, HttpError):
        await body.discard()  # so that the client sees why
        raise
    await send_json(send, msgspec.json.encode(file_object(folder)))


async def _store(desk: Desk, call: Call, headers: HeaderList, body: _Body) -> Folder:
    if header(headers, b"idempotency-key"):
        raise InvalidRequest("An upload takes no Idempotency-Key.", next="Leave it out.", param="Idempotency-Key")
    form = UploadForm(header(headers, b"content-type") or b"")
    folder = Folder(new_id("file-"), KIND, "", b"", time.time() + UNFINISHED_S)
    await desk.ledger.put_folder(folder)
    try:
        size = await _fill(desk, folder.id, form, body)
        until_unix_s = _until(form.fields, desk.server.keep_files_s)
        label = File(filename=form.filename, purpose=form.fields["purpose"], created_unix_s=int(time.time()))
        whole = Folder(folder.id, KIND, call.tenant, msgspec.msgpack.encode(label), until_unix_s, version=1, bytes=size)
        if not await desk.ledger.put_folder(whole):
            raise HttpError(408, "request_timeout", "The upload took too long.", next="Send it again.")
    except BaseException:
        desk.spawn(_forget(desk, folder.id))
        raise
    return whole


async def _forget(desk: Desk, id: str) -> None:
    await desk.ledger.drop_folder(id)


async def _fill(desk: Desk, id: str, form: UploadForm, body: _Body) -> int:
    """Write the file's bytes as they come; how many there were."""
    most_bytes = desk.server.max_file_mb << 20
    size = number = 0
    while (piece := await body.next()) is not None:
        form.feed(piece)
        if size + len(form.waiting) > most_bytes:
            most = f"At most {desk.server.max_file_mb} MiB are taken (server.max_file_mb)."
            raise TooLarge("The file is too large.", most, "Cut it into several.", param="file")
        while len(form.waiting) >= SHEET_BYTES:
            await _write(desk, id, number, bytes(form.waiting[:SHEET_BYTES]))
            del form.waiting[:SHEET_BYTES]
            size, number = size + SHEET_BYTES, number + 1
    form.finish()
    _check_fields(form.fields)
    if form.waiting:
        await _write(desk, id, number, bytes(form.waiting))
    size += len(form.waiting)
    if not size:
        raise InvalidRequest("The file is empty.", param="file")
    return size


async def _write(desk: Desk, id: str, number: int, content: bytes) -> None:
    if await desk.ledger.folder_bytes() + len(content) > desk.server.max_files_mb << 20:
        most = f"All files together may have {desk.server.max_files_mb} MiB (server.max_files_mb)."
        raise HttpError(507, "storage_full", "There is no room for the file.", most, "Delete some, or wait.")
    if not await desk.ledger.add_sheets(id, [(number, content)]):
        raise HttpError(408, "request_timeout", "The upload took too long.", next="Send it again.")


def _check_fields(fields: dict[str, str]) -> None:
    for name in fields:
        if name not in _FIELDS:
            raise InvalidRequest(f"Unknown parameter {name[:100]!r}.", next="Leave it out.", param=name)
    if fields.get("purpose") != "batch":
        why = "Files are the input of batches here."
        raise InvalidRequest("purpose: expected 'batch'.", why, "Send purpose=batch.", param="purpose")


def _until(fields: dict[str, str], keep_files_s: float) -> float:
    """When the file's time is over: as asked, and no later than files are kept here."""
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if (anchor is None) != (seconds is None) or (anchor or "created_at") != "created_at":
        said = "expires_after: expected anchor 'created_at' and seconds."
        raise InvalidRequest(said, param="expires_after")
    if seconds is None:
        return time.time() + keep_files_s
    if not seconds.isascii() or not seconds.isdigit() or not LEAST_S <= int(seconds[:20]) <= MOST_S:
        said = f"expires_after: expected {LEAST_S} to {MOST_S} seconds."
        raise InvalidRequest(said, param="expires_after")
    return time.time() + min(float(seconds), keep_files_s)


class _Body:
    """A request's body, piece by piece."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._more = True

    async def next(self) -> bytes | None:
        """None at the end. Raises `ClientGone`."""
        if not self._more:
            return None
        message = await self._receive()
        if message["type"] != "http.request":
            raise ClientGone
        self._more = message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        return piece

    async def discard(self) -> None:
        """Read on without keeping it, as far as is reasonable."""
        size = 0
        while size < DISCARD_BYTES and (piece := await self.next()) is not None:
            size += len(piece)
