"""The OpenAPI document, complete and truthful, and the page at /docs that shows it without any outside address."""

from __future__ import annotations

import asyncio
import html
import json
import re
from typing import Any, NamedTuple

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.routing import compile_path

from freehold import __version__
from freehold.core import Json
from freehold.gateway.pages import File, make_file, style_hash
from freehold.gateway.wire_answers import ErrorReply

_ERRORS = {
    400: "The request is malformed, out of range, or asks for what isn't supported; `param` names the field.",
    401: "An API key is needed, or the one given is not valid.",
    403: "This origin may not use the server, or this key may not do that.",
    404: "There is no such model or object.",
    408: "The request took too long to arrive.",
    409: "It is in a state that doesn't allow this, or was cancelled.",
    413: "The body is too large.",
    421: "This server doesn't answer for that host name.",
    429: "The queue is full, or too much of this key waits; Retry-After says when to come back.",
    431: "The headers are too large.",
    500: "The engine or the gateway failed.",
    502: "The worker died while answering.",
    503: "Nobody can take the request now, or its deadline can't be met; Retry-After says when it can.",
    504: "The deadline passed after the request was accepted.",
    507: "There is no room for the file.",
}
OPEN = (400, 403, 408, 421, 431, 500)
"""Statuses any route may answer with."""
READING = (*OPEN, 401)
ANSWERING = (*READING, 404, 409, 413, 429, 502, 503, 504)


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that may end so."""
    return {status: {"model": ErrorReply, "description": _ERRORS[status]} for status in sorted(set(statuses))}


def streamed(kind: str, model: str) -> dict[int | str, dict[str, Any]]:
    """The 200 of a route that streams when asked to."""
    description = f"The whole answer; with `stream` true, server-sent events of `{kind}` objects, then `[DONE]`."
    schema = {"$ref": f"#/components/schemas/{model}"}
    content = {"application/json": {"schema": schema}, "text/event-stream": {}}
    return {200: {"description": description, "content": content}}


def document(app: FastAPI, keys_required: bool) -> Json:
    """The document: FastAPI's, without the 422s that are never sent, and with the key where one is needed."""
    found = get_openapi(
        title="Freehold",
        version=__version__,
        summary="Your own LLM inference, behind OpenAI's API.",
        description=(
            "Works with OpenAI's clients unchanged: point `base_url` at `/v1`. A parameter that can't be honoured is "
            "refused with a 400 that names it; none is accepted and ignored. Every reply carries `x-request-id`, "
            "`openai-processing-ms` and, where known, `x-freehold-queue-ms`, `x-freehold-ttft-ms`, "
            "`x-freehold-worker` and `x-freehold-model`. A request may carry `x-freehold-deadline-ms`, counted "
            "from its arrival, and `x-freehold-priority` (smaller is sooner)."
        ),
        routes=app.routes,
    )
    for path in found["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    schemas = found["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    if keys_required:
        found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"key": []}]
    return found


_CSS = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent) }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 2rem 1rem 6rem; max-width: 60rem }
h1 { margin-bottom: 0 }
section { border-top: 1px solid var(--line); padding: 1rem 0 }
h2 { font: 600 1.05rem ui-monospace, monospace; margin: 0; overflow-wrap: anywhere }
h2 b { display: inline-block; min-width: 4.5rem }
pre { overflow: auto; padding: .8rem; border: 1px solid var(--line); border-radius: .5rem; font-size: .85rem }
summary { cursor: pointer; padding: .25rem 0 }
td { padding: .15rem 1rem .15rem 0; vertical-align: top }
nav { columns: 2 }
nav a { display: block }
@media (max-width: 40rem) { nav { columns: 1 } }
"""
DOCS_POLICY = (
    f"default-src 'none'; style-src {style_hash(_CSS)}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def docs_page(document: Json) -> str:
    """The document as one page of plain HTML."""
    sections: list[str] = []
    links: list[str] = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            name = f"{method.upper()} {path}"
            anchor = html.escape(operation["operationId"])
            links.append(f'<a href="#{anchor}">{html.escape(name)}</a>')
            sections.append(f'<section id="{anchor}">{_operation(method, path, operation)}</section>')
    schemas = "".join(
        f'<details id="schema-{html.escape(name)}"><summary>{html.escape(name)}</summary>{_pre(schema)}</details>'
        for name, schema in sorted(document["components"]["schemas"].items())
    )
    info = document["info"]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(info['title'])} API</title><style>{_CSS}</style>"
        f"<h1>{html.escape(info['title'])} API</h1><p>{html.escape(info['description'])}</p>"
        f'<p>Version {html.escape(info["version"])}. The same as data: <a href="openapi.json">openapi.json</a>. '
        f'The chat page: <a href="./">/</a>.</p><nav>{"".join(links)}</nav>{"".join(sections)}'
        f"<section><h2>Schemas</h2>{schemas}</section>"
    )


class Papers:
    """What is made of the routes when somebody first asks: it takes half a second of processor time, which no start
    shall wait for. A thread makes it, so that tokens pass meanwhile."""

    def __init__(self, app: FastAPI, keys_required: bool) -> None:
        self._app = app
        self._keys_required = keys_required
        self._told: asyncio.Future[_Made] | None = None

    async def made(self) -> tuple[bytes, File]:
        """The document as JSON, and the page."""
        made = await self._once()
        return made.document, made.page

    async def methods_at(self, path: str) -> set[str]:
        """Of every route at this path; Starlette names only the first one's."""
        made = await self._once()
        return {name for pattern, names in made.methods if pattern.match(path) for name in names}

    async def _once(self) -> _Made:
        if self._told is None:
            self._told = asyncio.ensure_future(asyncio.to_thread(self._make))
        return await asyncio.shield(self._told)

    def _make(self) -> _Made:
        told = document(self._app, self._keys_required)
        methods = [
            (compile_path(template)[0], [method.upper() for method in operations])
            for template, operations in told["paths"].items()
        ]
        return _Made(msgspec.json.encode(told), make_file(docs_page(told).encode(), "text/html"), methods)


class _Made(NamedTuple):
    document: bytes
    page: File
    methods: list[tuple[re.Pattern[str], list[str]]]


def _operation(method: str, path: str, operation: Json) -> str:
    parts = [
        f"<h2><b>{method.upper()}</b> {html.escape(path)}</h2><p>{html.escape(operation.get('description', ''))}</p>"
    ]
    if operation.get("parameters"):
        parts.append(f"<details><summary>Parameters</summary>{_pre(operation['parameters'])}</details>")
    if "requestBody" in operation:
        parts.append(f"<details><summary>Request body</summary>{_pre(operation['requestBody'])}</details>")
    rows = "".join(
        f"<tr><td>{status}</td><td>{html.escape(response.get('description', ''))}</td></tr>"
        for status, response in sorted(operation["responses"].items())
    )
    parts.append(f"<details><summary>Answers</summary><table>{rows}</table></details>")
    return "".join(parts)


def _pre(value: object) -> str:
    return f"<pre>{html.escape(json.dumps(value, indent=2))}</pre>"
