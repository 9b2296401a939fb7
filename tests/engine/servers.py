"""Servers for the `remote` engine's tests: one that plays scripts, one that serves `sim` as OpenAI would.

Both are real: raw asyncio on a free port of 127.0.0.1, in a thread of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from typing import Any

from freehold.core import Chunk, Request, Sampling
from freehold.engine.sim.engine import SimEngine
from freehold.errors import RequestError


class Call:
    """One HTTP request as the server saw it, and the ways to answer it."""

    def __init__(self, head: list[str], body: bytes, writer: asyncio.StreamWriter) -> None:
        self.method, self.path, _ = head[0].split(" ")
        self.headers = _headers(head)
        self.body = body
        self.writer = writer
        self.hung_up = asyncio.Event()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    async def head(self, status: int = 200, kind: str = "text/event-stream", **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.raw("\r\n".join(lines).encode() + b"\r\n\r\n")

    async def reply(self, status: int, body: object, **headers: str) -> None:
        await self.head(status, "application/json", **headers)
        await self.raw(json.dumps(body).encode())

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def event(self, body: object) -> None:
        await self.raw(b"data: " + json.dumps(body).encode() + b"\n\n")

    async def say(self, *texts: str) -> None:
        for text in texts:
            await self.event({"choices": [{"index": 0, "delta": {"content": text}}]})

    async def finish(self, tokens: int, reason: str = "stop") -> None:
        await self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        await self.event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": tokens}})
        await self.raw(b"data: [DONE]\n\n")


def _headers(head: list[str]) -> dict[str, str]:
    parts = (line.partition(": ") for line in head[1:] if line)
    return {name.lower(): value for name, _, value in parts}


Script = Callable[[Call], Awaitable[None]]


class Server:
    """Answers `GET /v1/models` with `models`, of each `about` too, and the nth POST with the nth script, the last one
    repeated."""

    def __init__(
        self, *scripts: Script, models: list[str] | None = None, about: Mapping[str, Any] | None = None
    ) -> None:
        self.scripts = scripts
        self.about = about or {}
        self.models = ["there"] if models is None else models
        self.calls: list[Call] = []
        self.hang_ups = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._closing.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        size = int(_headers(head).get("content-length", 0))
        call = Call(head, await reader.readexactly(size), writer)
        self.calls.append(call)
        if call.method == "GET":
            await call.reply(200, {"object": "list", "data": [{"id": name, **self.about} for name in self.models]})
            return
        watch = asyncio.create_task(self._watch(reader, call))
        try:
            nth = sum(one.method == "POST" for one in self.calls) - 1
            await self.scripts[min(nth, len(self.scripts) - 1)](call)
        except ConnectionError:  # a write noticed it before the watch did
            self._hung_up(call)
            raise
        finally:
            watch.cancel()

    async def _watch(self, reader: asyncio.StreamReader, call: Call) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()
        self._hung_up(call)

    def _hung_up(self, call: Call) -> None:
        if not call.hung_up.is_set():
            self.hang_ups += 1
            call.hung_up.set()


class SimServer(Server):
    """`sim` behind OpenAI's wire, a step a millisecond."""

    def __init__(self, engine: SimEngine) -> None:
        super().__init__(self._answer)
        self.engine = engine
        engine.load(lambda *_: nullcontext())
        self.models = [engine.card.name]
        self._ids = itertools.count()
        self._queues: dict[str, asyncio.Queue[Chunk]] = {}
        self._stepping: asyncio.Task[None] | None = None

    async def _answer(self, call: Call) -> None:
        if call.path == "/v1/embeddings":
            vectors, tokens = self.engine.embed(call.json["input"])
            data = [{"index": i, "embedding": vector} for i, vector in enumerate(vectors)]
            await call.reply(200, {"data": data, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})
            return
        request = _request(call, str(next(self._ids)))
        try:
            self.engine.add(request)
        except RequestError as error:
            await call.reply(error.status, {"error": {"message": str(error), "param": error.param, "code": error.code}})
            return
        queue = self._queues[request.id] = asyncio.Queue()
        if self._stepping is None or self._stepping.done():
            self._stepping = asyncio.create_task(self._step())
        await call.head()
        await self._stream(call, request, queue)

    async def _stream(self, call: Call, request: Request, queue: asyncio.Queue[Chunk]) -> None:
        while True:
            chunk = await queue.get()
            if call.hung_up.is_set():
                self.engine.abort(request.id)
                return
            await call.event({"choices": [_choice(chunk, request.kind)]})
            if chunk.usage is not None:
                usage = {"prompt_tokens": chunk.usage.prompt_tokens, "completion_tokens": chunk.usage.completion_tokens}
                await call.event({"choices": [], "usage": usage})
                await call.raw(b"data: [DONE]\n\n")
                return

    async def _step(self) -> None:
        while (stats := self.engine.stats()).running or stats.waiting:
            for chunk in self.engine.step().chunks:
                self._queues[chunk.id].put_nowait(chunk)
            await asyncio.sleep(0.001)


def _request(call: Call, id: str) -> Request:
    body = call.json
    chat = call.path == "/v1/chat/completions"
    names = Sampling.__struct_fields__
    apart = ("logprobs", "top_logprobs", "logit_bias")
    values = {name: body[name] for name in names if name in body and name not in apart}
    for name in ("stop", "stop_token_ids"):
        if name in values:
            values[name] = tuple(values[name])
    if body.get("logprobs") is not None and body["logprobs"] is not False:
        values |= {"logprobs": True, "top_logprobs": body.get("top_logprobs", 0) if chat else body["logprobs"]}
    if "logit_bias" in body:
        values["logit_bias"] = {int(token): bias for token, bias in body["logit_bias"].items()}
    form = body.get("response_format")
    schema = None if form is None else form["json_schema"]["schema"] if form["type"] == "json_schema" else {}
    prompt = body.get("prompt", "")
    return Request(
        id=id,
        model=body["model"],
        kind="chat" if chat else "text",
        messages=tuple(body.get("messages", ())),
        prompt=prompt if isinstance(prompt, str) else tuple(prompt),
        tools=tuple(body.get("tools", ())),
        json_schema=schema,
        sampling=Sampling(**values),
    )


def _choice(chunk: Chunk, kind: str) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "finish_reason": chunk.finish, "stop_reason": chunk.stop}
    choice |= {"delta": {"content": chunk.text}} if kind == "chat" else {"text": chunk.text}
    if chunk.logprobs and kind == "chat":
        choice["logprobs"] = {
            "content": [
                {
                    "token": one.token,
                    "logprob": one.logprob,
                    "bytes": one.bytes,
                    "top_logprobs": [{"token": token, "logprob": value} for token, value in one.top],
                }
                for one in chunk.logprobs
            ]
        }
    elif chunk.logprobs:
        choice["logprobs"] = {
            "tokens": [one.token for one in chunk.logprobs],
            "token_logprobs": [one.logprob for one in chunk.logprobs],
            "top_logprobs": [dict(one.top) for one in chunk.logprobs],
        }
    return choice
