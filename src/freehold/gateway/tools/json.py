"""JSON inside an answer that is still being written: where it ends, and which calls it holds."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

_STRUCTURE = re.compile(r"[^\s0-9A-Za-z:,.+\-]")
_IN_STRING = re.compile(r'["\\]')


class JsonEnd:
    """Finds where the first JSON object or array of a growing text ends. Each character is read once."""

    def __init__(self) -> None:
        self._depth = 0
        self._string = False
        self.position = 0
        """How far it has read."""

    def scan(self, text: str) -> Literal["more", "end", "bad"]:
        """`text` is all text so far. After "end", `position` is behind the value; after "bad", at a character
        that no JSON has there."""
        while True:
            found = (_IN_STRING if self._string else _STRUCTURE).search(text, self.position)
            if found is None:
                self.position = len(text)
                return "more"
            char = found[0]
            if char == "\\" and self._string:
                if found.end() == len(text):
                    self.position = found.start()
                    return "more"
                self.position = found.end() + 1
                continue
            self.position = found.end()
            if char == '"':
                self._string = not self._string
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    return "end"
            else:
                self.position = found.start()
                return "bad"


class _Written(msgspec.Struct):
    """A call as a model writes it."""

    name: str
    arguments: msgspec.Raw = msgspec.Raw()
    parameters: msgspec.Raw = msgspec.Raw()


_one = msgspec.json.Decoder(_Written)
_many = msgspec.json.Decoder(list[_Written])


def read_calls(value: str, name: str | None = None) -> list[tuple[str, str]]:
    """(name, arguments) of the calls in a JSON text, arguments as written; empty if it holds none. With `name`
    the text is the arguments alone."""
    try:
        if name:
            msgspec.json.decode(value)
            return [(name, value)] if value.startswith("{") else []
        written = _many.decode(value) if value.startswith("[") else [_one.decode(value)]
        calls = [(call.name, _arguments(bytes(call.arguments) or bytes(call.parameters))) for call in written]
    except (msgspec.DecodeError, RecursionError):
        return []
    return calls if all(name and arguments for name, arguments in calls) else []


def _arguments(raw: bytes) -> str:
    """The JSON object in `raw` as text; some models write it inside a string. Empty if it is something else."""
    text = raw.decode()
    if text in ("", "null"):
        return "{}"
    if text.startswith('"'):
        text = msgspec.json.decode(text, type=str).strip()
    if not text.startswith("{"):
        return ""
    msgspec.json.decode(text)
    return text
