"""The outermost layer: every request gets an id, is checked (host, origin, key), read within limits, answered in one
shape, timed and counted. Token routes are run from here directly; everything else goes to FastAPI.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

from freehold import log
from freehold.errors import EngineFailed, Forbidden, FreeholdError
from freehold.gateway.auth import Guard, is_loopback
from freehold.gateway.body import header, read_body
from freehold.gateway.call import Call, HeaderList, request_id
from freehold.gateway.errors import HttpError, error_body, error_headers
from freehold.gateway.observe import Observe
from freehold.gateway.reader import ClientGone
from freehold.gateway.resume import note_resuming
from freehold.gateway.stream import Handler, Message, Receive, Scope, Send
from freehold.gateway.terms import set_terms
from freehold.settings import ServerConfig
from freehold.telemetry.metrics import Metrics

Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Upload = Callable[[Call, HeaderList, Receive, Send], Awaitable[None]]

_OPEN_PATHS = frozenset({"/", "/dashboard", "/livez", "/readyz", "/docs", "/openapi.json", "/favicon.ico"})
_STREAMS = "/v1/streams/"
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})


class Door:
    """The ASGI application that uvicorn serves."""

    def __init__(
        self,
        app: Application,
        plain: Mapping[str, Handler],
        uploads: Mapping[str, Upload],
        tell_stream: Callable[[Call, str, Receive, Send], Awaitable[None]],
        guard: Guard,
        server: ServerConfig,
        metrics: Metrics,
        observe: Observe,
    ) -> None:
        """`plain`: POST routes by path; `uploads`: those that read a body of any size themselves. `tell_stream`
        answers GET /v1/streams/{id}."""
        self._app = app
        self._plain = plain
        self._uploads = uploads
        self._tell_stream = tell_stream
        self._guard = guard
        self._server = server
        self._metrics = metrics
        self._observe = observe
        self._local_only = is_loopback(server.host) and not guard.required

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        call = Call(request_id(scope["headers"]))
        scope.setdefault("state", {})["call"] = call
        out = _Reply(call, send)
        try:
            await self._serve(scope, call, receive, out)
        except ClientGone:
            call.status = 499
            self._metrics.disconnects.labels(call.route).inc()
        except FreeholdError as error:
            await out.error(error)
        except Exception as error:  # noqa: BLE001  the edge of the process: logged, and answered
            log.event("gateway.bug", level="error", error=error, request=call.id, route=call.route)
            await out.error(
                EngineFailed("Something in the gateway broke.", f"It is logged under {call.id}.", "Please report it.")
            )
        finally:
            self._observe.left(call)
            route = scope.get("route")
            call.route = getattr(route, "path", call.route)
            self._metrics.answered(call.route, call.model, call.status, call.elapsed_ms() / 1000.0)

    async def _serve(self, scope: Scope, call: Call, receive: Receive, out: _Reply) -> None:
        headers: HeaderList = scope["headers"]
        path: str = scope["path"]
        handler = self._plain.get(path) if scope["method"] == "POST" else None
        if handler is not None:
            call.route = path  # before anything can refuse it: a refusal is told of its route
        if self._local_only:
            self._check_local(scope["method"], headers)
        if path not in _OPEN_PATHS and not path.startswith("/page/"):
            set_terms(call, self._guard.key(header(headers, b"authorization")), headers)
        if scope["method"] == "GET" and path.startswith(_STREAMS):
            call.route = _STREAMS + "{id}"
            note_resuming(call, headers, b"")
            await self._tell_stream(call, path.removeprefix(_STREAMS), receive, out)
            return
        if scope["method"] in _BODILESS:
            await self._app(scope, receive, out)
            return
        if scope["method"] == "POST" and path in self._uploads:
            await self._uploads[path](call, headers, receive, out)
            return
        body = await read_body(headers, receive, self._server.max_body_bytes)
        if handler is not None:
            note_resuming(call, headers, body)
            await handler(call, body, receive, out)
            return
        await self._app(scope, _replay(body, receive), out)

    def _check_local(self, method: str, headers: HeaderList) -> None:
        """A server without keys is for this machine's user alone: a web page elsewhere must not reach it through the
        user's browser, neither with a name that resolves to loopback (DNS rebinding) nor across origins."""
        host = header(headers, b"host")
        if host is None:
            return
        name = urlsplit("//" + host.decode("latin-1")).hostname or ""
        if not is_loopback(name) and name != self._server.host:
            raise HttpError(
                421, "foreign_host", f"This server doesn't answer for the host {name[:100]!r}.",
                "It listens on loopback without API keys.",
                "Use http://localhost, or require keys with --set server.api_keys=on.",
            )  # fmt: skip
        origin = header(headers, b"origin")
        if origin is None or method in _BODILESS:
            return
        text = origin.decode("latin-1")
        allowed = self._server.cors_origins
        own = urlsplit(text).netloc.lower() == host.decode("latin-1").lower()
        if not own and text not in allowed and "*" not in allowed:
            raise Forbidden(
                f"The origin {text[:100]!r} may not use this server.",
                "It is another web site.",
                "Add it to server.cors_origins.",
            )


class _Reply:
    """`send`, with the headers that every reply carries, and an error in one shape."""

    __slots__ = ("_call", "_send", "_started")

    def __init__(self, call: Call, send: Send) -> None:
        self._call = call
        self._send = send
        self._started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            self._call.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self._call.headers()]
        await self._send(message)

    async def error(self, error: FreeholdError) -> None:
        """Answer with `error`, or end the connection where an answer has begun."""
        self._call.code = error.code
        if self._started:
            self._call.status = error.status
            return
        body = error_body(error)
        await self({"type": "http.response.start", "status": error.status, "headers": error_headers(error, body)})
        await self({"type": "http.response.body", "body": body})


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read already, then what comes."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def identified(app: Application) -> Application:
    """What answers OPTIONS before the door does (CORS) has the same headers as every reply."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                if all(name != b"x-request-id" for name, _ in headers):
                    message["headers"] = [*headers, *Call(request_id(scope["headers"])).headers()]
            await send(message)

        await app(scope, receive, named if scope["type"] == "http" and scope["method"] == "OPTIONS" else send)

    return answer
