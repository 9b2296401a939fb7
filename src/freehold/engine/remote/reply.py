"""One streamed reply of a remote, event by event, into chunks. Pure; both of OpenAI's stream shapes.

Tool calls come as deltas of their own and leave as the text a Hermes-style model would have written,
`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, so that the gateway has one parser for all engines.
"""

from __future__ import annotations

from typing import Any

import msgspec

from freehold.core import Chunk, FinishReason, TokenLogprob, Usage

DONE = b"[DONE]"
_FINISHES: dict[str, FinishReason] = {"length": "length", "content_filter": "content_filter"}
"""What isn't "stop" here; a call of a tool is one, told by its text."""


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    index: int = 0
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Top(msgspec.Struct):
    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None


class _Logprob(msgspec.Struct):
    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None
    top_logprobs: list[_Top] | None = None


class _Logprobs(msgspec.Struct):
    """Chat fills `content`; completions the parallel lists."""

    content: list[_Logprob] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    logprobs: _Logprobs | None = None


class _Cached(msgspec.Struct):
    cached_tokens: int | None = 0


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int | None = 0
    prompt_tokens_details: _Cached | None = None


class Event(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(Event)


class Reply:
    """Counts tokens and keeps the end back until the usage is known, which comes after it."""

    def __init__(self, id: str, choice: int, traceparent: str = "") -> None:
        self.id = id
        self.traceparent = traceparent
        """A header to ask with."""
        self.choice = choice
        self.offset = 0
        self.ended = False
        """The remote said how the answer ended: what comes after is only usage."""
        self._finish: FinishReason = "stop"
        self._stop: str | int | None = None
        self._usage: _Usage | None = None
        self._calls: dict[int, tuple[str, list[str]]] = {}

    def read(self, data: bytes) -> tuple[Chunk | None, object]:
        """(what the event adds, the error it carries). Raises `msgspec.DecodeError` if it is no event."""
        event = _decoder.decode(data)
        if event.error is not None:
            return None, event.error
        if event.usage is not None:
            self._usage = event.usage
        return (self._take(event.choices[0]) if event.choices else None), None

    def _take(self, choice: _Choice) -> Chunk | None:
        delta = choice.delta or _Delta()
        text = choice.text or delta.content or ""
        logprobs = _logprobs(choice.logprobs)
        for call in delta.tool_calls or ():
            self._collect(call)
        if choice.finish_reason:
            self.ended = True
            self._finish = _FINISHES.get(choice.finish_reason, "stop")
            self._stop = choice.stop_reason
        tokens = len(logprobs) if logprobs else int(bool(text or delta.tool_calls))
        if not tokens:
            return None
        chunk = Chunk(self.id, self.choice, self.offset, tokens, text, logprobs)
        self.offset += tokens
        return chunk

    def last(self) -> Chunk:
        """The last chunk. Tokens that the remote counted but didn't show one by one are added to it."""
        usage = self._usage or _Usage(completion_tokens=self.offset)
        completion = usage.completion_tokens or 0
        cached = (usage.prompt_tokens_details.cached_tokens or 0) if usage.prompt_tokens_details else 0
        counted = Usage(prompt_tokens=usage.prompt_tokens, cached_tokens=cached, completion_tokens=completion)
        tokens = max(0, completion - self.offset)
        text = "".join(_call_text(name, "".join(parts)) for name, parts in self._calls.values())
        return Chunk(self.id, self.choice, self.offset, tokens, text, None, self._finish, counted, None, self._stop)

    def _collect(self, call: _ToolCall) -> None:
        name, parts = self._calls.setdefault(call.index, ("", []))
        if call.function and call.function.arguments:
            parts.append(call.function.arguments)
        if call.function and call.function.name:
            self._calls[call.index] = (name + call.function.name, parts)


def _call_text(name: str, arguments: str) -> str:
    try:
        parsed: object = msgspec.json.decode(arguments or "{}")
    except msgspec.DecodeError:
        parsed = arguments
    return f"<tool_call>{msgspec.json.encode({'name': name, 'arguments': parsed}).decode()}</tool_call>"


def _logprobs(given: _Logprobs | None) -> tuple[TokenLogprob, ...] | None:
    if given is None:
        return None
    if given.content:
        return tuple(
            TokenLogprob(
                one.token, one.logprob, one.bytes, tuple((top.token, top.logprob) for top in one.top_logprobs or ())
            )
            for one in given.content
        )
    if not given.tokens or not given.token_logprobs:
        return None
    tops = given.top_logprobs or [None] * len(given.tokens)
    return tuple(
        TokenLogprob(token, value or 0.0, tuple(token.encode()), tuple((top or {}).items()))
        for token, value, top in zip(given.tokens, given.token_logprobs, tops, strict=False)
    )
