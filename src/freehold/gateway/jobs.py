"""Every request in the ledger, for whoever may change what runs here: a list without content, one whole, its end.

What was poison is kept so that it can be looked at: why it ended, and how many workers it took with it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from freehold.core import Json
from freehold.errors import NotFound
from freehold.gateway.auth import Guard
from freehold.gateway.control import check_admin
from freehold.gateway.desk import Desk
from freehold.gateway.docs import READING, errors
from freehold.gateway.routing import reply
from freehold.ledger.protocol import Entry, Listed

JobStatus = Literal["queued", "running", "completed", "failed", "cancelled", "poisoned"]


class JobError(BaseModel):
    """Why it failed."""

    code: str
    what: str
    why: str
    next: str
    param: str | None


class Job(BaseModel):
    """One request, without prompt and answer."""

    id: str
    status: JobStatus
    model: str
    kind: str
    tenant: str = Field(description="Id of the API key that asked; `local` without keys.")
    worker: str = Field(description="The life of a worker that claimed it last.")
    attempts: int = Field(description="How often a worker has claimed it.")
    deaths: int = Field(description="Workers that died of it, or with it.")
    accepted_unix_s: float
    deadline_unix_s: float | None
    cancel_asked: bool
    kept: bool
    prompt_tokens: int
    completion_tokens: int
    total_ms: float | None
    error: JobError | None


class JobList(BaseModel):
    """The newest first; `after` the last id is the next page."""

    jobs: list[Job]
    has_more: bool


class WholeJob(Job):
    """One request with what was asked and answered, as far as it is still kept."""

    request: dict[str, Any]
    answers: list[dict[str, Any]]


class CancelledJob(BaseModel):
    id: str
    status_before: Literal["queued", "running", "done"]


def jobs_router(desk: Desk, guard: Guard) -> APIRouter:
    """All routes under /freehold/jobs. Prompts of every key can be seen here, so all of them need the admin right."""

    def admin(request: Request) -> None:
        check_admin(request, guard)

    router = APIRouter(prefix="/freehold/jobs", dependencies=[Depends(admin)])
    known = errors(*READING, 404, 503)

    @router.get("", response_model=JobList, responses=errors(*READING, 503), operation_id="list_jobs")
    async def list_jobs(
        state: Annotated[Listed | None, Query(description="Only these; `done` has the poisoned among them.")] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        after: Annotated[str | None, Query(max_length=200, description="Last id of the page before.")] = None,
    ) -> Response:
        """The requests in the ledger, the newest first, without prompt and answer."""
        found = await desk.ledger.list_jobs(state, limit + 1, after)
        return reply({"jobs": [job_object(entry) for entry in found[:limit]], "has_more": len(found) > limit})

    @router.get("/{id}", response_model=WholeJob, responses=known, operation_id="get_job")
    async def get_job(id: str) -> Response:
        """One request with all that is still kept of it."""
        entry = await desk.ledger.fetch(id)
        if entry is None:
            raise _unknown(id)
        return reply(whole_object(entry))

    @router.post("/{id}/cancel", response_model=CancelledJob, responses=known | errors(413), operation_id="cancel_job")
    async def cancel_job(id: str) -> Response:
        """End a request, whoever sent it. One that has ended stays as it is."""
        before = await desk.cancel(id)
        if before is None:
            raise _unknown(id)
        return reply({"id": id, "status_before": before})

    return router


def job_object(entry: Entry) -> Json:
    """What a list shows of a request: nothing of what was said."""
    request, result = entry.request, entry.result
    failure = result.failure if result is not None else None
    return {
        "id": request.id,
        "status": _status(entry),
        "model": request.model,
        "kind": request.kind,
        "tenant": request.tenant,
        "worker": entry.worker,
        "attempts": entry.attempt,
        "deaths": entry.deaths,
        "accepted_unix_s": entry.accepted_unix_s,
        "deadline_unix_s": request.deadline_unix_s,
        "cancel_asked": entry.cancel_asked,
        "kept": request.keep,
        "prompt_tokens": result.usage.prompt_tokens if result is not None else 0,
        "completion_tokens": result.usage.completion_tokens if result is not None else 0,
        "total_ms": round(result.total_ms, 2) if result is not None else None,
        "error": msgspec.structs.asdict(failure) if failure is not None else None,
    }


def whole_object(entry: Entry) -> Json:
    """`job_object` with what was asked and answered."""
    request = entry.request
    asked = msgspec.to_builtins(request)
    shown = ("messages", "prompt", "inputs", "tools", "json_schema", "sampling", "n")
    answers = entry.result.answers if entry.result is not None else ()
    told = [{"text": answer.text, "finish": answer.finish} for answer in answers]
    return job_object(entry) | {"request": {name: asked.get(name) for name in shown}, "answers": told}


def _status(entry: Entry) -> JobStatus:
    result = entry.result
    if entry.state != "done" or result is None:
        return "queued" if entry.state == "queued" else "running"
    if result.failure is not None:
        return "poisoned" if result.failure.code == "poisoned" else "failed"
    return "cancelled" if result.cancelled else "completed"


def _unknown(id: str) -> NotFound:
    return NotFound(f"There is no request {id[:100]!r}.", "It never was, or its time is over.")
