"""All routes in one table: the FastAPI application for what is small, and the plain ASGI handlers of the token path.

A token route appears twice: as a handler in `plain_routes`, which the door runs, and as a declaration here, whose
signature is its entry in the OpenAPI document (and which answers 405 to other methods).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from freehold.errors import InvalidRequest
from freehold.gateway import info, wire_answers, wire_workers
from freehold.gateway.alert_routes import alerts_router
from freehold.gateway.alerting import Alerting
from freehold.gateway.app_errors import add_error_handlers
from freehold.gateway.auth import Guard
from freehold.gateway.batches import upload
from freehold.gateway.batches.routes import batches_router, create_route, files_router
from freehold.gateway.call import Call
from freehold.gateway.chat import chat_route
from freehold.gateway.completions import completions_route
from freehold.gateway.control import control_router
from freehold.gateway.desk import Desk
from freehold.gateway.docs import ANSWERING, DOCS_POLICY, OPEN, READING, Papers, errors, streamed
from freehold.gateway.door import Upload
from freehold.gateway.embeddings import embeddings_route
from freehold.gateway.generate import end_generated, fetch_generated, generate_route
from freehold.gateway.jobs import jobs_router
from freehold.gateway.marks import Seen, seen_by
from freehold.gateway.pages import page_routes, respond
from freehold.gateway.responses.create import Responses
from freehold.gateway.responses.routes import responses_router
from freehold.gateway.resume import tell_again
from freehold.gateway.routing import Caller, reply
from freehold.gateway.stream import Handler, Receive, Send
from freehold.gateway.telemetry_routes import telemetry_router
from freehold.gateway.wire_chat import ChatRequest
from freehold.gateway.wire_text import CompletionRequest, EmbeddingRequest, GenerateRequest
from freehold.telemetry.metrics import CONTENT_TYPE


def plain_routes(desk: Desk, responses: Responses) -> dict[str, Handler]:
    """POST routes that the door runs itself, by path."""
    return {
        "/v1/chat/completions": chat_route(desk),
        "/v1/completions": completions_route(desk),
        "/v1/responses": responses.create,
        "/v1/embeddings": embeddings_route(desk),
        "/generate": generate_route(desk),
        "/v1/batches": create_route(desk),
    }


def upload_routes(desk: Desk) -> dict[str, Upload]:
    """POST routes that read their body themselves, by path."""
    return {upload.PATH: partial(upload.upload, desk)}


def stream_route(desk: Desk, responses: Responses) -> Callable[[Call, str, Receive, Send], Awaitable[None]]:
    """GET /v1/streams/{id}: a stream that was interrupted, from its beginning or after `Last-Event-ID`."""

    async def tell_stream(call: Call, id: str, receive: Receive, send: Send) -> None:
        seen = Seen(id, []) if call.last_event_id is None else seen_by(call.last_event_id)
        if seen.id != id:
            raise InvalidRequest("Last-Event-ID belongs to another stream.", param="Last-Event-ID")
        if id.startswith("resp_"):
            await responses.resume(call, seen, receive, send)
        else:
            await tell_again(desk, call, id, seen, receive, send)

    return tell_stream


def build(desk: Desk, guard: Guard, responses: Responses, alerts: Alerting) -> FastAPI:
    """The FastAPI application."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    _declare_token_routes(app)
    app.include_router(responses_router(responses))
    app.include_router(files_router(desk))
    app.include_router(batches_router(desk))
    _add_generations(app, desk)
    _add_models(app, desk, guard)
    app.include_router(control_router(desk, guard))
    app.include_router(jobs_router(desk, guard))
    app.include_router(alerts_router(alerts, guard))
    app.include_router(telemetry_router(desk))
    _add_health(app, desk)
    papers = Papers(app, guard.required)
    _add_documents(app, papers)
    app.router.routes.extend(page_routes())
    add_error_handlers(app, papers)
    return app


