"""One attempt to have an answer from a remote: the HTTP call, its events into chunks, its failures into ours."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable

import httpx
import msgspec

from freehold.core import Chunk, Json
from freehold.engine.remote.reply import DONE, Reply
from freehold.engine.remote.sse import EventStream
from freehold.engine.remote.wire import error_of, is_passing, read_refusal, refusal_of, retry_after_s
from freehold.errors import EngineFailed, RequestError, Unavailable

Body = Callable[[str], tuple[str, Json]]
"""Path and body of a request, made anew for each try from the name of the field that limits its tokens."""


class Passing(Exception):
    """An attempt failed in a way that another may not. `wait_s` is what the remote asked for."""

    def __init__(self, error: RequestError, wait_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait_s = wait_s


class Remote:
    """What is known of the other side. `where` names it in errors, without user or key. Raises `ValueError`
    if `base` is no URL."""

    def __init__(self, base: str, key: str, timeout_s: float) -> None:
        try:
            url = httpx.URL(base)
        except httpx.InvalidURL as error:
            raise ValueError(str(error)) from None
        self.base, self.key, self.timeout_s = base, key, timeout_s
        self.where = f"The remote {url.copy_with(username=None, password=None)}"
        self.loopback = url.host in ("localhost", "127.0.0.1", "::1")
        self.tokens_field = "max_tokens"

    async def stream(self, client: httpx.AsyncClient, reply: Reply, body: Body) -> AsyncIterator[list[Chunk]]:
        """Chunks of one attempt, a list for each network read; the last one has `finish`."""
        path, asked = body(self.tokens_field)
        events = EventStream()
        with translated(self, lambda: reply.offset > 0):
            headers = {"traceparent": reply.traceparent} if reply.traceparent else None
            async with client.stream("POST", path, json=asked, headers=headers) as response:
                if response.status_code != 200:
                    self.refuse(response.status_code, await response.aread(), response.headers)
                async for received in response.aiter_bytes():
                    chunks, end = self._read(reply, events.feed(received))
                    if chunks:
                        yield chunks
                    if isinstance(end, RequestError):
                        raise end
                    if end:
                        yield [reply.last()]
                        return
        chunks, end = self._read(reply, events.close())
        if isinstance(end, RequestError):
            raise end
        if not (end or reply.ended):
            error = EngineFailed(f"{self.where} closed the connection in the middle of the answer.")
            raise error if reply.offset else Passing(error)
        yield [*chunks, reply.last()]

    def _read(self, reply: Reply, events: list[bytes]) -> tuple[list[Chunk], bool | RequestError]:
        """Chunks of these events and how they end: with True the answer is whole, with an error it failed
        after those chunks, which must still be shown."""
        chunks: list[Chunk] = []
        for data in events:
            if data == DONE:
                return chunks, True
            try:
                chunk, error = reply.read(data)
            except (msgspec.DecodeError, UnicodeDecodeError):
                why = f"It began with {data[:60]!r}."
                return chunks, EngineFailed(f"{self.where} sent something that isn't an event.", why)
            if error is not None:
                return chunks, self._midway(reply, error)
            if chunk is not None:
                chunks.append(chunk)
        return chunks, False

    def refuse(self, status: int, body: bytes, headers: httpx.Headers) -> None:
        error = error_of(status, read_refusal(body, self.key), self.where)
        if status == 400 and b"max_completion_tokens" in body and self.tokens_field == "max_tokens":
            # OpenAI's newer models refuse the field that everyone else knows.
            self.tokens_field = "max_completion_tokens"
            raise Passing(error, 0.0)
        if is_passing(status):
            raise Passing(error, retry_after_s(headers.get("retry-after"), time.time()))
        raise error

    def _midway(self, reply: Reply, error: object) -> RequestError:
        """What an error object inside the stream means; some servers put a plain 400 there."""
        code = error.get("code") if isinstance(error, dict) else None
        refusal = refusal_of(error, self.key)
        if isinstance(code, int) and 400 <= code < 500 and not reply.offset:
            return error_of(code, refusal, self.where)
        return EngineFailed(f"{self.where} failed in the middle of the answer.", f"It said: {refusal.message}")


class translated:
    """Turns httpx's errors into ours; `begun` says whether a token was shown, after which nothing is tried again."""

    def __init__(self, remote: Remote, begun: Callable[[], bool]) -> None:
        self._remote, self._begun = remote, begun

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        where, seconds = self._remote.where, self._remote.timeout_s
        match error:
            case httpx.ConnectError() | httpx.ConnectTimeout():
                raise Passing(Unavailable(f"{where} can't be reached.", f"{error}.", "Check that it runs.")) from None
            case httpx.TimeoutException():
                next = "engine.remote_timeout_s sets the limit."
                raise EngineFailed(f"{where} sent nothing for {seconds:g} s.", next=next) from None
            case httpx.TransportError() if self._begun():
                raise EngineFailed(f"{where} closed the connection in the middle of the answer.") from None
            case httpx.TransportError():
                raise Passing(EngineFailed(f"{where} closed the connection before it answered.")) from None
            case httpx.HTTPError() | httpx.InvalidURL() | ValueError():
                raise EngineFailed(f"{where} sent what can't be read.", f"{type(error).__name__}.") from None
