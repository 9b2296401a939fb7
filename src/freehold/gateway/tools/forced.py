"""Reads the answer of a request that had to call a tool: one JSON object, held to a schema while it was written."""

from __future__ import annotations

import re

import msgspec

from freehold.gateway.tools.json import JsonEnd, read_calls
from freehold.gateway.tools.split import CallArguments, CallIds, CallStart, Part, Text

_FORCED_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')


class ForcedSplitter:
    """Reads an answer that a schema held to `{"name": ..., "arguments": {...}}`. The arguments are passed on while they
    are written; an answer cut short by its limit leaves them incomplete, as its finish reason tells."""

    def __init__(self, ids: CallIds) -> None:
        self.calls = 0
        self._ids = ids
        self._held = ""
        self._scan: JsonEnd | None = None
        self._ended = False

    def feed(self, text: str) -> list[Part]:
        if self._ended:
            return []
        self._held += text
        parts: list[Part] = []
        start = 0
        if self._scan is None:
            head = _FORCED_HEAD.match(self._held)
            if head is None:
                return []
            self.calls = 1
            self._scan = JsonEnd()
            self._scan.position = start = head.end()
            parts.append(CallStart(0, self._ids(0), msgspec.json.decode(head[1], type=str)))
        while (verdict := self._scan.scan(self._held)) == "bad":
            self._scan.position += 1
        self._ended = verdict == "end"
        if self._scan.position > start:
            parts.append(CallArguments(0, self._held[start : self._scan.position]))
        self._held = self._held[self._scan.position :]
        self._scan.position = 0
        return parts

    def close(self) -> list[Part]:
        if self.calls or not self._held:
            return []
        found = read_calls(self._held.strip())
        if len(found) != 1:
            return [Text(self._held)]
        self.calls = 1
        return [CallStart(0, self._ids(0), found[0][0]), CallArguments(0, found[0][1])]
