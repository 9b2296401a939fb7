"""One answer of the `llamacpp` engine: the request in the server's words, and its pieces as chunks."""

from __future__ import annotations

from typing import Any

from freehold.core import Chunk, Failure, FinishReason, Json, Request, TokenLogprob
from freehold.engine.given import START, Place, fresh_seed
from freehold.engine.grammar import for_library
from freehold.engine.rest import grammar_at
from freehold.engine.text import Draft
from freehold.errors import EngineFailed, InvalidRequest, PromptTooLong

_SAMPLERS = ["penalties", "temperature", "top_k", "top_p", "min_p"]
"""In the order of the other engines; llama.cpp's own applies temperature last."""


def completion_body(
    request: Request, choice: int, ids: list[int], max_tokens: int, random_seed: int, stands: Place = START
) -> Json:
    """A whole answer, or the rest of one, of up to `max_tokens`. Stop strings aren't passed on: they are looked for
    here, where every engine does it alike. Raises `CannotResume`, or `Complete` where nothing may follow."""
    sampling = request.sampling
    seed = random_seed if sampling.seed is None else sampling.seed + choice
    body: Json = {
        "prompt": [*ids, *stands.ids],
        "n_predict": max_tokens,
        "cache_prompt": True,
        "timings_per_token": True,
        "return_tokens": True,
        "verbose": True,  # where the token ids are
        "samplers": _SAMPLERS,
        "temperature": sampling.temperature if sampling.top_p else 0.0,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "repeat_penalty": sampling.repetition_penalty,
        "repeat_last_n": len(ids) + len(stands.ids) + max_tokens,
        "seed": fresh_seed(seed, len(stands.ids)) % 0xFFFF_FFFF,
        "ignore_eos": sampling.ignore_eos,
    }
    if sampling.logprobs or sampling.stop_token_ids:
        body["n_probs"] = max(1, sampling.top_logprobs)
    if sampling.logit_bias:
        body["logit_bias"] = [[id, bias] for id, bias in sampling.logit_bias.items()]
    if request.json_schema is not None:
        grammar = grammar_at(request.json_schema, stands)
        body |= {"grammar": grammar} if grammar else {"json_schema": for_library(request.json_schema)}
    return body


class Reply:
    """Reads the server's pieces: OpenAI's completion chunks, with llama.cpp's timings in them."""

    __slots__ = ("before", "draft", "logprobs", "stops", "top")

    def __init__(self, request: Request, draft: Draft) -> None:
        sampling = request.sampling
        self.draft = draft
        self.before = draft.tokens
        """Given before this call: the server counts its own."""
        self.stops = frozenset(sampling.stop_token_ids)
        self.logprobs = sampling.logprobs
        self.top = sampling.top_logprobs

    def advance(self, data: Json) -> Chunk | None:
        """The chunk for one piece; None where it shows nothing."""
        if "error" in data:
            return self.draft.end("error", failure_of(data["error"]))
        (piece,) = data["choices"]
        timings = data.get("timings", {})
        self.draft.cached_tokens = min(timings.get("cache_n", self.draft.cached_tokens), self.draft.prompt_tokens)
        finish: FinishReason | None = None
        if reason := piece.get("finish_reason"):
            finish = "length" if reason == "length" else "stop"
            made = data.get("usage", {}).get("completion_tokens", self.draft.tokens - self.before)
        else:
            made = timings.get("predicted_n", self.draft.tokens - self.before + 1)
        entries = (piece.get("logprobs") or {}).get("content") or []
        text, stop = piece["text"], None
        if entries and entries[-1]["id"] in self.stops:
            text, stop, finish = "", entries[-1]["id"], "stop"
        tokens = max(0, self.before + made - self.draft.tokens)
        if not (text or tokens or finish or entries):
            return None
        logprobs = [self._logprob(entry) for entry in entries] if self.logprobs else None
        chunk = self.draft.extend(text, tokens, logprobs, finish, stop)
        ids = (data.get("__verbose") or {}).get("tokens") or ()
        if len(ids) == tokens:  # those inside an unfinished character aren't told
            chunk.ids = tuple(ids)
        return chunk

    def _logprob(self, entry: dict[str, Any]) -> TokenLogprob:
        top = tuple((other["token"], other["logprob"]) for other in entry["top_logprobs"][: self.top])
        return TokenLogprob(entry["token"], entry["logprob"], tuple(entry["bytes"]), top)


def failure_of(error: Any) -> Failure:
    """The server's error as ours, with its words."""
    if not isinstance(error, dict):
        return EngineFailed("llama.cpp failed.", str(error)).failure()
    said = str(error.get("message", "")).strip()
    if error.get("type") == "exceed_context_size_error":
        return PromptTooLong("The prompt is too long.", said, "Shorten it.", param="prompt").failure()
    if error.get("code") == 400:
        return InvalidRequest("llama.cpp refuses the request.", said).failure()
    return EngineFailed("llama.cpp failed while answering.", said, "Try again.").failure()
