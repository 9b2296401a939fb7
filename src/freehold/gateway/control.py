"""Routes with which somebody who may changes what runs here: drain a worker, roll out a model.

With keys: one with the admin right. Without: only from this machine. And never from another web site through a
browser, whatever `server.cors_origins` allows for the API.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Query, Request, params
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from freehold.errors import Forbidden, NotFound
from freehold.gateway.auth import Guard, is_loopback
from freehold.gateway.desk import Desk
from freehold.gateway.docs import READING, errors
from freehold.gateway.routing import call_of, reply
from freehold.gateway.supervisor import Supervisor
from freehold.pipe import DrainWorker, EndRollout, Reload, RollOut, RolloutState, Upgrade

CHANGING = (*READING, 404, 409, 413, 503)
Host = Annotated[
    str, Query(max_length=100, description="Which host's, of several that share a store; this gateway's unless told.")
]


class DrainBody(BaseModel):
    """How a worker shall leave."""

    model_config = ConfigDict(extra="forbid")

    replace: bool = Field(False, description="Only once another is ready to take its place.")


class Drained(BaseModel):
    """What happens now."""

    worker: str
    replaced_by: str | None


class RolloutBody(BaseModel):
    """What shall take the place of what."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1, max_length=1000, description="As for `freehold serve`.")
    name: str = Field("", max_length=200, description="The model's name in the API; not needed where there is one.")
    canary_percent: int = Field(
        10, ge=1, le=100, description="Its share while it is compared; 100: it takes over without being compared."
    )
    window_s: float = Field(60.0, ge=1.0, le=86_400.0, description="How long they are compared.")


class Begun(BaseModel):
    """What happens now."""

    name: str
    model: str


class Changing(BaseModel):
    """What happens now."""

    gateway: str | None
    """The one that takes over, if one does."""
    changed: list[str]
    """Settings that have another value now."""


class Rollout(BaseModel):
    """How far a rollout is. `old_` and `new_`: of the requests that ended while both were compared."""

    state: RolloutState
    name: str
    model: str
    reason: str
    detail: str
    seconds: float
    canary_percent: int
    window_s: float
    old_answers: int
    new_answers: int
    old_failed: int
    new_failed: int
    old_p99_ms: float | None
    new_p99_ms: float | None


def control_router(desk: Desk, guard: Guard) -> APIRouter:
    """Changes need the admin right; looking needs no more than the rest of the API."""

    def admin(request: Request) -> None:
        check_admin(request, guard)

    router, may = APIRouter(), [Depends(admin)]
    _add_drain(router, desk, may)
    _add_rollout(router, desk.supervisor, may)
    _add_renewal(router, desk.supervisor, may)
    return router


def _add_drain(router: APIRouter, desk: Desk, may: Sequence[params.Depends]) -> None:
    @router.post(
        "/freehold/workers/{name}/drain",
        dependencies=may,
        response_model=Drained,
        status_code=202,
        responses=errors(*CHANGING),
        operation_id="drain_worker",
    )
    async def drain_worker(name: str, body: Annotated[DrainBody | None, "How."] = None) -> Response:
        """A worker finishes what it has begun, takes nothing new, and leaves. What waits goes on waiting."""
        order = DrainWorker(worker=name, replace=body is not None and body.replace)
        return reply(await desk.supervisor.ask(order, desk.fleet.host_of(name)), 202)


def _add_renewal(router: APIRouter, supervisor: Supervisor, may: Sequence[params.Depends]) -> None:
    told: dict[str, Any] = {
        "dependencies": may, "response_model": Changing, "status_code": 202, "responses": errors(*CHANGING)
    }  # fmt: skip

    @router.post("/freehold/reload", operation_id="reload", **told)
    async def reload(host: Host = "") -> Response:
        """Read the settings again. What they change is put in place of the old, which finishes what it has."""
        return reply(await supervisor.ask(Reload(), host), 202)

    @router.post("/freehold/upgrade", operation_id="upgrade", **told)
    async def upgrade(host: Host = "") -> Response:
        """Put new processes of the version that is installed now in the old ones' place: gateway, then workers."""
        return reply(await supervisor.ask(Upgrade(), host), 202)


def _add_rollout(router: APIRouter, supervisor: Supervisor, may: Sequence[params.Depends]) -> None:
    path, statuses = "/freehold/rollout", errors(*CHANGING)

    @router.post(
        path, dependencies=may, response_model=Begun, status_code=202, responses=statuses, operation_id="roll_out"
    )
    async def roll_out(body: RolloutBody, host: Host = "") -> Response:
        """Let another model take the place of one that is served: compared first, and rolled back if it does worse."""
        order = RollOut(
            model=body.model, name=body.name, canary_percent=body.canary_percent, window_s=body.window_s
        )  # fmt: skip
        return reply(await supervisor.ask(order, host), 202)

    @router.get(path, response_model=Rollout, responses=errors(*READING, 404), operation_id="get_rollout")
    async def get_rollout(host: Host = "") -> Response:
        """How far the last rollout is."""
        last = supervisor.rollout(host)
        if last is None:
            raise NotFound("There has been no rollout since the server started.")
        return reply({name: getattr(last, name) for name in last.__struct_fields__})

    @router.delete(
        path, dependencies=may, response_model=Begun, status_code=202, responses=statuses, operation_id="end_rollout"
    )
    async def end_rollout(host: Host = "") -> Response:
        """Roll back the one that is on its way."""
        return reply(await supervisor.ask(EndRollout(), host), 202)


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
