"""How long answers are, and how many tokens a prompt has, learnt from what ended.

By API key and max_tokens: requests that agree in both are mostly of one kind.
"""

from __future__ import annotations

from collections import OrderedDict

from freehold.core import Request, Usage

KINDS = 1024
LEARN = 0.1
FIRST_GUESS_TOKENS = 512
TOKENS_PER_BYTE = 0.25
"""Until a prompt has been counted."""

_Kind = tuple[str, str, int | None]


class Lengths:
    """Expected tokens of requests to come."""

    def __init__(self) -> None:
        self._known: OrderedDict[_Kind, tuple[float, float]] = OrderedDict()
        self._per_byte: dict[str, float] = {}

    def answer_tokens(self, request: Request) -> tuple[float, float]:
        """(expected, expected of a long one), never over max_tokens: mean, and mean plus two mean deviations."""
        if request.kind == "embed":
            return 0.0, 0.0
        limit = request.sampling.max_tokens
        most = float("inf") if limit is None else float(limit)
        if request.sampling.ignore_eos and limit is not None:
            return most, most
        mean, deviation = self._known.get(_kind(request)) or (min(most, FIRST_GUESS_TOKENS), 0.0)
        return min(most, mean), min(most, mean + 2 * deviation)

    def prompt_tokens(self, request: Request) -> float:
        if isinstance(request.prompt, tuple):
            return len(request.prompt)
        return prompt_bytes(request) * self._per_byte.get(request.model, TOKENS_PER_BYTE)

    def learn(self, request: Request, usage: Usage) -> None:
        """One answer of `request` has ended."""
        kind, tokens = _kind(request), float(usage.completion_tokens)
        mean, deviation = self._known.get(kind) or (tokens, tokens / 4)
        mean += LEARN * (tokens - mean)
        self._known[kind] = mean, deviation + LEARN * (abs(tokens - mean) - deviation)
        self._known.move_to_end(kind)
        if len(self._known) > KINDS:
            self._known.popitem(last=False)
        size = prompt_bytes(request)
        if size and usage.prompt_tokens:
            seen = usage.prompt_tokens / size
            known = self._per_byte.get(request.model, seen)
            self._per_byte[request.model] = known + LEARN * (seen - known)


def prompt_bytes(request: Request) -> int:
    """About what a prompt takes while it waits: its texts, or four bytes a token id."""
    size = 4 * len(request.prompt) if isinstance(request.prompt, tuple) else len(request.prompt)
    size += sum(map(len, request.inputs))
    for message in request.messages:
        size += len(message.get("content") or "")
    return size + (len(repr(request.tools)) if request.tools else 0)


def _kind(request: Request) -> _Kind:
    return request.model, request.tenant, request.sampling.max_tokens
