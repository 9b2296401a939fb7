"""What FastAPI routes share: the `Call` that the door has begun, and a JSON reply."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import Depends, Request
from starlette.responses import Response

from freehold.core import Json
from freehold.gateway.call import Call


def call_of(request: Request) -> Call:
    """The call this request is part of."""
    call = request.state.call
    assert isinstance(call, Call)
    return call


Caller = Annotated[Call, Depends(call_of)]


def reply(value: Json, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
