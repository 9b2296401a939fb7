"""Server-sent events of chat and text completions, as bytes.

This is the hot path of the gateway: what is the same in every event of a request is made once, and a token costs
one escaped string between a prefix and a suffix.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from freehold.core import Chunk, FinishReason, Json
from freehold.gateway.call import Call
from freehold.gateway.tools.plan import Plan
from freehold.gateway.tools.split import CallArguments, CallStart, Part, Splitter, Text
from freehold.gateway.usage import Counter, chat_logprobs, text_logprobs, usage_object

_json = msgspec.json.Encoder().encode
DONE = b"data: [DONE]\n\n"


class Head(msgspec.Struct, frozen=True):
    """What every event of one answer repeats."""

    id: str
    created: int
    model: str
    fingerprint: str
    include_usage: bool

    def opening(self, kind: str) -> bytes:
        """Up to and with `"choices":[`, and without the first brace's closing."""
        same = {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }
        return b"data: " + _json(same)[:-1] + b',"choices":['

    def closing(self) -> bytes:
        return (b'],"usage":null}' if self.include_usage else b"]}") + b"\n\n"


class Events(Protocol):
    """How one API writes a stream."""

    def add(self, chunk: Chunk, out: list[bytes]) -> None:
        """Append the events that `chunk` makes."""
        ...

    def end(self, call: Call, out: list[bytes]) -> None:
        """Append what follows when all answers have ended."""
        ...


class _Counted:
    """The parts that both kinds of events share."""

    def __init__(self, head: Head, kind: str) -> None:
        self.counter = Counter()
        self._head = head
        self._opening = head.opening(kind)
        self._closing = head.closing()

    def end(self, call: Call, out: list[bytes]) -> None:
        if self._head.include_usage:
            usage = self.counter.total()
            last = {"usage": usage_object(usage), "timings": call.timings(usage.completion_tokens)}
            out.append(self._opening + b"]," + _json(last)[1:] + b"\n\n")
        out.append(DONE)


class ChatEvents(_Counted):
    """`chat.completion.chunk` events; with tools, the text goes through a splitter first."""

    def __init__(self, head: Head, plan: Plan) -> None:
        super().__init__(head, "chat.completion.chunk")
        self._plan = plan
        self._begun: dict[int, bytes] = {}
        self._splitters: dict[int, Splitter | None] = {}
        self._after_text = b'},"logprobs":null,"finish_reason":null}' + self._closing

    def add(self, chunk: Chunk, out: list[bytes]) -> None:
        if chunk.usage is not None:
            self.counter.add(chunk)
        opening = self._begun.get(chunk.choice) or self._begin(chunk.choice, out)
        if chunk.logprobs is None and chunk.finish is None and self._splitters[chunk.choice] is None:
            if chunk.text:
                out.append(opening + b'"content":' + _json(chunk.text) + self._after_text)
            return
        self._add_slowly(chunk, opening, out)

    def _begin(self, choice: int, out: list[bytes]) -> bytes:
        opening = self._opening + b'{"index":%d,"delta":{' % choice
        self._begun[choice] = opening
        self._splitters[choice] = self._plan.splitter(f"{self._head.id}/{choice}")
        out.append(opening + b'"role":"assistant","content":""' + self._after_text)
        return opening

    def _add_slowly(self, chunk: Chunk, opening: bytes, out: list[bytes]) -> None:
        """Log-probabilities, tool calls and ends."""
        splitter = self._splitters[chunk.choice]
        parts: list[Part] = [Text(chunk.text)] if chunk.text else []
        if splitter is not None:
            parts = splitter.feed(chunk.text) + (splitter.close() if chunk.finish is not None else [])
        logprobs = _json(chat_logprobs(chunk.logprobs)) if chunk.logprobs else b"null"
        if chunk.logprobs and not parts:
            parts = [Text("")]
        for part in parts:
            out.append(
                opening
                + _json(_delta(part))[1:-1]
                + b'},"logprobs":'
                + logprobs
                + b',"finish_reason":null}'
                + self._closing
            )
            logprobs = b"null"
        if chunk.finish is not None:
            reason = finish_reason(chunk.finish, splitter.calls if splitter is not None else 0)
            out.append(opening + b'},"logprobs":null,"finish_reason":"%s"}' % reason.encode() + self._closing)


class TextEvents(_Counted):
    """`text_completion` events. Prompt i's answer j has the index i * n + j."""

    def __init__(self, head: Head, ids: list[str], n: int, top_logprobs: int) -> None:
        super().__init__(head, "text_completion")
        self._first = {id: i * n for i, id in enumerate(ids)}
        self._top = top_logprobs
        self._offsets: dict[int, int] = {}

    def add(self, chunk: Chunk, out: list[bytes]) -> None:
        if chunk.usage is not None:
            self.counter.add(chunk)
        index = self._first[chunk.id] + chunk.choice
        if not chunk.text and not chunk.logprobs and chunk.finish is None:
            return
        logprobs: Json | None = None
        if chunk.logprobs:
            logprobs, self._offsets[index] = text_logprobs(chunk.logprobs, self._offsets.get(index, 0), self._top)
        reason = b"null" if chunk.finish is None else b'"%s"' % finish_reason(chunk.finish, 0).encode()
        written = b"null" if logprobs is None else _json(logprobs)
        out.append(
            self._opening + b'{"index":%d,"text":' % index + _json(chunk.text)
            + b',"logprobs":' + written + b',"finish_reason":' + reason + b"}" + self._closing
        )  # fmt: skip


def finish_reason(finish: FinishReason, calls: int) -> str:
    """OpenAI's word for the end of an answer."""
    if finish in ("length", "content_filter"):
        return finish
    return "tool_calls" if calls and finish == "stop" else "stop"


def _delta(part: Part) -> Json:
    if isinstance(part, Text):
        return {"content": part.text}
    if isinstance(part, CallStart):
        call: Json = {
            "index": part.index,
            "id": part.id,
            "type": "function",
            "function": {"name": part.name, "arguments": ""},
        }
        return {"tool_calls": [call]}
    assert isinstance(part, CallArguments)
    return {"tool_calls": [{"index": part.index, "function": {"arguments": part.delta}}]}
