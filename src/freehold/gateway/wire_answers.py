"""What Freehold answers, as schemas for the OpenAPI page and the tests. The token path never builds these objects."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from freehold.core import WorkerState
from freehold.model_status import ModelState


class Answer(BaseModel):
    """Base of every reply's schema."""

    model_config = ConfigDict(extra="forbid")


class ErrorObject(Answer):
    message: str = Field(description="What happened, why, and what to do next.")
    type: str
    param: str | None
    code: str | None


class ErrorReply(Answer):
    """Every error, whatever its status."""

    error: ErrorObject


class PromptDetails(Answer):
    cached_tokens: int


class UsageReply(Answer):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class Timings(Answer):
    """Milliseconds since the request arrived; tokens/s from the first token to the last."""

    queue_ms: float | None
    ttft_ms: float | None
    total_ms: float
    tokens_per_s: float | None


class TopLogprob(Answer):
    token: str
    logprob: float
    bytes: list[int]


class LogprobReply(TopLogprob):
    top_logprobs: list[TopLogprob]


class ChatLogprobs(Answer):
    content: list[LogprobReply]
    refusal: None


class CallFunction(Answer):
    name: str
    arguments: str


class CallReply(Answer):
    id: str
    type: Literal["function"]
    function: CallFunction


class MessageReply(Answer):
    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[CallReply] = Field(default_factory=list, description="Absent when no tool is called.")


class ChatChoice(Answer):
    index: int
    message: MessageReply
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"]


class ChatCompletion(Answer):
    """A whole answer. With `stream` true: `text/event-stream` of `chat.completion.chunk` objects, then `[DONE]`."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: UsageReply
    timings: Timings
    service_tier: Literal["default"] = "default"
    metadata: dict[str, str] = {}


class TextLogprobs(Answer):
    tokens: list[str]
    token_logprobs: list[float]
    text_offset: list[int]
    top_logprobs: list[dict[str, float]] | None


class TextChoice(Answer):
    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length", "content_filter"]


class Completion(Answer):
    """Whole continuations. With `stream` true: `text/event-stream` of `text_completion` objects, then `[DONE]`."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: UsageReply
    timings: Timings


class Embedding(Answer):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str = Field(description="base64 of little-endian float32 where asked for.")


class EmbeddingUsage(Answer):
    prompt_tokens: int
    total_tokens: int


class Embeddings(Answer):
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class ModelReply(Answer):
    """A model that is served here. What OpenAI's clients read, and the parts of the card that help to choose."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    engine: str
    source: str
    context_tokens: int | None = Field(description="null where a remote doesn't say.")
    quantization: str | None = Field(description="This and all below: null until the model is loaded once.")
    parameters: int | None
    chat: bool | None
    tools: bool | None
    embeddings: bool | None
    state: ModelState


class ModelList(Answer):
    object: Literal["list"]
    data: list[ModelReply]


class Accepted(Answer):
    """An asynchronous generation was accepted: it will be answered."""

    id: str
    status: Literal["queued"]
    model: str


class Generated(Answer):
    """A generation and how far it is. `text` is there once it is completed."""

    id: str
    model: str
    status: Literal["queued", "running", "completed", "failed", "cancelled", "deleted"]
    text: str = ""
    finish_reason: Literal["stop", "length", "content_filter", "cancelled", "error"] = "stop"
    usage: UsageReply | None = None
    timings: Timings | None = None
    error: ErrorObject | None = None


class Alive(Answer):
    status: Literal["alive"]


class Ready(Answer):
    status: Literal["ready", "not_ready"]
    reason: str
    workers: dict[WorkerState, int]
    """How many are in each state."""
    models: dict[str, ModelState] = {}
    """By name; only where models are loaded when somebody asks for them."""


class PhaseReply(Answer):
    name: str
    seconds: float
    detail: str


class CardReply(ModelReply):
    """Everything a worker says about its model."""

    max_batch: int
    weight_bytes: int
    kv_bytes_per_token: int
    memory_bytes: int
    threads: int
    revision: str
    max_top_logprobs: int
    unsupported: list[str]
    versions: dict[str, str]
    phases: list[PhaseReply]


class Limits(Answer):
    max_body_bytes: int
    max_output_tokens: int
    max_n: int
    max_queue: int


class Info(Answer):
    name: Literal["freehold"]
    version: str
    keys_required: bool
    models: list[CardReply]
    limits: Limits
    examples: list[dict[str, Any]] = Field(description="Messages the served model knows, for the page to suggest.")
    queued: int
    running: int
    accepted: int = Field(description="Requests that this gateway has accepted since its start.")
    uptime_s: float = Field(description="Seconds since then.")


GenerationId = Annotated[str, Field(pattern=r"^gen-[a-z0-9]{1,60}$")]
AnyJson = dict[str, Any]
