"""The Response object, and what has to be kept so that it can be told again, by another gateway if need be."""

from __future__ import annotations

from typing import Literal

import msgspec

from freehold.core import Answer, Failure, FinishReason, Json, Record, Usage
from freehold.errors import from_failure
from freehold.gateway.responses.wire import ResponseRequest
from freehold.gateway.tools.plan import Plan
from freehold.ledger.protocol import Entry

ResponseStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]


class Told(Record, frozen=True):
    """A response's own part of the ledger's entry (`Request.meta`)."""

    echo: Json
    """The parameters, as the Response object repeats them."""
    input: list[Json]
    """This turn's input items."""
    plan: Plan
    system: str = ""
    """The instructions, which hold for this turn only."""

    @property
    def background(self) -> bool:
        return bool(self.echo["background"])


class Outcome(Record, frozen=True):
    """How an answer ended."""

    finish: FinishReason = "stop"
    usage: Usage | None = None
    failure: Failure | None = None
    ended_unix_s: float = 0.0

    @property
    def status(self) -> ResponseStatus:
        if self.finish == "cancelled":
            return "cancelled"
        if self.failure is not None:
            return "failed"
        return "incomplete" if self.finish in ("length", "content_filter") else "completed"


def told_of(entry: Entry) -> Told | None:
    """The response in a ledger entry, or None if it holds another kind of request."""
    if "echo" not in entry.request.meta:
        return None
    return msgspec.convert(entry.request.meta, Told)


def outcome_of(entry: Entry) -> tuple[Answer, Outcome]:
    """What a finished entry ended with."""
    result = entry.result
    assert result is not None
    answer = result.answers[0] if result.answers else Answer()
    finish: FinishReason = "cancelled" if result.cancelled else answer.finish
    ended_unix_s = entry.accepted_unix_s + result.total_ms / 1000.0
    return answer, Outcome(finish=finish, usage=result.usage, failure=result.failure, ended_unix_s=ended_unix_s)


def echo_of(body: ResponseRequest, model: str) -> Json:
    """The parameters of a request with their defaults filled in, as OpenAI repeats them."""
    sampling = body.sampling()
    return {
        "background": bool(body.background),
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "model": model,
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {"effort": body.reasoning.effort if body.reasoning else None, "summary": None},
        "safety_identifier": body.safety_identifier,
        "service_tier": "default",
        "store": body.stored,
        "temperature": sampling.temperature,
        "text": {"format": _format(body), "verbosity": "medium"},
        "tool_choice": body.tool_choice if body.tool_choice is not None else "auto",
        "tools": [_tool(tool) for tool in body.tools or ()],
        "top_logprobs": sampling.top_logprobs,
        "top_p": sampling.top_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "truncation": "disabled",
        "user": body.user,
        "metadata": body.metadata or {},
    }


def _format(body: ResponseRequest) -> Json:
    wanted = body.text.format if body.text else None
    return {"type": "text"} if wanted is None else wanted.model_dump(by_alias=True)


def _tool(tool: Json) -> Json:
    return {
        "type": "function",
        "name": tool["name"],
        "description": tool.get("description"),
        "parameters": tool.get("parameters"),
        "strict": bool(tool.get("strict")),
    }


def response_object(
    id: str,
    told: Told,
    created_unix_s: float,
    status: ResponseStatus,
    output: list[Json],
    outcome: Outcome | None = None,
) -> Json:
    """The whole object. `outcome` is known once the answer has ended."""
    done = outcome is not None and status == "completed"
    return {
        "id": id,
        "object": "response",
        "created_at": int(created_unix_s),
        "completed_at": int(outcome.ended_unix_s) if outcome is not None and done else None,
        "status": status,
        "error": _error(outcome.failure) if outcome is not None and status == "failed" else None,
        "incomplete_details": {"reason": _why_incomplete(outcome)} if status == "incomplete" else None,
        **told.echo,
        "output": output,
        "usage": _usage(outcome.usage) if outcome is not None and outcome.usage is not None else None,
    }


def _why_incomplete(outcome: Outcome | None) -> str:
    filtered = outcome is not None and outcome.finish == "content_filter"
    return "content_filter" if filtered else "max_output_tokens"


_ERROR_CODES = {400: "invalid_prompt", 429: "rate_limit_exceeded"}


def _error(failure: Failure | None) -> Json | None:
    """OpenAI knows few codes here; the message says what, why and what next."""
    if failure is None:
        return None
    error = from_failure(failure)
    return {"code": _ERROR_CODES.get(error.status, "server_error"), "message": str(error)}


def _usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
