"""The `remote` engine: any OpenAI-compatible URL behind the same queue as a model of one's own.

Its steps are hidden: `step` hands on what has arrived, waiting at most `IDLE_S`, and says nothing of
prompt tokens or context. The thread that holds the line is `link`, one
attempt is `stream`, OpenAI's shapes are `wire` and `reply`.
"""

from __future__ import annotations

import itertools
import queue
from collections.abc import Sequence

import msgspec
import psutil

from freehold.core import Chunk, Json, ModelCard, Request, Usage
from freehold.engine.base import IDLE_S, EngineSpec, EngineStats, Step, Timer
from freehold.engine.remote.link import Link
from freehold.engine.remote.reply import Reply
from freehold.engine.remote.stream import Body, Remote
from freehold.engine.remote.wire import base_url, path_and_body
from freehold.errors import (
    CannotResume,
    ConfigError,
    EngineFailed,
    InvalidRequest,
    ModelError,
    RequestError,
    Unavailable,
    Unreachable,
)
from freehold.tracing import onward

DEFAULT_STREAMS = 64
MAX_TOP_LOGPROBS = 20


class _Open(msgspec.Struct):
    """An answer on its way. `offset` is what has been handed on."""

    id: str
    choice: int
    offset: int = 0


class RemoteEngine:
    """One connection to `spec.source.path`. Answers beyond `max_batch` wait here."""

    card: ModelCard

    def __init__(self, spec: EngineSpec) -> None:
        key = spec.remote_key
        if key and not (key.isascii() and key.isprintable() and " " not in key):
            next = "Set FREEHOLD_ENGINE_REMOTE_KEY again."
            raise ConfigError("The remote's key has characters that no key has.", next=next)
        self.spec = spec
        self._streams = spec.max_batch or DEFAULT_STREAMS
        try:
            self._remote = Remote(base_url(spec.source.path), key, spec.remote_timeout_s)
        except ValueError as error:
            raise ModelError("That isn't a URL.", f"{error}.", "Write http://HOST:PORT/v1.") from None
        self._link = Link(self._remote, spec.remote_retries, self._streams)
        self._serials = itertools.count()
        self._open: dict[int, _Open] = {}
        self._ended: list[Chunk] = []
        self._closed = False
        self._model = ""

    def load(self, timed: Timer) -> ModelCard:
        """Ask the remote for its models and pick the one that the URL (`#model`) or `spec.name` names, or the
        only one. Raises `Unreachable` or `ModelError`."""
        try:
            self._link.open()
            with timed("map", f"asking {self._remote.where.removeprefix('The remote ')} for its models"):
                models = _models(self._link.get_json("GET", "/models"))
        except Unavailable as error:
            self.close()
            raise Unreachable(error.what, error.why, error.next) from None
        except RequestError as error:
            self.close()
            raise ModelError(error.what, error.why, error.next) from None
        about = self._pick(models)
        self._model = str(about["id"])
        context = _context_tokens(about)
        created = about.get("created")
        self.card = ModelCard(
            name=self.spec.name or self._model,
            engine="remote",
            source=f"{self._model} at {self._remote.where.removeprefix('The remote ')}",
            context_tokens=min(self.spec.context_tokens or context, context or self.spec.context_tokens),
            max_batch=self._streams,
            tools="hermes",
            embeddings=True,
            max_top_logprobs=MAX_TOP_LOGPROBS,
            memory_bytes=psutil.Process().memory_info().rss,
            threads=1,
            created_unix_s=created if isinstance(created, int) else 0,
        )
        return self.card

    def _pick(self, models: list[Json]) -> Json:
        asked = self.spec.source.path.partition("#")[2]
        by_name = {str(model["id"]): model for model in models}
        if about := by_name.get(asked or self.spec.name):
            return about
        if len(models) == 1 and not asked:
            return models[0]
        self.close()
        named, listed = asked or self.spec.name, sorted(by_name)
        there = f"It has: {', '.join(listed[:20])}{' and more' if len(listed) > 20 else ''}."
        what = f"has no model {named!r}" if named else f"serves {len(models)} models" if models else "lists no model"
        next = "Name one behind the URL, as in http://HOST:PORT/v1#MODEL."
        raise ModelError(f"{self._remote.where} {what}.", there if models else "It lists none.", next)

    # ---- what the worker asks ---------------------------------------------------------------------

    def add(self, request: Request, choice: int = 0, given: Sequence[Chunk] = ()) -> None:
        if self._closed:
            raise EngineFailed("The engine is closed.")
        if given:
            raise CannotResume("A remote can't go on with an answer.", "It takes no tokens of one.")
        if request.kind == "embed":
            raise InvalidRequest("Embeddings are asked for with `embed`, not `add`.", param="kind")
        serial = next(self._serials)
        self._open[serial] = _Open(request.id, choice)
        traceparent = onward(request.traceparent, request.id)
        self._link.ask(serial, lambda: Reply(request.id, choice, traceparent), self._body(request, choice))

    def _body(self, request: Request, choice: int) -> Body:
        return lambda tokens_field: path_and_body(request, choice, self._model, tokens_field)

    def step(self) -> Step:
        chunks, self._ended = self._ended, []
        running = len(self._open)
        self._link.check()
        wait_s = 0.0 if chunks or not running else IDLE_S
        while self._open:
            try:
                serial, arrived = self._link.arrived.get(timeout=wait_s) if wait_s else self._link.arrived.get_nowait()
            except queue.Empty:
                break
            wait_s = 0.0
            if serial in self._open:
                self._hand_on(serial, arrived, chunks)
        return Step(chunks, None, min(running, self._streams), None)

    def _hand_on(self, serial: int, arrived: list[Chunk], chunks: list[Chunk]) -> None:
        answer = self._open[serial]
        last = arrived[-1]
        answer.offset = last.offset + last.tokens
        if last.finish is not None:
            del self._open[serial]
        chunks += arrived

    def abort(self, id: str) -> None:
        for serial in [serial for serial, answer in self._open.items() if answer.id == id]:
            answer = self._open.pop(serial)
            self._link.drop(serial)
            usage = Usage(completion_tokens=answer.offset)
            self._ended.append(Chunk(id, answer.choice, answer.offset, 0, "", None, "cancelled", usage))

    def embed(self, texts: Sequence[str]) -> tuple[tuple[tuple[float, ...], ...], int]:
        if self._closed:
            raise EngineFailed("The engine is closed.")
        body: Json = {"model": self._model, "input": list(texts), "encoding_format": "float"}
        reply = self._link.get_json("POST", "/embeddings", body)
        try:
            read = msgspec.convert(reply, _Embeddings)
        except msgspec.ValidationError as error:
            raise EngineFailed(f"{self._remote.where} sent embeddings that can't be read.", f"{error}.") from None
        rows = sorted(read.data, key=lambda row: row.index)
        return tuple(row.embedding for row in rows), read.usage.prompt_tokens

    def stats(self) -> EngineStats:
        running = min(self._link.running, len(self._open))
        return EngineStats(running=running, waiting=len(self._open) - running)

    def close(self) -> None:
        self._closed = True
        self._open.clear()
        self._ended = []
        self._link.close()


def _context_tokens(about: Json) -> int:
    """How long a listed model's context is: as vLLM, Freehold and two hosted APIs write it, else as llama.cpp's
    server does (what it was started with, else what the model was trained with). 0 where the remote doesn't say:
    it is left to refuse what is too long."""
    meta = about.get("meta")
    within = [meta.get("n_ctx"), meta.get("n_ctx_train")] if isinstance(meta, dict) else []
    names = ("max_model_len", "context_tokens", "context_length", "context_window")
    said = [*(about.get(name) for name in names), *within]
    return next((size for size in said if isinstance(size, int) and not isinstance(size, bool) and size > 0), 0)


class _Row(msgspec.Struct):
    embedding: tuple[float, ...]
    index: int = 0


class _Tokens(msgspec.Struct):
    prompt_tokens: int = 0


class _Embeddings(msgspec.Struct):
    data: list[_Row]
    usage: _Tokens = msgspec.field(default_factory=_Tokens)


def _models(reply: Json) -> list[Json]:
    """The entries of `GET /models` that have an id."""
    entries = reply.get("data")
    if not isinstance(entries, list):
        return []
    return [entry for entry in entries if isinstance(entry, dict) and entry.get("id")]
