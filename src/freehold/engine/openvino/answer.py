"""One answer of the `openvino` engine: what the pipeline's handle gives after a step, as a chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freehold.core import Chunk, FinishReason, Request, TokenLogprob
from freehold.engine.given import Place
from freehold.engine.text import Draft
from freehold.errors import EngineFailed
from freehold.model.vocabulary import TextStream, Vocabulary

if TYPE_CHECKING:
    from openvino_genai import GenerationConfig
    from openvino_genai.py_openvino_genai import GenerationHandle


class Answer:
    """One answer, waiting (no handle yet) or running."""

    __slots__ = (
        "config", "draft", "handle", "ids", "last_tokens", "logprobs", "min_tokens", "plain_stops", "stops", "stream",
        "unread", "vocabulary",
    )  # fmt: skip
    handle: GenerationHandle

    def __init__(
        self,
        request: Request,
        draft: Draft,
        ids: list[int],
        stands: Place,
        config: GenerationConfig,
        stops: frozenset[int],
        vocabulary: Vocabulary,
    ) -> None:
        """`ids` is the prompt; `stands` what was given after it, as the draft knows already."""
        sampling = request.sampling
        self.ids = [*ids, *stands.ids]
        self.config = config
        self.draft = draft
        self.stream = TextStream(vocabulary)
        for id in stands.ids:
            self.stream.feed(id)
        self.vocabulary = vocabulary
        self.logprobs = sampling.logprobs
        self.stops = stops | set(sampling.stop_token_ids)
        self.plain_stops = stops
        """Ends the answer without being named as its reason: the model's own end tokens."""
        self.min_tokens = sampling.min_tokens
        self.last_tokens: int = len(stands.ids) + config.max_new_tokens
        self.unread = len(self.ids)
        """Tokens not in the context yet."""

    def advance(self) -> Chunk | None:
        """What the last step gave it; None while its prompt is being read or it was put back."""
        if not self.handle.can_read():
            return self._ended_silently()
        (output,) = self.handle.read().values()
        ids: list[int] = output.generated_ids
        self.unread = 0
        text, used = "", 0
        finish: FinishReason | None = None
        stop: int | None = None
        for id in ids:
            used += 1
            if id in self.stops and self.draft.position + used > self.min_tokens:
                finish = "stop"
                stop = None if id in self.plain_stops else id
                break
            text += self.stream.feed(id)
        if finish is None and self.draft.position + used >= self.last_tokens:
            finish = "length"
        if finish is not None:
            text += self.stream.end()
        chunk = self.draft.extend(
            text, used, self._logprobs(ids[:used], output) if self.logprobs else None, finish, stop
        )
        if chunk.tokens:
            chunk.ids = tuple(ids[used - chunk.tokens : used])
        elif chunk.finish is None:
            return None  # a token that is made once more
        return chunk

    def _logprobs(self, ids: list[int], output: object) -> list[TokenLogprob]:
        values: list[float] = output.generated_log_probs  # type: ignore[attr-defined]
        pieces = [self.vocabulary.pieces[id] if id < len(self.vocabulary) else b"" for id in ids]
        return [
            TokenLogprob(piece.decode("utf-8", "replace"), value, tuple(piece))
            for piece, value in zip(pieces, values, strict=False)
        ]

    def _ended_silently(self) -> Chunk | None:
        status = self.handle.get_status().name
        if status == "RUNNING":
            return None
        if status == "FINISHED":
            return self.draft.extend(self.stream.end(), 0, finish="stop")
        error = EngineFailed(
            "The KV cache ran out of memory.",
            f"The answer had {self.draft.prompt_tokens + self.draft.tokens} tokens of context.",
            "Ask for fewer tokens, or give the server a larger --kv-cache-mb.",
        )
        return self.draft.end("error", error.failure())
