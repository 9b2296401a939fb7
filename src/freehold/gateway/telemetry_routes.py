"""GET /freehold/stats, /freehold/series and /freehold/requests: the numbers now, how they went, and each request."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Query
from starlette.responses import Response

from freehold.core import Json
from freehold.errors import NotFound
from freehold.gateway.desk import Desk
from freehold.gateway.docs import READING, errors
from freehold.gateway.routing import reply
from freehold.gateway.telemetry_views import series, stats
from freehold.gateway.wire_telemetry import RequestList, SeriesReply, Stats
from freehold.telemetry.history_read import FOREVER_UNIX_S, RowFilter, read_rows
from freehold.telemetry.row import Outcome, Row

Window = Annotated[Literal["10s", "1m", "5m", "1h", "1d"], Query(description="How far back.")]
Moment = Annotated[float, Query(ge=0, le=FOREVER_UNIX_S, description="Seconds since 1970.")]
Name = Annotated[str, Query(max_length=500)]
Count = Annotated[int, Query(ge=0, le=1000)]


def telemetry_router(desk: Desk) -> APIRouter:
    """Looking needs no more than the rest of the API."""
    router = APIRouter()

    @router.get("/freehold/stats", response_model=Stats, responses=errors(*READING, 404), operation_id="get_stats")
    async def get_stats(window: Window = "1m") -> Response:
        """Percentiles, rates, tokens and cost by model variant, over a window that ends now."""
        _check_on(desk)
        return reply(stats(desk, window))

    @router.get(
        "/freehold/series", response_model=SeriesReply, responses=errors(*READING, 404), operation_id="get_series"
    )
    async def get_series(
        window: Window = "1h", points: Annotated[int, Query(ge=1, le=400)] = 120, variant: Name = ""
    ) -> Response:
        """How the same numbers went, slot by slot."""
        _check_on(desk)
        return reply(series(desk, window, points, variant))

    @router.get(
        "/freehold/requests", response_model=RequestList, responses=errors(*READING, 404, 503),
        operation_id="list_requests",
    )  # fmt: skip
    async def list_requests(
        since: Moment = 0.0, until: Moment = FOREVER_UNIX_S, outcome: Outcome | Literal[""] = "", model: Name = "",
        tenant: Name = "", id: Name = "", slowest: Count = 0, limit: Count = 100,
    ) -> Response:  # fmt: skip
        """Requests that have ended, from the local history: the newest, or with `slowest` those that took longest."""
        history = desk.observe.history
        if history is None:
            raise NotFound("This server keeps no history.", "observe.history is off.", "Set observe.history=on.")
        which = RowFilter(
            since_unix_s=since, until_unix_s=until, outcome=outcome, model=model, tenant=tenant, id=id,
            slowest=slowest, limit=limit or 1000,
        )  # fmt: skip
        rows = await asyncio.to_thread(lambda: [told_row(row) for row in read_rows(history.path, which)])
        return reply({"data": rows})

    return router


def told_row(row: Row) -> Json:
    """Every field, and what follows from them."""
    told: Json = {name: getattr(row, name) for name in row.__struct_fields__}
    return msgspec.to_builtins(told | {"queue_ms": row.queue_ms, "tpot_ms": row.tpot_ms})  # type: ignore[no-any-return]


def _check_on(desk: Desk) -> None:
    if not desk.observe.on:
        raise NotFound("This server records nothing.", "observe.recording is off.", "Set observe.recording=on.")
