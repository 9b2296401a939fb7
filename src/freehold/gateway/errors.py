"""The one place that turns an error into HTTP: OpenAI's shape, the right status, and what-why-next as the message."""

from __future__ import annotations

import math
from http import HTTPStatus

import msgspec

from freehold.core import Failure, Json
from freehold.errors import FreeholdError, from_failure
from freehold.gateway.call import Call, HeaderList

_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    405: "invalid_request_error", 408: "timeout_error", 409: "conflict_error", 411: "invalid_request_error",
    413: "invalid_request_error", 415: "invalid_request_error", 421: "invalid_request_error",
    429: "rate_limit_error", 431: "invalid_request_error", 503: "unavailable_error", 504: "timeout_error",
}  # fmt: skip


LONGEST_RETRY_S = 60.0


class HttpError(FreeholdError):
    """An answer with a status that no `RequestError` has, such as 405 or 408."""

    def __init__(self, status: int, code: str, what: str, why: str = "", next: str = "") -> None:
        super().__init__(what, why, next)
        self.status = status
        self.code = code


def error_type(status: int) -> str:
    """OpenAI's `error.type` for a status."""
    return _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")


def error_object(error: FreeholdError) -> Json:
    """What stands under `error` in the body."""
    return {"message": str(error), "type": error_type(error.status), "param": error.param, "code": error.code}


def error_body(error: FreeholdError) -> bytes:
    return msgspec.json.encode({"error": error_object(error)})


def failure_event(failure: Failure) -> bytes:
    """The SSE event that ends a stream which had already begun."""
    return b"data: " + error_body(from_failure(failure)) + b"\n\n"


def error_headers(error: FreeholdError, body: bytes) -> HeaderList:
    headers: HeaderList = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if error.status in (429, 503):
        headers += _retry_headers(error.retry_after_s)
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if error.status in (408, 413, 431):
        headers.append((b"connection", b"close"))
    return headers


def _retry_headers(after_s: float | None) -> HeaderList:
    """In whole seconds as HTTP has it, and in milliseconds as OpenAI's clients read it. These wait a minute at most and
    would come too early after that, so they are told not to come back by themselves."""
    if after_s is None:
        return [(b"x-should-retry", b"false")]
    patient = b"true" if after_s <= LONGEST_RETRY_S else b"false"
    return [
        (b"retry-after", b"%d" % max(1, math.ceil(after_s))),
        (b"retry-after-ms", b"%d" % math.ceil(after_s * 1000)),
        (b"x-should-retry", patient),
    ]


def raw_response(error: FreeholdError, call: Call) -> bytes:
    """A whole HTTP/1.1 reply, for the moments before there is an ASGI application to send it."""
    body = error_body(error)
    headers = [*error_headers(error, body), *call.headers()]
    lines = [b"HTTP/1.1 %d %s" % (error.status, HTTPStatus(error.status).phrase.encode())]
    lines += [name + b": " + value for name, value in headers]
    if (b"connection", b"close") not in headers:
        lines.append(b"connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
