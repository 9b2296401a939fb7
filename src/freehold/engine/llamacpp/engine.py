"""The `llamacpp` engine: xllamacpp, llama.cpp's own server as a library. Runs every GGUF architecture.

A call into it blocks until its answer is whole and reports tokens by callback, so each running answer has a
thread, and `step` collects what has come in, waiting at most `IDLE_S`. The server batches inside: which
sequences shared a step and how many prompt tokens it read can't be known, so `Step` leaves both figures None.
`min_tokens` is refused: the server has no such thing. Its penalties look at the prompt too. A stop token is
seen only because log-probabilities are asked for along with it, and tokens inside an unfinished character
carry none. An aborted answer shows nothing more at once; its slot is free at its next token, which for one
still in its prompt is after the prompt. Greedy and seeded answers repeat as long as the batch around them doesn't
change the last bits of their logits.
"""

from __future__ import annotations

import queue
import secrets
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import psutil

from freehold.core import Chunk, ModelCard, Phase, Request
from freehold.engine.asked import check, param_of, prompt_of, room
from freehold.engine.base import IDLE_S, EngineSpec, EngineStats, Step, Timer
from freehold.engine.facts import Facts, kv_budget_bytes, of_gguf
from freehold.engine.given import START, given_of
from freehold.engine.llamacpp.given import stands_at
from freehold.engine.llamacpp.reply import Reply, completion_body
from freehold.engine.llamacpp.server import Server
from freehold.engine.remarks import context_of, cut_by_memory, remarking
from freehold.engine.rest import Complete
from freehold.engine.text import Draft
from freehold.errors import EngineFailed, InvalidRequest, ModelError
from freehold.machine import cores
from freehold.model.convert import prepared
from freehold.model.gguf_read import GgufInfo, describe

MOST_TOP_LOGPROBS = 20
_LEAST_CONTEXT = 32


