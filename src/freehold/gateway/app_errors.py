"""What FastAPI itself refuses (no such route, wrong method, bad query), in the words and shape of every other error."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from freehold.errors import FreeholdError, InvalidRequest
from freehold.gateway.docs import Papers
from freehold.gateway.errors import HttpError, error_body, error_headers


def add_error_handlers(app: FastAPI, papers: Papers) -> None:
    """Turn every exception that a FastAPI route may raise into an error reply."""

    async def freehold_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, FreeholdError)
        return _answer(error)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        where = f"{request.method} {request.url.path[:200]}"
        if error.status_code == 404:
            return _answer(HttpError(404, "not_found", f"There is nothing at {where}.", next=_NEXT))
        if error.status_code == 405:
            allow = ", ".join(sorted(await papers.methods_at(request.url.path))) or (error.headers or {}).get(
                "Allow", "GET"
            )
            return _answer(
                HttpError(405, "method_not_allowed", f"{where} is not a route.", next=_NEXT), {"allow": allow}
            )
        return _answer(HttpError(error.status_code, "http_error", str(error.detail)), error.headers)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        name = str(first["loc"][-1])
        return _answer(InvalidRequest(f"{name}: {first['msg']}.", param=name))

    app.add_exception_handler(FreeholdError, freehold_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, invalid)


_NEXT = "GET /docs lists the routes."


def _answer(error: FreeholdError, more: Mapping[str, str] | None = None) -> Response:
    body = error_body(error)
    headers = {name.decode(): value.decode() for name, value in error_headers(error, body)}
    return Response(body, error.status, {**headers, **(more or {})})