def _declare_token_routes(app: FastAPI) -> None:
    async def chat_completions(body: ChatRequest) -> None:
        """Answer a conversation, streamed or whole."""

    async def completions(body: CompletionRequest) -> None:
        """Continue a text, or several, streamed or whole."""

    async def embeddings(body: EmbeddingRequest) -> None:
        """Turn texts into vectors, where the model can."""

    async def generate(body: GenerateRequest) -> None:
        """A prompt in, a text out. With mode `async`: 202 and an id for GET /generate/{id}."""

    def add(
        path: str, endpoint: Any, model: type, kind: str | None, more: Mapping[int | str, dict[str, Any]] | None = None
    ) -> None:
        responses = errors(*ANSWERING) | (streamed(kind, model.__name__) if kind else {}) | dict(more or {})
        app.add_api_route(
            path, endpoint, methods=["POST"], response_model=model, responses=responses, operation_id=endpoint.__name__
        )

    async def stream(id: str) -> None:
        """A stream that was interrupted: from its beginning, or after the event that `Last-Event-ID` names."""

    told: dict[int | str, dict[str, Any]] = {200: {"description": "The stream.", "content": {"text/event-stream": {}}}}
    app.add_api_route(
        "/v1/streams/{id}", stream, methods=["GET"], responses=errors(*READING, 404, 409, 502) | told,
        response_class=Response, operation_id="get_stream",
    )  # fmt: skip
    add("/v1/chat/completions", chat_completions, wire_answers.ChatCompletion, "chat.completion.chunk")
    add("/v1/completions", completions, wire_answers.Completion, "text_completion")
    add("/v1/embeddings", embeddings, wire_answers.Embeddings, None)
    links = {
        name: {"operationId": name, "parameters": {"id": "$response.body#/id"}}
        for name in ("get_generation", "end_generation")
    }
    accepted: dict[int | str, dict[str, Any]] = {
        202: {"model": wire_answers.Accepted, "description": "Accepted: it will be answered.", "links": links}
    }
    add("/generate", generate, wire_answers.Generated, None, accepted)


def _add_generations(app: FastAPI, desk: Desk) -> None:
    statuses = errors(*READING, 404, 413)

    @app.get("/generate/{id}", response_model=wire_answers.Generated, responses=statuses, operation_id="get_generation")
    async def get_generation(id: str, call: Caller) -> Response:
        """How far an asynchronous generation is, and its text once it is completed."""
        return reply(await fetch_generated(desk, id, call))

    @app.delete(
        "/generate/{id}", response_model=wire_answers.Generated, responses=statuses, operation_id="end_generation"
    )
    async def end_generation(id: str, call: Caller) -> Response:
        """Cancel a generation that is open; forget one that has ended."""
        return reply(await end_generated(desk, id, call))


def _add_models(app: FastAPI, desk: Desk, guard: Guard) -> None:
    @app.get(
        "/v1/models", response_model=wire_answers.ModelList, responses=errors(*READING), operation_id="list_models"
    )
    async def list_models() -> Response:
        """The models that are served."""
        return reply(info.model_list(desk))

    @app.get(
        "/v1/models/{id:path}",
        response_model=wire_answers.ModelReply,
        responses=errors(*READING, 404),
        operation_id="get_model",
    )
    async def get_model(id: str) -> Response:
        """One model."""
        return reply(info.one_model(desk, id))

    @app.get(
        "/freehold/workers",
        response_model=wire_workers.WorkerList,
        responses=errors(*READING),
        operation_id="list_workers",
    )
    async def list_workers() -> Response:
        """Every worker: its state, model, load and restarts."""
        return reply(info.worker_list(desk))

    @app.get(
        "/freehold/workers/{name}/steps",
        response_model=wire_workers.StepList,
        responses=errors(*READING, 404, 503),
        operation_id="list_steps",
    )
    async def list_steps(name: str, last: info.Last = info.LAST_STEPS) -> Response:
        """The newest steps of one worker's engine: tokens read, sequences running, context, milliseconds and gap."""
        return reply(await info.step_list(desk, name, last))

    @app.get("/freehold/info", response_model=wire_answers.Info, responses=errors(*READING), operation_id="get_info")
    async def get_info() -> Response:
        """Version, models with all that is known of them, and limits."""
        return reply(info.info(desk, guard.required))


def _add_health(app: FastAPI, desk: Desk) -> None:
    @app.get("/livez", response_model=wire_answers.Alive, responses=errors(*OPEN), operation_id="livez")
    async def livez() -> Response:
        """The gateway's event loop turns."""
        return reply({"status": "alive"})

    not_ready: dict[int | str, dict[str, Any]] = {
        503: {"model": wire_answers.Ready, "description": "Not ready, and why."}
    }

    @app.get("/readyz", response_model=wire_answers.Ready, responses=errors(*OPEN) | not_ready, operation_id="readyz")
    async def readyz() -> Response:
        """Whether a request sent now would be worked on."""
        status, body = info.readiness(desk)
        return reply(body, status)

    text: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}

    @app.get("/metrics", response_class=Response, responses=errors(*READING) | text, operation_id="metrics")
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(info.metrics_text(desk), headers={"content-type": CONTENT_TYPE})


def _add_documents(app: FastAPI, papers: Papers) -> None:
    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return Response((await papers.made())[0], media_type="application/json")

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        return respond(request, (await papers.made())[1], DOCS_POLICY)
