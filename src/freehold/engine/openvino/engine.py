"""The `openvino` engine: openvino-genai's continuous batching, driven a step at a time. The CPU default.

The pipeline schedules and samples; here stand the prompt, the text, stop strings and the reasons for ending.
It takes only as many answers as may run at once, the others wait here (its own limit of sequences isn't kept
while prompts are read in pieces). What the library can't do: alternatives to the chosen token (`top_logprobs`)
and `logit_bias` are refused; it doesn't tell which prompt tokens came from its prefix cache, so `cached_tokens`
stays 0 and `Step.prefill_tokens` counts them as read, by the scheduler's rule (running answers first, then
prompts in the order they came). Log-probabilities are of the model's own distribution, before temperature.
A seeded answer repeats as long as the batch around it doesn't change the last bits of its logits.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import deque
from collections.abc import Sequence
from importlib.metadata import version

import numpy
import psutil

from freehold.core import Chunk, Failure, ModelCard, Request
from freehold.engine.asked import check, param_of, prompt_of, room
from freehold.engine.base import EngineSpec, EngineStats, Step, Timer
from freehold.engine.given import START, Given, Place, given_of, place
from freehold.engine.openvino.answer import Answer
from freehold.engine.openvino.config import generation_config, refuse_what_counts
from freehold.engine.openvino.model import BATCHED_TOKENS, BLOCK_TOKENS, OpenModel, open_model
from freehold.engine.openvino.said import LIBRARY_ERRORS, said
from freehold.engine.rest import Complete
from freehold.engine.text import Draft
from freehold.errors import EngineFailed, InvalidRequest, ModelError
from freehold.model.vocabulary import Vocabulary

log = logging.getLogger(__name__)
_MOST_REBUILDS = 3
"""In a row, without one good step between them; then the engine counts as broken."""


class OpenVinoEngine:
    """One pipeline in this process."""

    card: ModelCard

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self._model: OpenModel | None = None
        self._waiting: deque[Answer] = deque()
        self._running: dict[int, Answer] = {}
        self._ended: list[Chunk] = []
        self._numbers = 0
        self._stale = False
        """The pipeline holds an answer that was ended from here; its next step frees it."""
        self._rebuilds = 0
        self._tensor: type

    # ---- loading ----------------------------------------------------------------------------------

    def load(self, timed: Timer) -> ModelCard:
        from openvino import Tensor

        self._tensor = Tensor
        begun = time.monotonic()
        self._model = model = open_model(self.spec, timed)
        with timed("warmup", "two tokens"):
            try:
                self._warm_up(model)
            except LIBRARY_ERRORS as error:
                why = f"OpenVINO says: {said(error)}."
                raise ModelError(
                    f"OpenVINO can't run {self.spec.source.label}.", why, "Try --engine llamacpp."
                ) from error
        facts = model.facts
        kv_bytes = model.pipeline.get_metrics().cache_size_in_bytes
        log.debug("openvino loaded in %.2f s", time.monotonic() - begun)
        self.card = ModelCard(
            name=self.spec.name,
            engine="openvino",
            source=self.spec.source.label,
            context_tokens=model.context_tokens,
            max_batch=model.max_batch,
            quantization=facts.quantization,
            weight_bytes=facts.weight_bytes,
            parameters=facts.parameters,
            kv_bytes_per_token=kv_bytes // (model.kv_blocks * BLOCK_TOKENS),
            chat=facts.template is not None,
            tools=facts.template.tools if facts.template else "none",
            unsupported=("logit_bias",),
            memory_bytes=psutil.Process().memory_info().rss,
            threads=model.threads,
            versions={name: version(name) for name in ("openvino", "openvino-genai")},
            revision=self.spec.source.revision,
            created_unix_s=int(time.time()),
        )
        return self.card

    def _warm_up(self, model: OpenModel) -> None:
        from openvino_genai import GenerationConfig

        config = GenerationConfig()
        config.max_new_tokens = 2
        config.ignore_eos = True
        config.set_eos_token_id(0)  # there must be one
        handle = model.pipeline.add_request(0, self._tensor(numpy.zeros((1, 8), numpy.int64)), config)
        while model.pipeline.has_non_finished_requests():
            model.pipeline.step()
        del handle

    # ---- what the worker asks ---------------------------------------------------------------------

    def add(self, request: Request, choice: int = 0, given: Sequence[Chunk] = ()) -> None:
        model = self._open()
        check(request, self.card, model.facts.vocabulary_tokens)
        prompt = prompt_of(request, model.facts.template, model.facts.vocabulary_tokens)
        ids = model.encoder.encode(prompt, bos=request.kind == "text") if isinstance(prompt, str) else list(prompt)
        if not ids:
            raise InvalidRequest("The prompt is empty.", "It has no tokens.", param=param_of(request))
        most = room(request, len(ids), self.card.context_tokens)
        stops = frozenset() if request.sampling.ignore_eos else frozenset(model.facts.stop_ids)
        past, stands = self._stands(request, given, model.vocabulary)
        draft = Draft(request.id, choice, len(ids), request.sampling.stop, request.sampling.min_tokens)
        draft.resume(past, stands, past.tokens - len(stands.ids))
        try:
            config = generation_config(request, choice, most, model.facts.stop_ids, secrets.randbits(32), stands)
        except Complete:
            self._ended.append(draft.end("stop"))
            return
        if config.max_new_tokens < 1:
            self._ended.append(draft.end("length"))
            return
        self._waiting.append(Answer(request, draft, ids, stands, config, stops, model.vocabulary))

    def _stands(self, request: Request, given: Sequence[Chunk], vocabulary: Vocabulary) -> tuple[Given, Place]:
        """What was given of an answer, and where it stands. Raises `CannotResume`."""
        past = given_of(given)
        if not given:
            return past, START
        sampling = request.sampling
        refuse_what_counts(sampling)
        whole = request.json_schema is not None
        return past, place(past, vocabulary.bytes_of, logprobs=sampling.logprobs, whole=whole)

    def abort(self, id: str) -> None:
        for number, answer in list(self._running.items()):
            if answer.draft.id == id:
                self._drop(number)
                self._ended.append(answer.draft.end("cancelled"))
        gone = [answer for answer in self._waiting if answer.draft.id == id]
        if gone:
            self._waiting = deque(answer for answer in self._waiting if answer.draft.id != id)
            self._ended += [answer.draft.end("cancelled") for answer in gone]

    def embed(self, texts: Sequence[str]) -> tuple[tuple[tuple[float, ...], ...], int]:
        raise InvalidRequest(
            "This model gives no embeddings.",
            "The openvino engine runs text generation only.",
            "Serve it with --engine llamacpp.",
            param="model",
        )

    def stats(self) -> EngineStats:
        usage, size = 0.0, 0
        if self._model:
            metrics = self._model.pipeline.get_metrics()
            usage, size = metrics.cache_usage / 100 if self._running else 0.0, metrics.cache_size_in_bytes
        return EngineStats(
            running=len(self._running), waiting=len(self._waiting), kv_usage=usage, kv_bytes=int(size * usage)
        )

    def close(self) -> None:
        self._waiting.clear()
        for number in list(self._running):
            self._drop(number)
        if self._model and self._stale:
            self._free()
        self._model = None

    # ---- one step ---------------------------------------------------------------------------------

    def step(self) -> Step:
        model = self._open()
        chunks, self._ended = self._ended, []
        self._admit(model)
        if not self._running:
            self._free()
            return Step(chunks)
        prefill_tokens, context_tokens = self._count()
        running = len(self._running)
        try:
            model.pipeline.step()
        except LIBRARY_ERRORS as error:
            return Step(chunks + self._recover(model, error), None, running)
        self._stale = False
        self._rebuilds = 0
        for number, answer in list(self._running.items()):
            chunk = answer.advance()
            if chunk is not None:
                chunks.append(chunk)
                if chunk.finish is not None:
                    self._drop(number)
        return Step(chunks, prefill_tokens, running, context_tokens)

    def _admit(self, model: OpenModel) -> None:
        while self._waiting and len(self._running) < model.max_batch:
            answer = self._waiting.popleft()
            self._numbers += 1
            prompt = self._tensor(numpy.array([answer.ids], numpy.int64))
            answer.handle = model.pipeline.add_request(self._numbers, prompt, answer.config)
            self._running[self._numbers] = answer

    def _count(self) -> tuple[int, int]:
        """(prompt tokens this step reads, tokens in the context of all), by the scheduler's rule."""
        left = BATCHED_TOKENS
        unread = []
        context = 0
        for answer in self._running.values():
            context += answer.draft.prompt_tokens + answer.draft.position
            if answer.unread:
                unread.append(answer)
            else:
                left -= 1
        read = 0
        for answer in unread:
            taken = min(answer.unread, max(0, left - read))
            answer.unread -= taken
            read += taken
            context -= answer.unread
        return read, context

    def _drop(self, number: int) -> None:
        """Forget a running answer, and have the pipeline free it if it goes on there."""
        answer = self._running.pop(number)
        if answer.handle.get_status().name == "RUNNING":
            answer.handle.cancel()
            self._stale = True

    def _free(self) -> None:
        """With nothing left to run, one empty step gives the memory of cancelled answers back."""
        if self._stale and self._model:
            self._stale = False
            self._model.pipeline.step()

    def _recover(self, model: OpenModel, error: Exception) -> list[Chunk]:
        """After a step that raised, the pipeline can't go on: fail what ran, build it anew, keep what waits."""
        self._rebuilds += 1
        failure: Failure = EngineFailed(
            "The engine failed while answering.", f"OpenVINO says: {said(error)}.", "Try again."
        ).failure()
        log.error("openvino step failed: %s", error)
        chunks = [answer.draft.end("error", failure) for answer in self._running.values()]
        self._running.clear()
        self._stale = False
        if self._rebuilds > _MOST_REBUILDS:
            raise EngineFailed("The engine is broken.", failure.why, "The worker restarts.") from error
        model.rebuild()
        return chunks

    def _open(self) -> OpenModel:
        if self._model is None:
            raise EngineFailed("The engine is closed.")
        return self._model
