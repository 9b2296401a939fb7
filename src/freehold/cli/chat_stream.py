"""One streamed answer: asks POST /v1/chat/completions and yields text as it arrives, with how fast it came.

The server's own timings are preferred (headers, then `timings` on the usage chunk); what another
OpenAI-compatible server doesn't say is measured here, and `by` says so. An answer whose connection breaks goes on over
the next one, where the server's events have ids.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

import httpx

from freehold.cli.http import error_of, raise_for_error, reaching
from freehold.core import Json
from freehold.errors import EngineFailed, Unavailable, Unreachable

RECONNECT_S = 15.0
"""How long an answer whose connection broke is tried to go on with."""
RETRY_S = 0.5


@dataclass(slots=True)
class Heard:
    """What came of one request. Filled while the stream is read; whole when `finish` is set."""

    text: str = ""
    finish: str | None = None
    usage: Json = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    """queue_ms, ttft_ms, total_ms, tokens_per_s, as far as known."""
    by: str = "server"
    """Whose clock measured the timings: `server` or `client`."""
    last_id: str = ""
    """Of the last event that came."""

    def plain(self) -> Json:
        """The same for `--json`."""
        return {"text": self.text, "finish_reason": self.finish, "usage": self.usage, "timings": self.timings}


def stream(http: httpx.Client, body: Json, heard: Heard, on_lost: Callable[[], None] = lambda: None) -> Generator[str]:
    """Yields the pieces of the answer to `body` and fills `heard`. `on_lost` is told when the connection is lost and
    another is tried, for up to `RECONNECT_S`.

    Raises the server's error, or `Unreachable` when the connection ends before the answer does.
    """
    started_s = time.monotonic()
    times: list[float] = []
    lost_s = 0.0
    while True:
        before = heard.last_id
        try:
            for piece in _connection(http, body, heard):
                times.append(time.monotonic())
                heard.text += piece
                yield piece
            break
        except Unreachable:
            now_s = time.monotonic()
            if heard.last_id != before or not lost_s:
                lost_s = now_s
                on_lost()
            if not heard.last_id or now_s - lost_s > RECONNECT_S:
                raise
        time.sleep(RETRY_S)
    _measure(heard, started_s, times)


def _connection(http: httpx.Client, body: Json, heard: Heard) -> Iterator[str]:
    """Asks, or goes on after the last event that came. Raises `Unreachable` if the answer isn't whole at its end."""
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    headers = {"last-event-id": heard.last_id} if heard.last_id else {}
    url = str(http.base_url)
    with reaching(url), http.stream("POST", "/v1/chat/completions", json=asked, headers=headers) as response:
        if not response.is_success:
            response.read()
            if heard.last_id and response.status_code == Unavailable.status:
                raise Unreachable("The server isn't ready again.")
            raise_for_error(response)
        _note_headers(response.headers, heard)
        for data in _events(response, heard):
            if piece := _read_chunk(data, heard):
                yield piece
    if heard.finish is None:
        raise Unreachable(
            "The connection closed before the answer was complete.",
            next="What arrived is shown; ask again for a whole one.",
        )


def _events(response: httpx.Response, heard: Heard) -> Iterator[str]:
    """The data of each server-sent event, up to [DONE]. An id counts once its event is here."""
    id = heard.last_id
    for line in response.iter_lines():
        if line.startswith("id:"):
            id = line[3:].strip()
        elif line.startswith("data:"):
            heard.last_id = id
            data = line[5:].strip()
            if data == "[DONE]":
                return
            yield data


def _read_chunk(data: str, heard: Heard) -> str:
    try:
        chunk = json.loads(data)
    except ValueError as error:
        raise EngineFailed("The server sent something that is not an answer.", data[:200]) from error
    if chunk.get("error"):
        raise error_of(chunk["error"], 0)
    if chunk.get("usage"):
        heard.usage = chunk["usage"]
    heard.timings.update({k: v for k, v in (chunk.get("timings") or {}).items() if v is not None})
    choices = chunk.get("choices") or []
    if not choices:
        return ""
    heard.finish = choices[0].get("finish_reason") or heard.finish
    return str((choices[0].get("delta") or {}).get("content") or "")


def _note_headers(headers: httpx.Headers, heard: Heard) -> None:
    for name, key in (("x-freehold-queue-ms", "queue_ms"), ("x-freehold-ttft-ms", "ttft_ms")):
        try:
            heard.timings[key] = float(headers[name])
        except (KeyError, ValueError):
            continue


def _measure(heard: Heard, started_s: float, times: list[float]) -> None:
    """Fills in what the server didn't say, by this side's clock."""
    if not times:
        return
    own = {"ttft_ms": (times[0] - started_s) * 1000, "total_ms": (times[-1] - started_s) * 1000}
    tokens = heard.usage.get("completion_tokens") or len(times)
    if tokens > 1 and times[-1] > times[0]:
        own["tokens_per_s"] = (tokens - 1) / (times[-1] - times[0])
    if "tokens_per_s" not in heard.timings:
        heard.by = "client"
    heard.timings = {**{k: round(v, 3) for k, v in own.items()}, **heard.timings}


def figures(heard: Heard) -> str:
    """One line for people: `217 tokens/s · 9 ms to first token · <1 ms in queue · 57 tokens`."""
    t, parts = heard.timings, []
    if "tokens_per_s" in t:
        parts.append(f"{t['tokens_per_s']:.{0 if t['tokens_per_s'] >= 20 else 1}f} tokens/s")
    if "ttft_ms" in t:
        parts.append(f"{_ms(t['ttft_ms'])} to first token")
    if "queue_ms" in t:
        parts.append(f"{_ms(t['queue_ms'])} in queue")
    if heard.usage.get("completion_tokens") is not None:
        count = heard.usage["completion_tokens"]
        parts.append(f"{count} token{'' if count == 1 else 's'}")
    if heard.by == "client":
        parts.append("measured here")
    return " · ".join(parts)


def _ms(value: float) -> str:
    if value < 1:
        return "<1 ms"
    return f"{value:.0f} ms" if value < 1000 else f"{value / 1000:.2f} s"
