"""The routes of files and batches. Each tenant sees its own."""

from __future__ import annotations

import hashlib
import time
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse

from freehold.errors import Conflict, InvalidRequest
from freehold.gateway.batches import batch as batches
from freehold.gateway.batches import files
from freehold.gateway.batches.batch import Batch, batch_object, batch_of, become
from freehold.gateway.batches.files import file_object, file_of, find, list_object, page_of
from freehold.gateway.batches.hold import LEASE_S
from freehold.gateway.batches.upload import LEAST_S, MOST_S
from freehold.gateway.batches.wire import (
    BatchList,
    BatchReply,
    BatchRequest,
    DeletedFile,
    FileList,
    FileReply,
    window_s,
)
from freehold.gateway.call import Call, new_id
from freehold.gateway.desk import Desk
from freehold.gateway.docs import READING, errors
from freehold.gateway.routing import Caller, reply
from freehold.gateway.stream import Handler, Receive, Send, send_json
from freehold.gateway.webhooks import checked
from freehold.gateway.wire_errors import parse
from freehold.ledger.folders import Folder

PRIORITY = 50
"""Of a batch's lines, unless its key's own is later still: whoever waits for an answer goes first."""

_After = Annotated[str | None, Query(max_length=256, description="Last id of the page before.")]
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "additionalProperties": False,
                    "properties": {
                        "file": {"type": "string", "format": "binary", "minLength": 1},
                        "purpose": {"type": "string", "enum": ["batch"]},
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {"type": "integer", "minimum": LEAST_S, "maximum": MOST_S},
                    },
                }
            }
        },
    }
}


def files_router(desk: Desk) -> APIRouter:
    """All routes under /v1/files; the upload itself is `upload.py`."""
    router = APIRouter(prefix="/v1/files")
    known = errors(*READING, 404, 503)

    @router.post(
        "", response_model=FileReply, responses=errors(*READING, 413, 503, 507), operation_id="create_file",
        openapi_extra=_FORM,
    )  # fmt: skip
    async def create_file() -> None:
        """Upload a file of requests for a batch: one JSON object a line."""

    @router.get("", response_model=FileList, responses=known, operation_id="list_files")
    async def list_files(
        call: Caller,
        purpose: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
        order: Literal["asc", "desc"] = "desc",
        after: _After = None,
    ) -> Response:
        """Uploaded files and those that batches wrote."""
        page = await files.files_of(desk, call.tenant, purpose, limit, after, oldest_first=order == "asc")
        return reply(list_object([file_object(folder) for folder in page[0]], more=page[1]))

    _add_file(router, desk)
    return router


def _add_file(router: APIRouter, desk: Desk) -> None:
    known = errors(*READING, 404, 503)

    @router.get("/{id}", response_model=FileReply, responses=known, operation_id="get_file")
    async def get_file(id: str, call: Caller) -> Response:
        """What is known of a file."""
        return reply(file_object(await find(desk, id, files.KIND, call.tenant)))

    content: dict[int | str, dict[str, Any]] = {
        200: {"description": "Its bytes.", "content": {"application/octet-stream": {}}}
    }

    @router.get("/{id}/content", response_class=Response, responses=known | content, operation_id="get_file_content")
    async def get_file_content(id: str, call: Caller) -> Response:
        """A file's bytes."""
        folder = await find(desk, id, files.KIND, call.tenant)
        told = {
            "content-length": str(folder.bytes),
            "content-disposition": "attachment",
            "x-content-type-options": "nosniff",
        }
        kind = "application/octet-stream"
        return StreamingResponse(files.pieces(desk.ledger, id), media_type=kind, headers=told)

    @router.delete("/{id}", response_model=DeletedFile, responses=known | errors(413), operation_id="delete_file")
    async def delete_file(id: str, call: Caller) -> Response:
        """Forget a file. A batch that still reads it fails, with what was answered until then."""
        await find(desk, id, files.KIND, call.tenant)
        await desk.ledger.drop_folder(id)
        return reply({"id": id, "object": "file", "deleted": True})


