"""The `remote` engine's line to its server: one thread with an event loop, however many answers stream.

Answers are asked for with `ask` and dropped with `drop`; what comes back lies in `arrived`, one item
a network read. Tries again, with backoff, what failed before a token was shown, and never after.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

import httpx
import msgspec

from freehold.core import Chunk, Json
from freehold.engine.remote.reply import Reply
from freehold.engine.remote.stream import Body, Passing, Remote, translated
from freehold.engine.remote.wire import backoff_s
from freehold.errors import EngineFailed, RequestError

T = TypeVar("T")
CONNECT_S = 10.0


class Link:
    """The connections to one remote, `streams` answers at a time."""

    def __init__(self, remote: Remote, retries: int, streams: int) -> None:
        self.remote = remote
        self.running = 0
        self.arrived: SimpleQueue[tuple[int, list[Chunk]]] = SimpleQueue()
        self._retries, self._streams = retries, streams
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._ready = threading.Event()
        self._broken = ""
        self._thread = threading.Thread(target=self._run, name="freehold-remote", daemon=True)

    def open(self) -> None:
        """Start the thread. Raises `EngineFailed` if no client can be made here."""
        self._thread.start()
        self._ready.wait()
        self.check()

    def check(self) -> None:
        """Raises `EngineFailed` if the thread has broken down: nothing will arrive any more."""
        if self._broken:
            raise EngineFailed("The remote engine's HTTP client broke down.", self._broken, "Restart the worker.")

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except Exception as error:  # noqa: BLE001  the edge of the thread
            self._broken = f"{type(error).__name__}: {error}."
        finally:
            self._ready.set()

    async def _main(self) -> None:
        """Owns the connections and every task until `close`."""
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        self._places = asyncio.Semaphore(self._streams)
        remote = self.remote
        timeout = httpx.Timeout(remote.timeout_s, connect=min(CONNECT_S, remote.timeout_s), pool=None)
        limits = httpx.Limits(max_connections=self._streams + 2, max_keepalive_connections=self._streams + 2)
        headers = {"Authorization": f"Bearer {remote.key}"} if remote.key else {}
        async with (
            httpx.AsyncClient(
                base_url=remote.base, headers=headers, timeout=timeout, limits=limits, trust_env=not remote.loopback
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
            with translated(self.remote, lambda: False):
                response = await self._client.request(method, path, json=body)
            if response.status_code != 200:
                self.remote.refuse(response.status_code, response.content, response.headers)
            try:
                return msgspec.json.decode(response.content, type=dict)
            except msgspec.DecodeError:
                raise EngineFailed(f"{self.remote.where} answered {path} with something that isn't JSON.") from None

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
            async for chunks in self.remote.stream(self._client, shown, body):
                self.arrived.put((serial, chunks))

        async with self._places:
            self.running += 1
            try:
                await self._trying(attempt)
            except RequestError as error:
                self._fail(serial, shown, error)
            except Exception as error:  # noqa: BLE001  the edge of the task: one answer's bug must not end the others
                what = f"{self.remote.where} gave an answer that broke its reader."
                self._fail(serial, shown, EngineFailed(what, f"{type(error).__name__}."))
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
                if tried == self._retries or wait_s > self.remote.timeout_s:
                    raise passing.error from None
                await asyncio.sleep(wait_s)
        raise AssertionError("unreachable")
