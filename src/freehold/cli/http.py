"""How a command talks to a running server: one client with the API key, and every failure as a `FreeholdError`.

A refused connection becomes `Unreachable` (exit 5) that says how to start a server; an error body in OpenAI's shape
becomes the same exception the server raised. Only HTTP is known here, so any OpenAI-compatible server will do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from freehold.core import Failure
from freehold.errors import EngineFailed, FreeholdError, Unauthorized, Unreachable, UsageError, from_failure

DEFAULT_URL = "http://127.0.0.1:8000"
KEY_VARIABLE = "FREEHOLD_API_KEY"
CONNECT_S = 5.0
ANSWER_S = 600.0
"""Longest silence: a request may wait that long in a queue before its first token."""


def base_url(url: str) -> str:
    """`localhost:8000`, `http://host/v1` and `http://host/` all mean the server at `http://host`."""
    full = url if "://" in url else f"http://{url}"
    parts = urlsplit(full)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{url!r} is not the address of a server.", next=f"Give one like {DEFAULT_URL}.")
    return full.rstrip("/").removesuffix("/v1")


def client(url: str, api_key: str | None = None) -> httpx.Client:
    """A client for the server at `url`. The key comes from FREEHOLD_API_KEY unless one is given."""
    key = os.environ.get(KEY_VARIABLE, "") if api_key is None else api_key
    headers = {"authorization": f"Bearer {key}"} if key else {}
    timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
    # A proxy for the outside world has no way to a server on this machine.
    trust_env = urlsplit(base_url(url)).hostname not in ("127.0.0.1", "localhost", "::1")
    return httpx.Client(base_url=base_url(url), headers=headers, timeout=timeout, trust_env=trust_env)


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Turns what httpx raises inside into errors that say what to do."""
    where = base_url(url)
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise Unreachable(
            f"Nobody answers at {where}.",
            _plain(error),
            "Start a server with `freehold serve`, or name the right address.",
        ) from error
    except httpx.TimeoutException as error:
        raise Unreachable(f"{where} is silent for too long.", next="`freehold workers` tells how it is.") from error
    except httpx.TransportError as error:
        raise Unreachable(
            f"The connection to {where} broke.", _plain(error), "See the server's log, then try again."
        ) from error


def _plain(error: Exception) -> str:
    """`[Errno 111] Connection refused` without its number, as a sentence."""
    said = re.sub(r"^\[Errno -?\d+\] ", "", str(error)).rstrip(".")
    return f"{said}." if said else ""


def on_host(path: str, host: str) -> str:
    """`path` for one of the hosts that share a store; "" is the server's own."""
    return f"{path}?host={quote(host, safe='')}" if host else path


def get_json(url: str, path: str, api_key: str | None = None) -> dict[str, Any]:
    """The JSON object at `path` of the server. Raises `Unreachable`, or the error the server answered with."""
    return _exchange(url, "GET", path, None, api_key)


def post_json(url: str, path: str, body: dict[str, Any], api_key: str | None = None) -> dict[str, Any]:
    """What the server answers to `body`. Raises as `get_json` does."""
    return _exchange(url, "POST", path, body, api_key)


def delete_json(url: str, path: str, api_key: str | None = None) -> dict[str, Any]:
    """What the server answers to a DELETE. Raises as `get_json` does."""
    return _exchange(url, "DELETE", path, None, api_key)


def _exchange(url: str, method: str, path: str, body: dict[str, Any] | None, api_key: str | None) -> dict[str, Any]:
    with client(url, api_key) as http, reaching(url):
        response = http.request(method, path, json=body, timeout=httpx.Timeout(30.0, connect=CONNECT_S))
    raise_for_error(response)
    try:
        found = response.json()
    except ValueError as error:
        raise Unreachable(
            f"{base_url(url)}{path} did not answer with JSON.", next="Is it a Freehold server? See the address."
        ) from error
    return found if isinstance(found, dict) else {"data": found}


def raise_for_error(response: httpx.Response) -> None:
    """Raises the error that a 4xx or 5xx response tells; its body must have been read."""
    if response.is_success:
        return
    try:
        body = response.json().get("error")
    except (ValueError, AttributeError):
        body = None
    raise error_of(body, response.status_code)


def error_of(body: object, status: int) -> FreeholdError:
    """The exception for an `error` object in OpenAI's shape (or, from a stranger, whatever came instead of it)."""
    told: dict[str, Any] = body if isinstance(body, dict) else {}
    what = str(told.get("message") or body or f"The server answered with status {status}.")
    if status == Unauthorized.status:
        return Unauthorized(
            what, next=f"Set {KEY_VARIABLE} to a key of this server; `freehold keys add NAME` makes one there."
        )
    code, param = str(told.get("code") or EngineFailed.code), told.get("param")
    error = from_failure(Failure(code=code, what=what, param=param))
    if status:
        error.status = status
    return error
