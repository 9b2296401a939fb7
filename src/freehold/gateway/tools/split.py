"""Finds tool calls in an answer while it is being written: text passes at once, a call when it is whole.

Three markups are known: hermes `<tool_call>{...}</tool_call>`, llama3 `{"name": ..., "parameters": ...}` with or
without `<|python_tag|>`, mistral `[TOOL_CALLS][{...}]` or `[TOOL_CALLS]name[ARGS]{...}`. What looks like a call but
isn't one stays text, every character of it; only white space next to a call is dropped. However the text
is cut into pieces, the joined result is the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec

from freehold.core import Json
from freehold.gateway.tools.json import JsonEnd, read_calls
from freehold.gateway.tools.markup import LONGEST_HEAD, MARKUPS, Style
from freehold.gateway.tools.schema import satisfies


class Text(msgspec.Struct, frozen=True, gc=False):
    """A piece of content."""

    text: str


class CallStart(msgspec.Struct, frozen=True, gc=False):
    """Call number `index` of the answer begins."""

    index: int
    id: str
    name: str


class CallArguments(msgspec.Struct, frozen=True, gc=False):
    """More of the arguments of call `index`: JSON text, exactly as the model wrote it."""

    index: int
    delta: str


Part = Text | CallStart | CallArguments


class ToolCall(msgspec.Struct, frozen=True):
    id: str
    name: str
    arguments: str


class Splitter(Protocol):
    """Feed it the text of one answer, then close it."""

    calls: int
    """How many calls have begun."""

    def feed(self, text: str) -> list[Part]: ...

    def close(self) -> list[Part]: ...


def split(splitter: Splitter, text: str) -> tuple[str, list[ToolCall]]:
    """Content and calls of a whole answer."""
    content: list[str] = []
    calls: list[ToolCall] = []
    for part in [*splitter.feed(text), *splitter.close()]:
        if isinstance(part, Text):
            content.append(part.text)
        elif isinstance(part, CallStart):
            calls.append(ToolCall(part.id, part.name, ""))
        else:
            last = calls[-1]
            calls[-1] = ToolCall(last.id, last.name, last.arguments + part.delta)
    return "".join(content), calls


class CallIds:
    """Ids of the calls of one answer. They follow from its own id, so that a second reading gives the same ones.
    Mistral's templates accept nothing but nine letters and digits (`short`)."""

    def __init__(self, answer_id: str, *, short: bool = False) -> None:
        self._answer_id = answer_id
        self._short = short

    def __call__(self, index: int) -> str:
        digest = hashlib.sha256(f"{self._answer_id}/{index}".encode()).hexdigest()
        return digest[:9] if self._short else "call_" + digest[:24]


