"""Token counts and times of one HTTP request, in the shapes the APIs use."""

from __future__ import annotations

from collections.abc import Iterable

from freehold.core import Chunk, Json, TokenLogprob, Usage
from freehold.gateway.call import Call
from freehold.gateway.inbox import Inbox


class Counter:
    """Sums the usage of all answers. Each answer's last chunk carries its own; without it, tokens are counted."""

    def __init__(self) -> None:
        self._counted: dict[tuple[str, int], int] = {}
        self._told: dict[tuple[str, int], Usage] = {}

    def add(self, chunk: Chunk) -> None:
        key = (chunk.id, chunk.choice)
        if chunk.usage is not None:
            self._told[key] = chunk.usage
        elif chunk.tokens:
            self._counted[key] = self._counted.get(key, 0) + chunk.tokens

    def total(self) -> Usage:
        """Prompts once each, completions of every answer."""
        prompts: dict[str, int] = {}
        cached: dict[str, int] = {}
        completion = sum(count for key, count in self._counted.items() if key not in self._told)
        for (id, _), usage in self._told.items():
            prompts[id] = max(prompts.get(id, 0), usage.prompt_tokens)
            cached[id] = max(cached.get(id, 0), usage.cached_tokens)
            completion += usage.completion_tokens
        return Usage(
            prompt_tokens=sum(prompts.values()), cached_tokens=sum(cached.values()), completion_tokens=completion
        )


def usage_object(usage: Usage) -> Json:
    """`usage` as chat and completions give it."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def note_first(call: Call, inbox: Inbox) -> None:
    """Tell the call what its headers need, once the first chunks are there."""
    call.queue_ms = inbox.queued_ms
    if inbox.first_s is not None:
        call.ttft_ms = (inbox.first_s - call.started_s) * 1000.0
    call.worker = ",".join(dict.fromkeys(line.worker for line in inbox.workers.values()))


def chat_logprobs(logprobs: Iterable[TokenLogprob]) -> Json:
    """Chat's shape of log-probabilities."""
    content = [
        {
            "token": each.token,
            "logprob": each.logprob,
            "bytes": list(each.bytes) if each.bytes is not None else list(each.token.encode(errors="replace")),
            "top_logprobs": [
                {"token": t, "logprob": p, "bytes": list(t.encode(errors="replace"))} for t, p in each.top
            ],
        }
        for each in logprobs
    ]
    return {"content": content, "refusal": None}


def text_logprobs(logprobs: Iterable[TokenLogprob], offset: int, top: int) -> tuple[Json, int]:
    """The older shape of /v1/completions, and the text offset after these tokens."""
    tokens: list[str] = []
    values: list[float] = []
    offsets: list[int] = []
    tops: list[dict[str, float]] = []
    for each in logprobs:
        tokens.append(each.token)
        values.append(each.logprob)
        offsets.append(offset)
        tops.append(dict(each.top))
        offset += len(each.token)
    return {
        "tokens": tokens,
        "token_logprobs": values,
        "text_offset": offsets,
        "top_logprobs": tops if top else None,
    }, offset
