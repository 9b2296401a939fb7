"""One streamed answer as its client keeps it, over any number of connections: the text, and how far each event's id
says that it reaches.

`read` is what a careful client does: it reads, goes on after the last event that came when the connection breaks, and
waits where the server says that it is busy. It needs only HTTP, so any OpenAI-compatible server will do.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import msgspec

RETRY_S = 0.1
BUSY = (429, 502, 503, 507)
"""Statuses that say: not now, try again."""
_PLACE = re.compile(r"[^/]+/(\d+)-[0-9a-f]{8}\.?$")
_ENDS = ("response.completed", "response.incomplete", "response.cancelled")


class Ask(msgspec.Struct, frozen=True):
    """What to send, and where to. `key`: sending it again is the same request."""

    path: str
    body: dict[str, Any]
    key: str | None = None
    resumable_s: float = 120.0

    def headers(self, last_id: str) -> dict[str, str]:
        found = {}
        if self.resumable_s:
            found["x-freehold-resumable-s"] = f"{self.resumable_s:g}"
        if last_id:
            found["last-event-id"] = last_id
        if self.key is not None:
            found["idempotency-key"] = self.key
        return found


class Journal(msgspec.Struct):
    """Filled line by line. `whole`: the answer has ended as answers do."""

    text: str = ""
    last_id: str = ""
    finish: str | None = None
    done: bool = False
    failure: str = ""
    """The code of the error that ended it (of a response with its message: there one code means many things)."""
    places: dict[int, int] = {}
    """Tokens told -> length of the text then."""
    backwards: int = 0
    """Events whose id reaches less far than one before."""
    connections: int = 0
    refusals: int = 0
    first_s: float | None = None
    _next_id: str = ""

    @property
    def id(self) -> str:
        """The request's, once an event has come."""
        return self.last_id.partition("/")[0]

    @property
    def whole(self) -> bool:
        return self.done and self.finish is not None and not self.failure

    @property
    def over(self) -> bool:
        return self.whole or bool(self.failure)

    def line(self, line: str) -> bool:
        """One line of the stream; True if it ended an event."""
        if line.startswith("id:"):
            self._next_id = line[3:].strip()
        if not line.startswith("data:"):
            return False
        data = line[5:].strip()
        if data == "[DONE]":
            self.done = True
            return True
        event = json.loads(data)
        if event.get("error"):
            self.failure = str(event["error"].get("code") or event["error"].get("message") or "error")
        self.text += self._text_of(event)
        if self._next_id:
            self.last_id = self._next_id
            self._note_place()
        return True

    def _text_of(self, event: dict[str, Any]) -> str:
        kind = event.get("type", "")
        if kind == "response.output_text.delta":
            return str(event["delta"])
        if kind in _ENDS:
            self.finish, self.done = kind.removeprefix("response."), True
        if kind == "response.failed":
            error = event["response"].get("error") or {}
            self.failure = f"{error.get('code') or 'failed'}: {error.get('message') or ''}".rstrip(": ")
        for choice in event.get("choices") or ():
            self.finish = choice.get("finish_reason") or self.finish
            return str(choice.get("text") or (choice.get("delta") or {}).get("content") or "")
        return ""

    def _note_place(self) -> None:
        if (found := _PLACE.match(self.last_id)) is None:
            return
        tokens = int(found[1])
        if self.places and tokens < max(self.places):
            self.backwards += 1
        self.places[tokens] = len(self.text)

    def differs(self, other: Journal) -> list[str]:
        """How this answer isn't `other`, in words."""
        found = []
        if self.text != other.text:
            found.append(f"text {self.text!r} is not {other.text!r}")
        if self.finish != other.finish:
            found.append(f"finish {self.finish} is not {other.finish}")
        both = self.places.keys() & other.places.keys()
        wrong = [at for at in both if self.places[at] != other.places[at]]
        if wrong:
            found.append(f"at tokens {sorted(wrong)[:5]} the text has another length")
        if self.backwards:
            found.append(f"{self.backwards} events went back")
        return found


Cut = Callable[[Journal], bool]
"""Asked after each event: shall the connection be cut now?"""


async def read(
    http: httpx.AsyncClient, ask: Ask, journal: Journal, *, until_s: float, cut: Cut = lambda journal: False,
    again: bool = True,
) -> None:  # fmt: skip
    """Read until the answer is over or `until_s` (monotonic) has come. Not `again`: one connection only."""
    while not journal.over and time.monotonic() < until_s:
        with suppress(httpx.TransportError):
            await _connection(http, ask, journal, cut)
        if not again:
            return
        if not journal.over:
            await asyncio.sleep(RETRY_S)


async def _connection(http: httpx.AsyncClient, ask: Ask, journal: Journal, cut: Cut) -> None:
    journal.connections += 1
    async with http.stream("POST", ask.path, json=ask.body, headers=ask.headers(journal.last_id)) as reply:
        if reply.status_code in BUSY:
            journal.refusals += 1
            return
        if reply.status_code != 200:
            await reply.aread()
            journal.failure = f"status {reply.status_code}: {reply.text[:300]}"
            return
        async for line in reply.aiter_lines():
            if journal.line(line):
                if journal.first_s is None:
                    journal.first_s = time.monotonic()
                if cut(journal):
                    return
