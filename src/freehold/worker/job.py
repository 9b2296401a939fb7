"""One claimed request while its answers are made: counts what is still to come, keeps what the ledger wants.

The text of an answer is collected only for a request that asked to be kept; for all others the worker holds a
few numbers, however long the answer.
"""

from __future__ import annotations

from freehold.core import Answer, Chunk, Failure, FinishReason, Result, TokenLogprob, Usage
from freehold.ledger.protocol import Claim


class Job:
    """Fed every chunk of its request by `take`; `result` is for the ledger once `take` has returned True."""

    __slots__ = (
        "announced", "attempt", "claimed_s", "embeddings", "failure", "finishes", "first_s", "id", "keep", "left",
        "logprobs", "queued_ms", "request", "stops", "texts", "usages",
    )  # fmt: skip

    def __init__(self, claim: Claim, now_s: float) -> None:
        self.request = claim.request
        self.id = claim.request.id
        self.attempt = claim.attempt
        self.queued_ms = claim.queued_ms
        self.keep = claim.request.keep
        self.claimed_s = now_s
        self.announced = False
        """The gateway has heard of it."""
        self.first_s: float | None = None
        self.left = places(claim)
        """Answers that have not ended."""
        self.failure: Failure | None = None
        self.finishes: dict[int, FinishReason] = {}
        self.stops: dict[int, str | int | None] = {}
        self.usages: list[Usage] = []
        self.texts: dict[int, list[str]] = {}
        self.logprobs: dict[int, list[TokenLogprob]] = {}
        self.embeddings: tuple[tuple[float, ...], ...] | None = None

    def take(self, chunk: Chunk, now_s: float) -> bool:
        """True when this was the request's last chunk. A failure ends all its answers."""
        if self.first_s is None and chunk.tokens:
            self.first_s = now_s
        if self.keep:
            self.texts.setdefault(chunk.choice, []).append(chunk.text)
            if chunk.logprobs is not None:
                self.logprobs.setdefault(chunk.choice, []).extend(chunk.logprobs)
            self.embeddings = chunk.embeddings or self.embeddings
        if chunk.usage is not None:
            self.usages.append(chunk.usage)
        if chunk.failure is not None:
            self.failure = chunk.failure
            return True
        if chunk.finish is None:
            return False
        self.finishes[chunk.choice] = chunk.finish
        self.stops[chunk.choice] = chunk.stop
        self.left -= 1
        return self.left == 0

    def result(self, worker: str, now_s: float) -> Result:
        return Result(
            answers=tuple(self._answer(choice) for choice in sorted(self.finishes)),
            usage=_together(self.usages),
            failure=self.failure,
            cancelled="cancelled" in self.finishes.values(),
            embeddings=self.embeddings,
            worker=worker,
            queued_ms=self.queued_ms,
            first_token_ms=None if self.first_s is None else self.queued_ms + (self.first_s - self.claimed_s) * 1000.0,
            total_ms=self.queued_ms + (now_s - self.claimed_s) * 1000.0,
        )

    def _answer(self, choice: int) -> Answer:
        logprobs = self.logprobs.get(choice)
        return Answer(
            text="".join(self.texts.get(choice, ())),
            finish=self.finishes[choice],
            logprobs=None if logprobs is None else tuple(logprobs),
            stop=self.stops[choice],
        )


def places(claim: Claim) -> int:
    """How many of the engine's places a request takes."""
    return 1 if claim.request.kind == "embed" else claim.request.n


def failed_chunk(id: str, failure: Failure) -> Chunk:
    """The last chunk of a request that ends with an error."""
    return Chunk(id, 0, 0, 0, "", finish="error", failure=failure)


def _together(usages: list[Usage]) -> Usage:
    """Every answer names the same prompt; only the completions add up."""
    return Usage(
        prompt_tokens=max((usage.prompt_tokens for usage in usages), default=0),
        cached_tokens=max((usage.cached_tokens for usage in usages), default=0),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
    )
