"""The chat page and the dashboard, read once at start and served from memory. No outside address, no inline script."""

from __future__ import annotations

import base64
import hashlib
import mimetypes
from collections.abc import Awaitable, Callable
from importlib import resources
from importlib.resources.abc import Traversable

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from freehold.gateway.errors import HttpError

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
_TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".html": "text/html",
    ".webmanifest": "application/manifest+json",
}


class File(msgspec.Struct, frozen=True):
    """One file of the page."""

    body: bytes
    media_type: str
    etag: str


def page_routes() -> list[Route]:
    """`/`, `/dashboard` and `/page/...`."""
    files = _read(resources.files("freehold.gateway").joinpath("page"))

    def answer(name: str) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            return respond(request, files.get(name or request.path_params["name"]))

        return endpoint

    return [
        Route("/", answer("index.html"), methods=["GET"], include_in_schema=False),
        Route("/dashboard", answer("dashboard.html"), methods=["GET"], include_in_schema=False),
        Route("/favicon.ico", answer("icon.svg"), methods=["GET"], include_in_schema=False),
        Route("/page/{name:path}", answer(""), methods=["GET"], include_in_schema=False),
    ]


def respond(request: Request, file: File | None, policy: str = POLICY) -> Response:
    """The file, or 304 where the browser has it."""
    if file is None:
        raise HttpError(
            404,
            "not_found",
            f"There is no {request.url.path!r} here.",
            next="The chat page is at /, the dashboard at /dashboard.",
        )
    headers = {
        "etag": file.etag,
        "cache-control": "no-cache",
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
    }
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.body, media_type=file.media_type, headers=headers)


def make_file(body: bytes, media_type: str) -> File:
    return File(body, media_type, '"' + hashlib.sha256(body).hexdigest()[:20] + '"')


def style_hash(css: str) -> str:
    """What a Content-Security-Policy needs to allow this one inline style."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(css.encode()).digest()).decode() + "'"


def _read(folder: Traversable, prefix: str = "") -> dict[str, File]:
    files: dict[str, File] = {}
    for item in folder.iterdir():
        if item.is_dir():
            files |= _read(item, f"{prefix}{item.name}/")
        elif not item.name.endswith((".py", ".pyc", ".md")):
            suffix = item.name[item.name.rfind(".") :]
            media_type = _TYPES.get(suffix) or mimetypes.guess_type(item.name)[0] or "application/octet-stream"
            files[prefix + item.name] = make_file(item.read_bytes(), media_type)
    return files
