"""One claimed request while its answers are made: all their chunks, what is still to come, what the ledger lacks.

The chunks are kept until the end: the ledger gets them every few steps, a gateway that is new to the request gets them
all, and the result is made of them. What `max_tokens` allows is thus held once more, here.
"""

from __future__ import annotations

from collections.abc import Sequence

from freehold import log
from freehold.core import Answer, Chunk, Failure, Result, Usage
from freehold.echo import Echo
from freehold.engine.base import Engine
from freehold.errors import CannotResume, FreeholdError, ResumeFailed
from freehold.ledger.protocol import Claim, Ended, Progress
from freehold.pipe import Begun
from freehold.worker.failures import failed_chunk


class Job:
    """Fed every chunk of its request by `take`; `ended` is for the ledger once `take` has set `over`."""

    __slots__ = (
        "announced", "asked", "attempt", "chunks", "claimed_s", "echoes", "failure", "first_s", "given", "id", "keep",
        "left", "over", "queued_ms", "request", "saved",
    )  # fmt: skip

    def __init__(self, claim: Claim, now_s: float) -> None:
        self.request = claim.request
        self.id = claim.request.id
        self.attempt = claim.attempt
        self.queued_ms = claim.queued_ms
        self.keep = claim.request.keep
        self.claimed_s = now_s
        self.asked = {claim.request.gateway} if claim.request.gateway else set()
        """Gateways that want to hear of it; empty: all there are."""
        self.announced = False
        """The gateway has heard of it."""
        self.first_s: float | None = None
        self.chunks: list[Chunk] = list(claim.given)
        self.given = len(self.chunks)
        """So many of them came from earlier attempts."""
        self.saved = self.given
        """So many of them are in the ledger."""
        self.left = places(claim) - sum(chunk.finish is not None for chunk in claim.given)
        """Answers that have not ended."""
        self.over = self.left <= 0
        self.failure: Failure | None = None
        self.echoes: dict[int, Echo] = {}

    def begun(self) -> Begun:
        return Begun(self.attempt, self.queued_ms, sum(chunk.tokens for chunk in self.chunks[: self.given]))

    def followed_by(self, gateway: str) -> set[str]:
        """A gateway wants to hear of it from now on: who is to be told all of it now."""
        if self.asked and gateway:
            self.asked.add(gateway)
        return {gateway} if gateway else set()

    def given_to(self, choice: int) -> list[Chunk]:
        """What earlier attempts made of one answer."""
        return [chunk for chunk in self.chunks[: self.given] if chunk.choice == choice]

    def anew(self, choice: int) -> None:
        """The engine makes this answer from its beginning: only what is new of it counts."""
        self.echoes[choice] = Echo(self.given_to(choice))

    def take(self, chunk: Chunk, now_s: float) -> Chunk | None:
        """The chunk to show, if any. `over` is set with the last one; a failure ends all answers."""
        if self.echoes and chunk.failure is None and (echo := self.echoes.get(chunk.choice)) is not None:
            try:
                heard = echo.hear(chunk)
            except ResumeFailed as error:
                heard = failed_chunk(self.id, error.failure())
            if heard is None:
                return None
            chunk = heard
        if self.first_s is None and chunk.tokens:
            self.first_s = now_s
        if chunk.failure is not None:
            self.failure = chunk.failure
            self.over = True
            return chunk
        self.chunks.append(chunk)
        if chunk.finish is not None:
            self.left -= 1
            self.over = self.left <= 0
        return chunk

    def unsaved(self) -> Progress | None:
        """What the ledger lacks."""
        if self.saved == len(self.chunks):
            return None
        return Progress(self.id, self.attempt, self.chunks[self.saved :])

    def ended(self, worker: str, now_s: float) -> Ended:
        """For the ledger: the result, and the chunks it lacks."""
        return Ended(self.id, self.attempt, self._result(worker, now_s), self.chunks[self.saved :])

    def _result(self, worker: str, now_s: float) -> Result:
        last = {chunk.choice: chunk for chunk in self.chunks if chunk.finish is not None}
        return Result(
            answers=tuple(self._answer(last[choice]) for choice in sorted(last)),
            usage=_together([chunk.usage for chunk in last.values() if chunk.usage is not None]),
            failure=self.failure,
            cancelled=any(chunk.finish == "cancelled" for chunk in last.values()),
            embeddings=next((chunk.embeddings for chunk in last.values() if chunk.embeddings), None)
            if self.keep
            else None,
            worker=worker,
            queued_ms=self.queued_ms,
            first_token_ms=None if self.first_s is None else self.queued_ms + (self.first_s - self.claimed_s) * 1000.0,
            total_ms=self.queued_ms + (now_s - self.claimed_s) * 1000.0,
        )

    def _answer(self, last: Chunk) -> Answer:
        """Its text only where the result is kept; else the chunks tell it until it is delivered."""
        if not self.keep:
            return Answer(finish=last.finish or "stop", stop=last.stop)
        mine = [chunk for chunk in self.chunks if chunk.choice == last.choice]
        logprobs = [entry for chunk in mine for entry in chunk.logprobs or ()]
        return Answer(
            text="".join(chunk.text for chunk in mine),
            finish=last.finish or "stop",
            logprobs=tuple(logprobs) if logprobs or self.request.sampling.logprobs else None,
            stop=last.stop,
        )


def places(claim: Claim) -> int:
    """How many of the engine's places a request takes."""
    return 1 if claim.request.kind == "embed" else claim.request.n


def add_to(engine: Engine, job: Job, choice: int) -> None:
    """Begin an answer, or go on with it; from its beginning where the engine can't go on."""
    given = job.given_to(choice)
    if any(chunk.finish is not None for chunk in given):
        return
    try:
        engine.add(job.request, choice, given)
    except CannotResume as error:
        log.event("request.anew", id=job.id, choice=choice, why=error.why)
        job.anew(choice)
        engine.add(job.request, choice)


def embedded(engine: Engine, job: Job) -> Chunk:
    """The one chunk of a request to embed."""
    try:
        vectors, tokens = engine.embed(job.request.inputs)
    except FreeholdError as error:
        return failed_chunk(job.id, error.failure())
    return Chunk(job.id, 0, 0, 0, "", finish="stop", usage=Usage(prompt_tokens=tokens), embeddings=vectors)


def _together(usages: Sequence[Usage]) -> Usage:
    """Every answer names the same prompt; only the completions add up."""
    return Usage(
        prompt_tokens=max((usage.prompt_tokens for usage in usages), default=0),
        cached_tokens=max((usage.cached_tokens for usage in usages), default=0),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
    )
