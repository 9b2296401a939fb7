"""The bodies of POST /v1/completions, /v1/embeddings and /generate."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from freehold.core import ModelCard, Request
from freehold.errors import InvalidRequest, UnsupportedParameter
from freehold.gateway.call import Call, new_id
from freehold.gateway.limits import check_against
from freehold.gateway.wire import ModelName, Refused, SamplingFields, StreamOptions, TokenId, Webhook, Wire
from freehold.settings import ServerConfig

MAX_PROMPTS = 256
TEXT_NAMES = {"top_logprobs": "logprobs"}
"""What the ledger's names are called in /v1/completions, where they differ."""

Tokens = Annotated[list[TokenId], Field(min_length=1)]


class CompletionRequest(SamplingFields):
    """A text, or several, to go on with, taken as they are (no chat template)."""

    prompt: (
        str
        | Tokens
        | Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS)]
        | Annotated[list[Tokens], Field(min_length=1, max_length=MAX_PROMPTS)]
    )
    model: ModelName | None = None
    logprobs: int | None = Field(None, ge=0, le=20, description="Log-probabilities, with this many alternatives.")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = Field(None, max_length=512, description="Kept with the request in the ledger.")
    echo: Literal[False] | None = Field(None, description="The prompt is not repeated.")
    best_of: Refused = None
    suffix: Refused = None

    def logprobs_wanted(self) -> tuple[bool, int]:
        return self.logprobs is not None, self.logprobs or 0

    def prompts(self) -> list[str | tuple[int, ...]]:
        if isinstance(self.prompt, str):
            return [self.prompt]
        tokens = [each for each in self.prompt if isinstance(each, int)]
        if tokens:
            return [tuple(tokens)]
        return [tuple(each) if isinstance(each, list) else str(each) for each in self.prompt]


class EmbeddingRequest(Wire):
    """Texts to turn into vectors."""

    input: (
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=2048)]
    ) = Field(description="Text, or a list of texts (token ids are not taken).")
    model: ModelName | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = Field(None, max_length=512, description="Kept with the request in the ledger.")
    dimensions: Refused = None


class GenerateRequest(SamplingFields):
    """The plainest form: a prompt in, a text out."""

    prompt: str = Field(min_length=1)
    model: ModelName | None = None
    mode: Literal["sync", "async"] | None = Field(
        None, description="async: answer 202 with an id to poll at GET /generate/{id}."
    )
    webhook: Webhook | None = Field(None, description="Only with mode async: whom to tell when it has ended.")
    raw: bool | None = Field(None, description="True: no chat template around the prompt.")
    n: Refused = None


def completion_requests(body: CompletionRequest, card: ModelCard, call: Call, server: ServerConfig) -> list[Request]:
    """One request for each prompt. Raises `InvalidRequest`."""
    if body.stream_options is not None and not body.stream:
        raise InvalidRequest("stream_options needs stream.", next="Set stream to true.", param="stream_options")
    id = new_id("cmpl-")
    prompts = body.prompts()
    requests = [
        Request(
            id=id if len(prompts) == 1 else f"{id}-{i}",
            model=card.name,
            kind="text",
            prompt=prompt,
            sampling=body.sampling(),
            n=body.n or 1,
            tenant=call.tenant,
            received_unix_s=call.received_unix_s,
            deadline_unix_s=call.deadline_unix_s,
            priority=call.priority,
            meta={"user": body.user} if body.user is not None else {},
        )
        for i, prompt in enumerate(prompts)
    ]
    check_against(card, requests[0], server, names=TEXT_NAMES)
    if len(requests) * requests[0].n > max(MAX_PROMPTS, server.max_n):
        raise InvalidRequest(f"{len(requests)} prompts with n {requests[0].n} are too many answers.", param="n")
    return requests


def embedding_request(body: EmbeddingRequest, card: ModelCard, call: Call, server: ServerConfig) -> Request:
    """Raises `UnsupportedParameter` for a model that makes no embeddings."""
    if not card.embeddings:
        raise UnsupportedParameter(
            f"The model {card.name!r} makes no embeddings.",
            f"It runs on the engine {card.engine!r} for text.",
            param="model",
        )
    request = Request(
        id=new_id("embd-"),
        model=card.name,
        kind="embed",
        inputs=(body.input,) if isinstance(body.input, str) else tuple(body.input),
        tenant=call.tenant,
        received_unix_s=call.received_unix_s,
        deadline_unix_s=call.deadline_unix_s,
        priority=call.priority,
        meta={"user": body.user} if body.user is not None else {},
    )
    check_against(card, request, server)
    return request


def generate_request(body: GenerateRequest, card: ModelCard, call: Call, server: ServerConfig) -> Request:
    """A chat of one message where the model knows chat, unless `raw`. Raises `InvalidRequest`."""
    if body.webhook is not None and body.mode != "async":
        raise InvalidRequest("webhook needs mode async.", next="Set mode to async.", param="webhook")
    chat = card.chat and not body.raw
    request = Request(
        id=new_id("gen-"),
        model=card.name,
        kind="chat" if chat else "text",
        messages=({"role": "user", "content": body.prompt},) if chat else (),
        prompt="" if chat else body.prompt,
        sampling=body.sampling(),
        tenant=call.tenant,
        received_unix_s=call.received_unix_s,
        deadline_unix_s=call.deadline_unix_s,
        priority=call.priority,
        keep=body.mode == "async",
        meta={"route": "generate"},
    )
    check_against(card, request, server)
    return request
