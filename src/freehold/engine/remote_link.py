"""The `remote` engine's line to its server: one thread with an event loop, however many answers stream.

Answers are asked for with `ask` and dropped with `drop`; what comes back lies in `arrived`, one item
a network read. Tries again, with backoff, what failed before a token was shown, and never after.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

import httpx
import msgspec

from freehold.core import Chunk, Json
from freehold.engine.remote_reply import DONE, Reply
from freehold.engine.remote_wire import backoff_s, error_of, is_passing, read_refusal, refusal_of, retry_after_s
from freehold.engine.sse import EventStream
from freehold.errors import EngineFailed, RequestError, Unavailable

T = TypeVar("T")
Body = Callable[[str], tuple[str, Json]]
"""Path and body of a request, made anew for each try from the name of the field that limits its tokens."""

CONNECT_S = 10.0


class Passing(Exception):
    """An attempt failed in a way that another may not. `wait_s` is what the remote asked for."""

    def __init__(self, error: RequestError, wait_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait_s = wait_s


class Link:
    """`where` names the remote in errors, without user or key."""

    def __init__(self, base: str, key: str, timeout_s: float, retries: int, streams: int) -> None:
        url = httpx.URL(base)
        self.where = f"The remote {url.copy_with(username=None, password=None)}"
        self.running = 0
        self.tokens_field = "max_tokens"
        self.arrived: SimpleQueue[tuple[int, list[Chunk]]] = SimpleQueue()
        self._base, self._key, self._timeout_s, self._retries, self._streams = base, key, timeout_s, retries, streams
        self._loopback = url.host in ("localhost", "127.0.0.1", "::1")
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="freehold-remote", daemon=True)

    def open(self) -> None:
        self._thread.start()
        self._ready.wait()

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join()

    async def _main(self) -> None:
        """Owns the connections and every task until `close`."""
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        self._places = asyncio.Semaphore(self._streams)
        timeout = httpx.Timeout(self._timeout_s, connect=min(CONNECT_S, self._timeout_s), pool=None)
        limits = httpx.Limits(max_connections=self._streams + 2, max_keepalive_connections=self._streams + 2)
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        async with (
            httpx.AsyncClient(
                base_url=self._base, headers=headers, timeout=timeout, limits=limits, trust_env=not self._loopback
            ) as self._client,
            asyncio.TaskGroup() as self._group,
        ):
            self._ready.set()
            await self._closing.wait()
            for task in list(self._tasks.values()):
                task.cancel()

    # ---- called from the worker's thread ----------------------------------------------------------

    def ask(self, serial: int, reply: Callable[[], Reply], body: Body) -> None:
        """Stream one answer into `arrived` under `serial`."""
        self._loop.call_soon_threadsafe(self._begin, serial, reply, body)

    def drop(self, serial: int) -> None:
        """Close an answer's connection. What it had sent may still lie in `arrived`."""
        self._loop.call_soon_threadsafe(lambda: task.cancel() if (task := self._tasks.get(serial)) else None)

    def get_json(self, method: str, path: str, body: Json | None = None) -> Json:
        """One plain call, with retries; blocks. Raises a `RequestError`."""

        async def attempt() -> Json:
            with _translated(self, lambda: False):
                response = await self._client.request(method, path, json=body)
            if response.status_code != 200:
                self._refuse(response.status_code, response.content, response.headers)
            try:
                return msgspec.json.decode(response.content, type=dict)
            except msgspec.DecodeError:
                raise EngineFailed(f"{self.where} answered {path} with something that isn't JSON.") from None

        return self._wait_for(self._trying(attempt))

    def _wait_for(self, work: Coroutine[None, None, T]) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result()

    # ---- in the loop ------------------------------------------------------------------------------

    def _begin(self, serial: int, reply: Callable[[], Reply], body: Body) -> None:
        task = self._group.create_task(self._answer(serial, reply, body))
        self._tasks[serial] = task
        task.add_done_callback(lambda _: self._tasks.pop(serial, None))

    async def _answer(self, serial: int, new_reply: Callable[[], Reply], body: Body) -> None:
        """One answer from its place in the queue to its last chunk, whatever happens."""
        shown = new_reply()

        async def attempt() -> None:
            nonlocal shown
            shown = new_reply()
            async for chunks in self._stream(shown, body):
                self.arrived.put((serial, chunks))

        async with self._places:
            self.running += 1
            try:
                await self._trying(attempt)
            except RequestError as error:
                self._fail(serial, shown, error)
            except Exception as error:  # noqa: BLE001  the edge of the task: one answer's bug must not end the others
                broken = EngineFailed(f"{self.where} gave an answer that broke its reader.", f"{type(error).__name__}.")
                self._fail(serial, shown, broken)
            finally:
                self.running -= 1

    def _fail(self, serial: int, reply: Reply, error: RequestError) -> None:
        last = reply.last()
        last.finish, last.failure, last.tokens, last.text = "error", error.failure(), 0, ""
        self.arrived.put((serial, [last]))

    async def _trying(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """`attempt`, and again after a `Passing` failure until the tries are used up."""
        for tried in range(self._retries + 1):
            try:
                return await attempt()
            except Passing as passing:
                wait_s = backoff_s(tried, passing.wait_s, random.random())  # noqa: S311  jitter, not a secret
                if tried == self._retries or wait_s > self._timeout_s:
                    raise passing.error from None
                await asyncio.sleep(wait_s)
        raise AssertionError("unreachable")

    async def _stream(self, reply: Reply, body: Body) -> AsyncIterator[list[Chunk]]:
        """Chunks of one attempt, a list for each network read; the last one has `finish`."""
        path, asked = body(self.tokens_field)
        events = EventStream()
        with _translated(self, lambda: reply.offset > 0):
            async with self._client.stream("POST", path, json=asked) as response:
                if response.status_code != 200:
                    self._refuse(response.status_code, await response.aread(), response.headers)
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

    def _refuse(self, status: int, body: bytes, headers: httpx.Headers) -> None:
        error = error_of(status, read_refusal(body, self._key), self.where)
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
        refusal = refusal_of(error, self._key)
        if isinstance(code, int) and 400 <= code < 500 and not reply.offset:
            return error_of(code, refusal, self.where)
        return EngineFailed(f"{self.where} failed in the middle of the answer.", f"It said: {refusal.message}")


class _translated:
    """Turns httpx's errors into ours; `begun` says whether a token was shown, after which nothing is tried again."""

    def __init__(self, link: Link, begun: Callable[[], bool]) -> None:
        self._link, self._begun = link, begun

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        where, seconds = self._link.where, self._link._timeout_s
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
