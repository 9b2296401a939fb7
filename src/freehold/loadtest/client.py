"""One request's answer as its bytes come in: HTTP/1.1 and server-sent events, stamped, counted, and hardly parsed.

A token costs a comparison with what stood before the last token's text; JSON is read once an answer, for its usage, or
where an event looks different. So the client can share a machine with the server it measures. No sockets here.
"""

from __future__ import annotations

import re
from itertools import pairwise

import httptools
import msgspec

from freehold.core import Json
from freehold.sample import Outcome, Sample

TOKEN = re.compile(rb'"(?:content|reasoning_content|reasoning|text|arguments)": ?"(?!")')
"""An event with text in it. Quotes inside a JSON text are escaped, so an answer can't look like this."""
FINISH = re.compile(rb'"finish_reason": ?"')
QUOTE = b'"'
ERROR_BYTES = 4096
"""So much of an error's body is kept."""
REFUSALS = (429, 503)


class Exchange:
    """One request and what has come back so far. Times are seconds on the monotonic clock."""

    __slots__ = (
        "_body", "_last", "_prefix", "_tail", "cached_tokens", "ended", "error", "group", "input_tokens", "intended_s",
        "kept", "number", "output_tokens", "queue_ms", "request", "retry_after_s", "sent_s", "served_ms", "stamps",
        "status", "streamed", "tried_again", "user",
    )  # fmt: skip

    def __init__(self, number: int, group: str, intended_s: float, request: bytes, *, keep: bool, user: int) -> None:
        self.number = number
        self.group = group
        self.intended_s = intended_s
        self.request = request
        self.user = user
        self.kept: list[bytes] | None = [] if keep else None
        self.sent_s = intended_s
        self.tried_again = False
        self.status = 0
        self.error = ""
        self.streamed = False
        self.ended = False
        self.retry_after_s: float | None = None
        self.queue_ms: float | None = None
        self.served_ms: float | None = None
        self.input_tokens = self.cached_tokens = self.output_tokens = 0
        self.stamps: list[float] = []
        self._prefix = b"\n"  # nothing begins with it
        self._tail = b""
        self._last = b""
        self._body = b""

    def take(self, data: bytes, now_s: float) -> None:
        """More of the body."""
        if not self.streamed:
            self._body += data if self.status == 200 else data[: ERROR_BYTES - len(self._body)]
            return
        if self.kept is not None:
            self.kept.append(data)
        if self._tail:
            data = self._tail + data
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        events = data.split(b"\n\n")
        self._tail = events.pop()
        prefix = self._prefix
        for event in events:
            if event.startswith(prefix) and event[len(prefix) : len(prefix) + 1] != QUOTE:
                self.stamps.append(now_s)
                self._last = event
            else:
                self._look(event, now_s)
                prefix = self._prefix

    def finish(self) -> None:
        """The whole reply is here: read what is said once."""
        if not self.streamed:
            self._read(self._body)
            self.ended = True
            return
        if self._tail:
            self._look(self._tail, 0.0)
        self._read(_data(self._last))
        self.ended = self.ended or bool(FINISH.search(self._last))
        if not self.ended and not self.error:
            self.error = "The stream ended without saying so."

    def sample(self, end_s: float, outcome: Outcome, zero_s: float) -> Sample:
        stamps = self.stamps
        return Sample(
            number=self.number,
            group=self.group,
            intended_s=self.intended_s - zero_s,
            sent_s=self.sent_s - zero_s,
            end_s=end_s - zero_s,
            outcome=outcome,
            first_s=stamps[0] - zero_s if stamps else None,
            gaps_ms=tuple([round((after - before) * 1e3, 3) for before, after in pairwise(stamps)]),
            status=self.status,
            error=self.error,
            retry_after_s=self.retry_after_s,
            queue_ms=self.queue_ms,
            served_ms=self.served_ms,
            input_tokens=self.input_tokens,
            cached_tokens=self.cached_tokens,
            output_tokens=self.output_tokens or len(stamps),
        )

    def outcome(self) -> Outcome:
        """Of an exchange that has ended by itself."""
        if self.status in REFUSALS and not self.stamps:
            return "refused"
        return "failed" if self.error or not 200 <= self.status < 300 else "ok"

    def text(self) -> str:
        """The answer, where it was kept."""
        if not self.streamed:
            return _text(_json(self._body))
        events = b"".join(self.kept or ()).replace(b"\r\n", b"\n").split(b"\n\n")
        return "".join(_text(_json(_data(event))) for event in events)

    def _look(self, event: bytes, now_s: float) -> None:
        """An event that isn't like the last: the first token, the end, the usage, an error, a comment."""
        if b"data:" not in event:
            return
        if found := TOKEN.search(event):
            self._prefix = event[: found.end()]
            self.stamps.append(now_s)
            self._last = event
        elif event.endswith(b"[DONE]"):
            self.ended = True
        else:
            self.ended = self.ended or bool(FINISH.search(event))
            if b'"error"' in event or b'"usage"' in event:
                self._read(_data(event))

    def _read(self, data: bytes) -> None:
        told = _json(data)
        usage = told.get("usage")
        if isinstance(usage, dict):
            self.input_tokens = usage.get("prompt_tokens") or 0
            self.output_tokens = usage.get("completion_tokens") or 0
            self.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        error = told.get("error") or (self.status >= 400 and (told.get("detail") or told.get("message")))
        if error:
            self.error = str(error.get("message", error) if isinstance(error, dict) else error)[:300]
        elif self.status >= 300:
            self.error = f"status {self.status}"
        elif not told and not self.streamed:
            self.error = "The reply is not JSON."


class Reader:
    """The bytes of one connection, into the exchanges that follow each other on it."""

    def __init__(self) -> None:
        self.exchange: Exchange | None = None
        self.complete = False
        self.keeps_alive = False
        self._now_s = 0.0
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes, now_s: float) -> None:
        """Raises `httptools.HttpParserError` for what isn't HTTP."""
        self._now_s = now_s
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        exchange = self.exchange
        name = name.lower()
        if exchange is None:
            return
        if name == b"content-type":
            exchange.streamed = value.lower().startswith(b"text/event-stream")
        elif name == b"x-freehold-queue-ms":
            exchange.queue_ms = _number(value)
        elif name == b"x-freehold-ttft-ms":
            exchange.served_ms = _number(value)
        elif name == b"retry-after":
            exchange.retry_after_s = _number(value)

    def on_headers_complete(self) -> None:
        if self.exchange is not None:
            self.exchange.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        if self.exchange is not None:
            self.exchange.take(data, self._now_s)

    def on_message_complete(self) -> None:
        if self.exchange is not None and self.exchange.status >= 200:  # 1xx comes before the reply
            self.complete = True
            self.keeps_alive = bool(self._parser.should_keep_alive())


def _number(value: bytes) -> float | None:
    try:
        return float(value)
    except ValueError:  # a date, or nonsense
        return None


def _data(event: bytes) -> bytes:
    """What follows `data:` in an event."""
    at = event.find(b"data:")
    return event[at + 5 :].strip() if at >= 0 else b""


def _json(data: bytes) -> Json:
    try:
        told = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return {}
    return told if isinstance(told, dict) else {}


def _text(told: Json) -> str:
    """The text of the first choice, of a whole answer or of one event."""
    choices = told.get("choices")
    if not choices or not isinstance(choices[0], dict):
        return ""
    said = choices[0].get("delta") or choices[0].get("message") or choices[0]
    return str(said.get("content") or said.get("text") or "")