class LlamaCppEngine:
    """One llama.cpp server in this process."""

    card: ModelCard

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self._server: Server | None = None
        self._embedder: Server | None = None
        self._facts: Facts
        self._gguf = Path()
        self._pool: ThreadPoolExecutor
        self._news: queue.SimpleQueue[tuple[int, object]] = queue.SimpleQueue()
        """(number of an answer, what the server reported); None: the call has returned."""
        self._waiting: deque[tuple[Reply, dict[str, object]]] = deque()
        self._running: dict[int, Reply] = {}
        """Read by the callbacks: an answer that isn't here any more makes its call return."""
        self._ended: list[Chunk] = []
        self._numbers = 0

    # ---- loading ----------------------------------------------------------------------------------

    def load(self, timed: Timer) -> ModelCard:
        spec = self.spec
        if spec.source.kind not in ("gguf", "safetensors"):
            next = "Use --engine openvino for OpenVINO IR."
            raise ModelError(f"llama.cpp can't run {spec.source.label}.", "It reads GGUF files.", next)
        phase: Phase = "convert" if spec.source.kind == "safetensors" else "map"
        with timed(phase, f"{spec.source.kind} as GGUF") as progress:
            self._gguf, _ = prepared(spec.source, Path(spec.cache_dir), spec.quantization, remarking(progress))
            info = describe(self._gguf)
            self._facts = of_gguf(info, spec)
        batch, context = _sizes(spec, info)
        threads = spec.threads or cores()
        with timed("map", "weights into llama.cpp"):
            self._server = Server(self._gguf, threads=threads, slots=batch, context_tokens=context)
            self._pool = ThreadPoolExecutor(batch, "llamacpp")
        with timed("warmup", "two tokens"):
            self._server.complete({"prompt": [info.bos_id or 0] * 8, "n_predict": 2}, lambda _: None)
        self.card = self._describe(info, batch, context, threads)
        return self.card

    def _describe(self, info: GgufInfo, batch: int, context: int, threads: int) -> ModelCard:
        template = self._facts.template
        return ModelCard(
            name=self.spec.name,
            engine="llamacpp",
            source=self.spec.source.label,
            context_tokens=context,
            max_batch=batch,
            quantization=self._facts.quantization,
            weight_bytes=info.weight_bytes,
            parameters=info.parameters,
            kv_bytes_per_token=info.kv_bytes_per_token,
            chat=template is not None,
            tools=template.tools if template else "none",
            embeddings=True,
            unsupported=("min_tokens",),
            max_top_logprobs=MOST_TOP_LOGPROBS,
            memory_bytes=psutil.Process().memory_info().rss,
            threads=threads,
            versions={"xllamacpp": version("xllamacpp")},
            revision=self.spec.source.revision,
            created_unix_s=int(time.time()),
        )

    # ---- what the worker asks ---------------------------------------------------------------------

    def add(self, request: Request, choice: int = 0, given: Sequence[Chunk] = ()) -> None:
        server = self._open()
        facts = self._facts
        check(request, self.card, facts.vocabulary_tokens)
        prompt = prompt_of(request, facts.template, facts.vocabulary_tokens)
        ids = server.tokenize(prompt, request.kind == "text") if isinstance(prompt, str) else list(prompt)
        if not ids:
            raise InvalidRequest("The prompt is empty.", "It has no tokens.", param=param_of(request))
        most = room(request, len(ids), self.card.context_tokens)
        draft = Draft(request.id, choice, len(ids), request.sampling.stop)
        stands = START
        if given:
            stands = stands_at(given, request.sampling, server)
            draft.resume(given_of(given), stands)
        try:
            body = completion_body(request, choice, ids, most - draft.tokens, secrets.randbits(31), stands)
        except Complete:
            self._ended.append(draft.end("stop"))
            return
        if most <= draft.tokens:
            self._ended.append(draft.end("length"))
            return
        self._waiting.append((Reply(request, draft), body))

    def abort(self, id: str) -> None:
        for number, reply in list(self._running.items()):
            if reply.draft.id == id:
                del self._running[number]
                self._ended.append(reply.draft.end("cancelled"))
        gone = [reply for reply, _ in self._waiting if reply.draft.id == id]
        if gone:
            self._waiting = deque(pair for pair in self._waiting if pair[0].draft.id != id)
            self._ended += [reply.draft.end("cancelled") for reply in gone]

    def embed(self, texts: Sequence[str]) -> tuple[tuple[tuple[float, ...], ...], int]:
        """The mean of the last layer over each text's tokens, at length 1. From a model trained to write, not to
        embed, so of modest use. The first call loads the weights a second time (mapped, not copied)."""
        context = self.card.context_tokens
        lengths = [len(self._open().tokenize(text, True)) for text in texts]
        for length in lengths:
            if not 0 < length <= context:
                raise InvalidRequest(f"An input has {length} tokens.", f"Give 1 to {context}.", param="input")
        if self._embedder is None:
            self._embedder = Server(self._gguf, threads=self.card.threads, slots=1, context_tokens=context, embed=True)
        return tuple(self._embedder.embed(list(texts))), sum(lengths)

    def stats(self) -> EngineStats:
        return EngineStats(running=len(self._running), waiting=len(self._waiting))

    def close(self) -> None:
        self._waiting.clear()
        self._running.clear()
        if self._server is not None:
            self._pool.shutdown(wait=True)
            self._server.close()
        if self._embedder is not None:
            self._embedder.close()
        self._server = self._embedder = None

    # ---- one step ---------------------------------------------------------------------------------

    def step(self) -> Step:
        self._open()
        self._admit()
        running = len(self._running)
        chunks, self._ended = self._ended, []
        wait_s = IDLE_S if running and not chunks else 0.0
        while (news := self._next(wait_s)) is not None:
            wait_s = 0.0
            chunk = self._take(*news)
            if chunk is not None:
                chunks.append(chunk)
        return Step(chunks, running=running)

    def _next(self, wait_s: float) -> tuple[int, object] | None:
        try:
            return self._news.get(timeout=wait_s) if wait_s else self._news.get_nowait()
        except queue.Empty:
            return None

    def _take(self, number: int, data: object) -> Chunk | None:
        reply = self._running.get(number)
        if reply is None:  # ended from here; its call is about to return
            return None
        if isinstance(data, dict):
            chunk = reply.advance(data)
        else:
            error = EngineFailed("llama.cpp ended the answer without a reason.", str(data or ""), "Try again.")
            chunk = reply.draft.end("error", error.failure())
        if chunk is not None and chunk.finish is not None:
            del self._running[number]
        return chunk

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self.card.max_batch:
            reply, body = self._waiting.popleft()
            self._numbers += 1
            self._running[self._numbers] = reply
            self._pool.submit(self._answer, self._numbers, body)

    def _answer(self, number: int, body: dict[str, object]) -> None:
        """In a thread of the pool: one blocking call."""

        def heard(data: object) -> bool:
            self._news.put((number, data))
            return number not in self._running

        end: object = None
        try:
            if number in self._running:
                self._open().complete(body, heard)
        except Exception as error:  # noqa: BLE001  (the edge of a thread)
            end = {"error": {"code": 500, "message": f"{type(error).__name__}: {error}"}}
        self._news.put((number, end))

    def _open(self) -> Server:
        if self._server is None:
            raise EngineFailed("The engine is closed.")
        return self._server


def _sizes(spec: EngineSpec, info: GgufInfo) -> tuple[int, int]:
    """(slots, context of each): every slot has its own part of the KV cache.

    Where memory doesn't hold all, a context that was asked for stays and slots go; else the context is cut.
    Raises `ModelError` where not even one asked context fits.
    """
    batch, wanted = spec.max_batch or 32, context_of(spec, info.context_tokens)
    held = kv_budget_bytes(spec) // max(1, info.kv_bytes_per_token)
    if not spec.context_tokens:
        context = max(_LEAST_CONTEXT, min(wanted, held // batch))
        cut_by_memory("context", wanted, context)
        return batch, context
    if held < wanted:
        needed = f"It takes {wanted * info.kv_bytes_per_token / 1e6:,.0f} MB for keys and values"
        raise ModelError(
            f"A context of {wanted:,} tokens doesn't fit memory.", f"{needed}; there is room for {held:,} tokens.",
            "Ask for a smaller --context, or give more with --set engine.kv_cache_mb.",
        )  # fmt: skip
    slots = min(batch, held // wanted)
    cut_by_memory("batch", batch, slots)
    return slots, wanted
