"""One answer of the `sim` engine on its way: which token comes next, and what ends it."""

from __future__ import annotations

from collections import Counter

import msgspec

from freehold.core import Chunk, Failure, FinishReason, Json, Request, Sampling, TokenLogprob, Usage
from freehold.engine.given import Given, Place, place
from freehold.engine.sim import words
from freehold.engine.sim.schema import instance
from freehold.engine.text import Draft
from freehold.errors import CannotResume, EngineFailed

NEVER = 1 << 60
Logprobs = tuple[TokenLogprob, ...] | None


class Answer:
    """Mutable and slotted: one exists for each running stream, and `write` runs once a token."""

    __slots__ = (
        "bent", "choice", "draft", "draw", "end_tokens", "fail_at", "finished", "id", "key", "kv_tokens", "last_tokens",
        "prompt_tokens", "ranks", "sampling", "script", "seen", "unread", "written",
    )  # fmt: skip

    def __init__(
        self, request: Request, choice: int, keys: tuple[int, int], prompt_tokens: int, limit_tokens: int, fail_at: int
    ) -> None:
        sampling = request.sampling
        self.id = request.id
        self.choice = choice
        self.key, self.draw = keys
        self.sampling = sampling
        self.prompt_tokens = self.unread = prompt_tokens
        self.kv_tokens = 0
        self.written = 0
        self.finished = False
        self.script = _script(request)
        natural = NEVER if sampling.ignore_eos else max(words.natural_tokens(self.draw), sampling.min_tokens)
        self.end_tokens = len(self.script) if self.script else natural
        self.fail_at = fail_at
        self.last_tokens = min(limit_tokens, self.end_tokens, fail_at)
        self.ranks = words.cached_thresholds(sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p)
        self.bent = _is_bent(sampling)
        self.seen: Counter[int] = Counter()
        careful = self.script or sampling.stop or sampling.stop_token_ids or sampling.logprobs or self.bent
        self.draft = Draft(self.id, choice, prompt_tokens, sampling.stop, sampling.min_tokens) if careful else None

    def resume(self, past: Given) -> None:
        """Go on after what was given. Raises `CannotResume`."""
        sampling, script = self.sampling, self.script
        if script:
            read = min(past.tokens, past.logprobs) if sampling.logprobs else past.tokens
            stands = Place(tuple(range(read)), "".join(script[:read]))
        else:
            stands = place(past, words.bytes_of, logprobs=sampling.logprobs, whole=False)
            self.seen.update(stands.ids)
        if self.draft is not None:
            self.draft.resume(past, stands, past.tokens - len(stands.ids))
        if not stands.text.startswith(past.text) or past.tokens >= self.last_tokens:
            raise CannotResume("The sim engine can't go on with this answer.", "It isn't the one that it would write.")
        self.written = len(stands.ids)
        self.unread += self.written

    def write(self) -> Chunk | None:
        """The next token as a chunk; `finished` is set with the last one. None for one that is made once more."""
        index = self.written
        self.written = index + 1
        if self.draft is not None:
            return self._write_with_care(index, self.draft)
        token = words.token_at(self.key, self.draw, index, self.ranks)[0]
        chunk = Chunk(self.id, self.choice, index, 1, words.VOCABULARY[token], ids=words.IDS[token])
        if self.written >= self.last_tokens:
            self.finished = True
            chunk.finish, chunk.usage, chunk.failure = self._finish(), self._usage(), self._failure()
        return chunk

    def end(self, finish: FinishReason) -> Chunk:
        """The last chunk of an answer that ends without another token."""
        self.finished = True
        if self.draft is not None:
            return self.draft.end(finish)
        return Chunk(self.id, self.choice, self.written, 0, "", None, finish, self._usage())

    def _write_with_care(self, index: int, draft: Draft) -> Chunk | None:
        """`write` where something looks at the tokens: a script, stops, log-probabilities, penalties."""
        token, piece, logprobs = self._next(index)
        if token in self.sampling.stop_token_ids and self.written >= self.sampling.min_tokens:
            chunk = draft.extend("", 1, logprobs, "stop", token)
        else:
            chunk = draft.extend(piece, 1, logprobs, self._finish() if self.written >= self.last_tokens else None)
        self.finished = chunk.finish is not None
        if chunk.finish == "error":
            chunk.failure = self._failure()
        if not chunk.tokens:
            return chunk if self.finished else None
        if token is not None:
            chunk.ids = words.IDS[token]
        return chunk

    def _next(self, index: int) -> tuple[int | None, str, Logprobs]:
        """Token id (None in a script), text, log-probabilities if asked for."""
        sampling = self.sampling
        if self.script:
            piece = self.script[index]
            certain = TokenLogprob(piece, 0.0, tuple(piece.encode()), ((piece, 0.0),) if sampling.top_logprobs else ())
            return None, piece, (certain,) if sampling.logprobs else None
        rank: int | None
        if self.bent:
            token, rank = words.biased_token_at(self.key, self.draw, index, sampling, self.seen)
            self.seen[token] += 1
        else:
            token, rank = words.token_at(self.key, self.draw, index, self.ranks)
        if not sampling.logprobs:
            return token, words.VOCABULARY[token], None
        return token, words.VOCABULARY[token], (words.logprob_of(self.key, index, token, rank, sampling.top_logprobs),)

    def _finish(self) -> FinishReason:
        """Why an answer of `last_tokens` is over."""
        if self.written >= self.fail_at:
            return "error"
        return "stop" if self.written >= self.end_tokens else "length"

    def _failure(self) -> Failure | None:
        if self.written < self.fail_at:
            return None
        return EngineFailed("The sim engine failed this answer.", "sim_faults asks for fail_every.").failure()

    def _usage(self) -> Usage:
        return Usage(prompt_tokens=self.prompt_tokens, completion_tokens=self.written)


def _is_bent(sampling: Sampling) -> bool:
    """True if the choice depends on more than the place: a bias, or what was written before."""
    penalties = sampling.presence_penalty or sampling.frequency_penalty or sampling.repetition_penalty != 1.0
    return bool(sampling.logit_bias or penalties)


def _script(request: Request) -> list[str] | None:
    """The tokens of an answer that is known beforehand: an instance of the schema, or a call of the tool
    that the last user message names (so that a tool call can be had without a model)."""
    if request.json_schema is not None:
        return words.split_tokens(msgspec.json.encode(instance(request.json_schema)).decode())
    asked = next((str(m.get("content") or "") for m in reversed(request.messages) if m.get("role") == "user"), "")
    if not request.messages or request.messages[-1].get("role") != "user":
        return None
    for tool in request.tools:
        function: Json = tool.get("function", {})
        if (name := function.get("name")) and name in asked:
            call = {"name": name, "arguments": instance(function.get("parameters") or {"type": "object"})}
            return words.split_tokens(f"<tool_call>{msgspec.json.encode(call).decode()}</tool_call>")
    return None
