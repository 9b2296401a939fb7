"""What the Responses API answers, as schemas for the OpenAPI page and the tests. The token path never builds these."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from freehold.gateway.wire_answers import Answer, LogprobReply

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class OutputTextReply(Answer):
    type: Literal["output_text"]
    text: str
    annotations: list[Any] = Field(max_length=0)
    logprobs: list[LogprobReply]


class InputTextReply(Answer):
    type: Literal["input_text"]
    text: str


class OutputMessageReply(Answer):
    type: Literal["message"]
    id: str
    status: ItemStatus
    role: Literal["assistant"]
    content: list[OutputTextReply]


class InputMessageReply(Answer):
    type: Literal["message"]
    id: str
    status: ItemStatus
    role: Literal["user", "assistant", "system", "developer"]
    content: list[InputTextReply | OutputTextReply]


class FunctionCallReply(Answer):
    type: Literal["function_call"]
    id: str
    status: ItemStatus
    call_id: str
    name: str
    arguments: str = Field(description="JSON text; incomplete where the answer was cut short.")


class FunctionOutputReply(Answer):
    type: Literal["function_call_output"]
    id: str
    status: ItemStatus
    call_id: str
    output: str | list[InputTextReply]


class ResponseErrorReply(Answer):
    code: str
    message: str


class IncompleteReply(Answer):
    reason: Literal["max_output_tokens", "content_filter"]


class InputDetails(Answer):
    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(Answer):
    reasoning_tokens: int


class ResponseUsageReply(Answer):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class ReasoningReply(Answer):
    effort: str | None
    summary: None


class TextReply(Answer):
    format: dict[str, Any]
    verbosity: Literal["medium"]


class FunctionToolReply(Answer):
    type: Literal["function"]
    name: str
    description: str | None
    parameters: dict[str, Any] | None
    strict: bool


class ResponseReply(Answer):
    """A response: its parameters, its state, and what has been answered."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
    error: ResponseErrorReply | None
    incomplete_details: IncompleteReply | None
    background: bool
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    model: str
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: ReasoningReply
    safety_identifier: str | None
    service_tier: Literal["default"]
    store: bool
    temperature: float
    text: TextReply
    tool_choice: str | dict[str, Any]
    tools: list[FunctionToolReply]
    top_logprobs: int
    top_p: float
    presence_penalty: float
    frequency_penalty: float
    truncation: Literal["disabled"]
    user: str | None
    metadata: dict[str, str]
    output: list[OutputMessageReply | FunctionCallReply]
    usage: ResponseUsageReply | None


class DeletedReply(Answer):
    id: str
    object: Literal["response"]
    deleted: Literal[True]


class InputItemsReply(Answer):
    object: Literal["list"]
    data: list[InputMessageReply | FunctionCallReply | FunctionOutputReply]
    first_id: str
    last_id: str
    has_more: bool
