"""What can be done with a response by its id: fetch, follow, cancel, delete, list its input."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from freehold.core import Json
from freehold.errors import Conflict, InvalidRequest
from freehold.gateway.call import Call
from freehold.gateway.desk import Desk
from freehold.gateway.inbox import Inbox
from freehold.gateway.reader import Reader
from freehold.gateway.responses.create import Responses, replay
from freehold.gateway.responses.events import Writer
from freehold.gateway.responses.live import tell, tell_kept, until_done
from freehold.gateway.responses.object import Told, response_object
from freehold.ledger.protocol import Entry


async def fetch_response(responses: Responses, id: str, call: Call) -> Json:
    """GET /v1/responses/{id}."""
    return _object(*await responses.entry(id, call))


async def follow_response(responses: Responses, id: str, after: int, call: Call) -> AsyncIterator[bytes]:
    """GET /v1/responses/{id}?stream=true: its events after number `after`, the past ones at once."""
    entry, told = await responses.entry(id, call)
    writer = Writer(id, told, entry.request.received_unix_s, after)
    if entry.state == "done":
        return tell_kept(writer, entry)
    return _followed(await responses.desk.follow([id], call.tenant), writer, responses.desk)


async def _followed(inbox: Inbox, writer: Writer, desk: Desk) -> AsyncIterator[bytes]:
    """Whoever only follows may leave: the answer goes on."""
    reader = Reader(inbox)
    try:
        async for part in tell(reader, writer, desk):
            yield part
    finally:
        desk.leave(reader)


async def cancel_response(responses: Responses, id: str, call: Call) -> Json:
    """POST /v1/responses/{id}/cancel. One that has ended stays as it is, so cancelling twice is harmless."""
    entry, told = await responses.entry(id, call)
    if entry.state != "done":
        await responses.desk.cancel(id)
        entry = await until_done(responses.desk, id) or entry
    return _object(entry, told)


async def delete_response(responses: Responses, id: str, call: Call) -> Json:
    """DELETE /v1/responses/{id}. Responses that went on from it keep what they know."""
    entry, _ = await responses.entry(id, call)
    if entry.state != "done" or not await responses.desk.ledger.delete(id):
        raise Conflict(f"The response {id!r} has not ended.", next=f"Cancel it first: POST /v1/responses/{id}/cancel.")
    return {"id": id, "object": "response", "deleted": True}


async def input_items(
    responses: Responses, id: str, call: Call, *, after: str | None, limit: int, order: Literal["asc", "desc"]
) -> Json:
    """GET /v1/responses/{id}/input_items: this turn's own input, without the turns before it."""
    _, told = await responses.entry(id, call)
    items = told.input if order == "asc" else told.input[::-1]
    if after is not None:
        places = [i for i, item in enumerate(items) if item["id"] == after]
        if not places:
            raise InvalidRequest(f"There is no input item {after!r}.", param="after")
        items = items[places[0] + 1 :]
    page = items[:limit]
    ids = [item["id"] for item in page] or [""]
    return {"object": "list", "data": page, "first_id": ids[0], "last_id": ids[-1], "has_more": len(items) > limit}


def _object(entry: Entry, told: Told) -> Json:
    if entry.state == "done":
        return replay(entry, told).response
    status: Literal["queued", "in_progress"] = "queued" if entry.state == "queued" else "in_progress"
    return response_object(entry.request.id, told, entry.request.received_unix_s, status, [])
