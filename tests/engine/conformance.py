"""How the conformance suite drives an engine: add, step until it ended, and check what every engine owes."""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from freehold.core import Chunk, Failure, FinishReason, Request, Sampling, TokenLogprob, Usage
from freehold.engine.base import Engine, Step
from freehold.errors import RequestError, from_failure

PATIENCE_S = 120.0
_ids = itertools.count()


def chat(text: str = "I lost my card, what can I do?", *, id: str = "", n: int = 1, **sampling: Any) -> Request:
    """A chat request; what isn't a `Request` field goes to its sampling. Greedy unless told otherwise."""
    fields = {name: sampling.pop(name) for name in list(sampling) if name in ("tools", "json_schema")}
    chosen = Sampling(**{"temperature": 0.0, "max_tokens": 40, **sampling})
    messages = ({"role": "user", "content": text},)
    return Request(id=id or f"c{next(_ids)}", model="m", kind="chat", messages=messages, n=n, sampling=chosen, **fields)


def text(prompt: str | tuple[int, ...], **sampling: Any) -> Request:
    chosen = Sampling(**{"temperature": 0.0, "max_tokens": 40, **sampling})
    return Request(id=f"t{next(_ids)}", model="m", kind="text", prompt=prompt, sampling=chosen)


class Answer:
    """All chunks of one choice, checked as they are read."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []

    def take(self, chunk: Chunk) -> None:
        assert not self.ended, f"a chunk after the last one: {chunk}"
        assert chunk.offset == self.tokens, f"a gap or a repeat: {chunk}"
        assert chunk.tokens >= 0
        if chunk.finish is None:
            assert chunk.tokens or chunk.text, "a chunk that says nothing"
        else:
            assert (chunk.finish == "error") == (chunk.failure is not None)
            assert chunk.usage is not None, "the last chunk has the usage"
        self.chunks.append(chunk)

    @property
    def ended(self) -> bool:
        return bool(self.chunks) and self.chunks[-1].finish is not None

    @property
    def tokens(self) -> int:
        return sum(chunk.tokens for chunk in self.chunks)

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.chunks)

    @property
    def finish(self) -> FinishReason | None:
        return self.chunks[-1].finish

    @property
    def stop(self) -> str | int | None:
        return self.chunks[-1].stop

    @property
    def usage(self) -> Usage:
        usage = self.chunks[-1].usage
        assert usage is not None
        return usage

    @property
    def failure(self) -> Failure | None:
        return self.chunks[-1].failure

    @property
    def logprobs(self) -> list[TokenLogprob]:
        return [one for chunk in self.chunks for one in chunk.logprobs or ()]


class Drive:
    """One engine and all answers that were asked of it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.answers: dict[tuple[str, int], Answer] = defaultdict(Answer)

    def add(self, request: Request, choice: int = 0) -> Answer:
        self.engine.add(request, choice)
        return self.answers[request.id, choice]

    def step(self) -> Step:
        step = self.engine.step()
        for chunk in step.chunks:
            assert (chunk.id, chunk.choice) in self.answers, f"nobody asked for {chunk}"
            self.answers[chunk.id, chunk.choice].take(chunk)
        assert step.running >= 0
        assert step.prefill_tokens is None or step.prefill_tokens >= 0
        return step

    def until(self, done: Callable[[], bool]) -> None:
        """Step until `done`, with patience enough for a slow machine."""
        given_up_s = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < given_up_s, "the engine doesn't get there"
            self.step()

    def finish(self) -> None:
        """Step until every answer ended; then check each one's sums."""
        self.until(lambda: all(answer.ended for answer in self.answers.values()))
        for answer in self.answers.values():
            assert answer.usage.completion_tokens == answer.tokens

    def ask(self, request: Request, choice: int = 0) -> Answer:
        """One answer, from start to end."""
        answer = self.add(request, choice)
        self.until(lambda: answer.ended)
        assert answer.usage.completion_tokens == answer.tokens
        return answer

    def refusal(self, request: Request) -> RequestError:
        """The error that ends `request`, raised by `add` or, where another server decides, as its last chunk."""
        try:
            answer = self.ask(request)
        except RequestError as error:
            return error
        assert answer.failure is not None, f"not refused: {answer.text!r}"
        error = from_failure(answer.failure)
        assert isinstance(error, RequestError)
        return error