def batches_router(desk: Desk) -> APIRouter:
    """All routes under /v1/batches; creating one is `create_route`."""
    router = APIRouter(prefix="/v1/batches")
    known = errors(*READING, 404, 503)

    @router.post(
        "", response_model=BatchReply, responses=errors(*READING, 404, 409, 413, 503), operation_id="create_batch"
    )
    async def create_batch(body: BatchRequest) -> None:
        """Have every line of an uploaded file answered, behind everybody who waits, within the completion window."""

    @router.get("", response_model=BatchList, responses=known, operation_id="list_batches")
    async def list_batches(
        call: Caller, after: _After = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
    ) -> Response:
        """The newest first."""
        found, more = await page_of(desk, batches.KIND, call.tenant, limit, after)
        return reply(list_object([batch_object(batch_of(folder)) for folder in found], more=more))

    @router.get("/{id}", response_model=BatchReply, responses=known, operation_id="get_batch")
    async def get_batch(id: str, call: Caller) -> Response:
        """How far a batch is, and its files once it has ended."""
        return reply(batch_object(batch_of(await find(desk, id, batches.KIND, call.tenant))))

    @router.post(
        "/{id}/cancel", response_model=BatchReply, responses=known | errors(409, 413), operation_id="cancel_batch"
    )
    async def cancel_batch(id: str, call: Caller) -> Response:
        """Ask no more lines. What was answered until then is in the output file."""
        return reply(batch_object(await _cancel(desk, id, call)))

    return router


def create_route(desk: Desk) -> Handler:
    """The plain ASGI handler of POST /v1/batches."""

    async def create_batch(call: Call, body: bytes, receive: Receive, send: Send) -> None:
        wanted = parse(BatchRequest, body)
        desk.check_open()
        await send_json(send, msgspec.json.encode(batch_object(await _create(desk, call, wanted))))

    return create_batch


async def _create(desk: Desk, call: Call, wanted: BatchRequest) -> Batch:
    file = await find(desk, wanted.input_file_id, files.KIND, call.tenant, param="input_file_id")
    if file_of(file).purpose != "batch":
        what = f"The file {file.id} is not the input of a batch."
        raise InvalidRequest(what, next="Upload one with purpose=batch.", param="input_file_id")
    now_s = time.time()
    batch = Batch(
        id=_id(call),
        tenant=call.tenant,
        endpoint=wanted.endpoint,
        input_file_id=file.id,
        completion_window=wanted.completion_window,
        expires_unix_s=now_s + window_s(wanted.completion_window),
        priority=max(PRIORITY, call.priority),
        times={"validating": int(now_s)},
        metadata=wanted.metadata,
        output_lasts_s=float(wanted.output_expires_after.seconds) if wanted.output_expires_after else 0.0,
        webhook=await checked(desk, wanted.webhook) if wanted.webhook is not None else None,
        fingerprint=call.fingerprint,
    )
    until_unix_s = batch.expires_unix_s + desk.server.keep_files_s
    folder = Folder(batch.id, batches.KIND, call.tenant, batches.encode(batch), until_unix_s)
    await desk.ledger.keep_note(batches.KIND, batch.id, LEASE_S, b"")  # first: what is there is driven
    if await desk.ledger.put_folder(folder):
        await desk.ledger.keep_note(batches.KIND, batch.id, 0.0, b"")
    else:
        batch = batch_of(await find(desk, batch.id, batches.KIND, call.tenant))
        if batch.fingerprint != call.fingerprint:
            raise Conflict(
                "This idempotency key came with another body before.", f"The first one was {batch.id}.",
                "Give each batch its own key.",
            )  # fmt: skip
    return batch


def _id(call: Call) -> str:
    """The same for the same idempotency key."""
    if call.idempotency_key is None:
        return new_id("batch_")
    asked = f"{len(call.tenant)}:{call.tenant}{call.idempotency_key}"
    return "batch_" + hashlib.blake2b(asked.encode(), digest_size=16).hexdigest()


async def _cancel(desk: Desk, id: str, call: Call) -> Batch:
    while True:
        folder = await find(desk, id, batches.KIND, call.tenant)
        batch = batch_of(folder)
        if batch.status == "cancelling":
            return batch
        if batch.status not in ("validating", "in_progress"):
            raise Conflict(f"The batch {id[:100]!r} can't be cancelled.", f"It is {batch.status}.")
        batch = become(batch, "cancelling")
        if await desk.ledger.put_folder(msgspec.structs.replace(folder, label=batches.encode(batch))):
            return batch