class ToolSplitter:
    """Splits what a model wrote by itself (`tool_choice: auto`). `offered` are the functions, each with the schema that
    its arguments must keep for the call to count, if it has to (strict); a call must name one of them, else it is
    just text. With `single`, all after the first call is dropped."""

    def __init__(
        self,
        style: Style,
        offered: Mapping[str, Json | None],
        ids: CallIds,
        single: bool = False,
    ) -> None:
        self.calls = 0
        self._markup = MARKUPS[style]
        self._offered = offered
        self._ids = ids
        self._single = single
        self._state: Literal["text", "call", "after", "done"] = "text"
        self._held = ""
        """Text not decided on yet."""
        self._raw = ""
        """In a call: what to give back before `_held` if it turns out not to be one."""
        self._scan: JsonEnd | None = None
        self._name: str | None = None
        self._start = 0
        self._bare = False
        self._fresh = True
        """Nothing but calls so far."""
        self._next_to_call = False

    def feed(self, text: str) -> list[Part]:
        self._held += text
        parts: list[Part] = []
        while self._held and self._step(parts):
            pass
        return parts

    def close(self) -> list[Part]:
        parts: list[Part] = []
        if self._state == "call":
            self._give(self._raw + self._held, parts)
        elif self._state == "text":
            self._give(self._held, parts)
        self._held, self._state = "", "done"
        return parts

    def _step(self, parts: list[Part]) -> bool:
        """Decide on the front of `_held`. False: that needs more text."""
        match self._state:
            case "text":
                return self._text(parts)
            case "call":
                return self._call(parts)
            case "after":
                return self._after()
            case "done":
                self._held = ""
                return False

    def _text(self, parts: list[Part]) -> bool:
        """Pass on what can't be the start of a call."""
        if self._next_to_call:
            self._held = self._held.lstrip()
        marker = self._markup.marker
        begun = self._held.lstrip()
        self._bare = bool(self._fresh and self._markup.bare and begun.startswith(self._markup.bare))
        if self._bare and marker.startswith(begun):
            return False
        self._bare = self._bare and not begun.startswith(marker)
        at = len(self._held) - len(begun) if self._bare else self._held.find(marker)
        if at < 0:
            cut = self._safe()
            self._give(self._held[:cut], parts)
            self._held = self._held[cut:]
            return False
        before = self._held[:at].rstrip()
        self._give(before, parts)
        behind = at if self._bare else at + len(marker)
        self._raw = self._held[len(before) : behind]
        self._held = self._held[behind:]
        self._state, self._scan = "call", None
        return True

    def _safe(self) -> int:
        """How much of `_held` can't belong to a marker or to the white space before one."""
        marker, held = self._markup.marker, self._held
        cut = len(held)
        at = held.find(marker[0], max(0, cut - len(marker) + 1))
        while at >= 0:
            if marker.startswith(held[at:]):
                cut = at
                break
            at = held.find(marker[0], at + 1)
        return len(held[:cut].rstrip())

    def _call(self, parts: list[Part]) -> bool:
        if self._scan is None:
            head = self._markup.head.match(self._held)
            if head is None:
                return self._headless(parts)
            self._scan, self._name, self._start = JsonEnd(), head[1] or None, head.end()
            self._scan.position = self._start
        verdict = self._scan.scan(self._held)
        if verdict == "more":
            return False
        end = self._scan.position
        found = read_calls(self._held[self._start : end], self._name) if verdict == "end" else []
        if not found or not all(self._counts(name, arguments) for name, arguments in found):
            return self._not_a_call(end, parts)
        for name, arguments in found[:1] if self._single else found:
            parts.append(CallStart(self.calls, self._ids(self.calls), name))
            parts.append(CallArguments(self.calls, arguments))
            self.calls += 1
        self._held = self._held[end:]
        self._next_to_call = True
        self._state = "done" if self._single else "after"
        return True

    def _counts(self, name: str, arguments: str) -> bool:
        if name not in self._offered:
            return False
        schema = self._offered[name]
        try:
            return schema is None or satisfies(msgspec.json.decode(arguments), schema, schema)
        except RecursionError:  # a schema that refers to itself without end
            return False

    def _headless(self, parts: list[Part]) -> bool:
        """No JSON behind the marker yet: wait while there may be some."""
        begun = self._held.lstrip()
        if begun.startswith("["):
            may_come = not begun[1:].lstrip()
        else:
            may_come = not begun or (not self._bare and self._markup.named)
        if may_come and len(self._held) <= LONGEST_HEAD:
            return False
        return self._not_a_call(0, parts)

    def _not_a_call(self, end: int, parts: list[Part]) -> bool:
        self._give(self._raw + self._held[:end], parts)
        self._held, self._state, self._fresh = self._held[end:], "text", False
        return True

    def _after(self) -> bool:
        self._held = self._held.lstrip()
        closing = self._markup.closing
        if len(self._held) < len(closing) and closing.startswith(self._held):
            return False
        self._held = self._held.removeprefix(closing)
        self._state = "text"
        return True

    def _give(self, text: str, parts: list[Part]) -> None:
        if text:
            parts.append(Text(text))
            self._fresh = self._next_to_call = False
