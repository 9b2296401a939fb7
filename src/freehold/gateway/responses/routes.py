"""The Responses API's entries in the FastAPI application; creating one is on the token path (`responses.create`)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from freehold.errors import InvalidRequest
from freehold.gateway.docs import ANSWERING, READING, errors
from freehold.gateway.responses import kept
from freehold.gateway.responses.answers import DeletedReply, InputItemsReply, ResponseReply
from freehold.gateway.responses.create import Responses
from freehold.gateway.responses.wire import Include, ResponseRequest
from freehold.gateway.routing import Caller, reply

_SSE = {"cache-control": "no-store", "x-accel-buffering": "no"}


Included = Annotated[list[Include], Query(alias="include[]", description="Taken and met: what exists is always told.")]


def responses_router(responses: Responses) -> APIRouter:
    """All routes under /v1/responses."""
    router = APIRouter(prefix="/v1/responses")

    @router.post(
        "", response_model=ResponseReply, responses=errors(*ANSWERING) | _events(), operation_id="create_response"
    )
    async def create(body: ResponseRequest) -> None:
        """One turn of a conversation: whole, streamed, or in the background."""

    _add_telling(router, responses)
    _add_ending(router, responses)
    return router


def _add_telling(router: APIRouter, responses: Responses) -> None:
    known = errors(*READING, 404)

    @router.get("/{id}", response_model=ResponseReply, responses=known | _events(), operation_id="get_response")
    async def fetch(
        id: str,
        call: Caller,
        stream: bool = False,
        starting_after: Annotated[
            int | None, Query(ge=-1, le=2**53, description="Number of the last event seen.")
        ] = None,
        include: Included = [],  # noqa: B006
        include_obfuscation: Literal["false", "False", "0"] | None = None,
    ) -> Response:
        """A response as it is now; with `stream`, its events, past and coming, after `starting_after`."""
        if stream:
            after = -1 if starting_after is None else starting_after
            told = await kept.follow_response(responses, id, after, call)
            return StreamingResponse(told, media_type="text/event-stream", headers=_SSE)
        if starting_after is not None:
            raise InvalidRequest("starting_after needs stream.", next="Set stream to true.", param="starting_after")
        return reply(await kept.fetch_response(responses, id, call))

    @router.get("/{id}/input_items", response_model=InputItemsReply, responses=known, operation_id="list_input_items")
    async def input_items(
        id: str,
        call: Caller,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Literal["asc", "desc"] = "desc",
        include: Included = [],  # noqa: B006
    ) -> Response:
        """What this turn was asked, newest first."""
        return reply(await kept.input_items(responses, id, call, after=after, limit=limit, order=order))


def _add_ending(router: APIRouter, responses: Responses) -> None:
    @router.post(
        "/{id}/cancel",
        response_model=ResponseReply,
        responses=errors(*READING, 404, 413),
        operation_id="cancel_response",
    )
    async def cancel(id: str, call: Caller) -> Response:
        """End a response. What was answered until then stays."""
        return reply(await kept.cancel_response(responses, id, call))

    @router.delete(
        "/{id}", response_model=DeletedReply, responses=errors(*READING, 404, 409, 413), operation_id="delete_response"
    )
    async def delete(id: str, call: Caller) -> Response:
        """Forget a response that has ended."""
        return reply(await kept.delete_response(responses, id, call))


def _events() -> dict[int | str, dict[str, Any]]:
    """The 200 of a route that tells events when asked to."""
    schema = {"$ref": "#/components/schemas/ResponseReply"}
    content = {"application/json": {"schema": schema}, "text/event-stream": {}}
    return {
        200: {
            "description": "The response; with `stream` true, its events (`response.created` and so on).",
            "content": content,
        }
    }
