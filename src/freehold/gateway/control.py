"""Routes with which somebody who may changes what runs here: drain a worker. A read needs a key; a change needs more.

With keys: one with the admin right. Without: only from this machine. And never from another web site through a
browser, whatever `server.cors_origins` allows for the API.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from freehold.errors import Forbidden
from freehold.gateway.auth import Guard, is_loopback
from freehold.gateway.desk import Desk
from freehold.gateway.docs import READING, errors
from freehold.gateway.routing import call_of, reply
from freehold.gateway.supervisor import Supervisor
from freehold.pipe import DrainWorker

CHANGING = (*READING, 404, 409, 413, 503)


class DrainBody(BaseModel):
    """How a worker shall leave."""

    model_config = ConfigDict(extra="forbid")

    replace: bool = Field(False, description="Only once another is ready to take its place.")


class Drained(BaseModel):
    """What happens now."""

    worker: str
    replaced_by: str | None


def control_router(desk: Desk, guard: Guard) -> APIRouter:
    def admin(request: Request) -> None:
        check_admin(request, guard)

    router = APIRouter(dependencies=[Depends(admin)])
    supervisor = desk.supervisor
    _add_drain(router, supervisor)
    return router


def _add_drain(router: APIRouter, supervisor: Supervisor) -> None:
    @router.post(
        "/freehold/workers/{name}/drain",
        response_model=Drained,
        status_code=202,
        responses=errors(*CHANGING),
        operation_id="drain_worker",
    )
    async def drain_worker(name: str, body: Annotated[DrainBody | None, "How."] = None) -> Response:
        """A worker finishes what it has begun, takes nothing new, and leaves. What waits goes on waiting."""
        order = DrainWorker(worker=name, replace=body is not None and body.replace)
        return reply(await supervisor.ask(order), 202)


def check_admin(request: Request, guard: Guard) -> None:
    """Raises `Forbidden`."""
    _check_site(request)
    if guard.required:
        guard.check_admin(call_of(request).tenant)
    elif request.client is None or not is_loopback(request.client.host):
        raise Forbidden(
            "Only this machine may change what runs on it.",
            "This server asks for no API keys, so it can't know who you are.",
            "Run the command on the server's own machine, or require keys with server.api_keys=on.",
        )


def _check_site(request: Request) -> None:
    """A browser says which site sent it."""
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    crosses = request.headers.get("sec-fetch-site") in ("cross-site", "same-site")
    if crosses or (origin is not None and urlsplit(origin).netloc.lower() != host.lower()):
        raise Forbidden("Another web site may not change what runs here.", next="Use this server's own page.")
