"""How long one engine step may take at most: beyond it a worker counts as hung. Pure.

From the step law of a profile where there is one, and from what this engine was seen to do, whichever allows more;
times a margin, and never under a floor. Prompt tokens still to be read count at their upper bound, so a long prefill
has a long bound. Before anything is known, a guess from the size of the model stands in.
"""

from __future__ import annotations

import msgspec

from freehold.core import ModelCard, Request
from freehold.profile import StepLaw, step_ms

FLOOR_MS = 5000.0
LAW_MARGIN = 4.0
"""A law is measured on a quiet machine."""
SEEN_MARGIN = 8.0
UNSEEN_MS = 20_000.0
"""What the first steps may take without a law: libraries still compile kernels."""
UNSEEN_STEPS = 3
GUESS_FLOPS = 1e10
"""An engine that does less a second is none that anybody would wait for."""
TEMPLATE_TOKENS = 256
"""A chat template adds fewer."""
LEAST_PREFILL = 16
"""Steps that read fewer tokens say nothing of the price of reading."""


class StepBound:
    """One engine's. Fed with every step; asked before each."""

    def __init__(self, card: ModelCard, law: StepLaw | None) -> None:
        self._law = law
        self._context_tokens = card.context_tokens or 8192
        self._guess_ms = max(5.0, 2e3 * (card.parameters or card.weight_bytes) / GUESS_FLOPS)
        self._steps = 0
        self._longest_ms = 0.0
        self._read_ms = 0.0
        """Most that a prompt token was seen to cost."""

    def most_ms(self, unread_tokens: int, running: int) -> float:
        """For a step that reads at most `unread_tokens` with `running` sequences, each as long as can be."""
        bound_ms = FLOOR_MS
        if self._law is not None:
            full = running * self._context_tokens
            bound_ms = max(bound_ms, LAW_MARGIN * step_ms(self._law, unread_tokens, running, full))
        elif self._steps < UNSEEN_STEPS:
            bound_ms = max(UNSEEN_MS, LAW_MARGIN * self._guess_ms * (unread_tokens + running))
        read_ms = self._read_ms or (0.0 if self._law is not None else self._guess_ms)
        return max(bound_ms, SEEN_MARGIN * (self._longest_ms + read_ms * unread_tokens))

    def learn(self, ms: float, read_tokens: int) -> None:
        """A step took `ms` and read so many prompt tokens."""
        self._steps += 1
        if read_tokens >= LEAST_PREFILL:
            self._read_ms = max(self._read_ms, ms / read_tokens)
        else:
            self._longest_ms = max(self._longest_ms, ms)


def prompt_tokens_at_most(request: Request, card: ModelCard) -> int:
    """Upper bound of what a request makes an engine read in a step: a token has at least one byte, and a context holds
    so many. Embedded texts are read all together, each within a context of its own."""
    told = (request.messages, request.prompt, request.inputs, request.tools, request.template_kwargs)
    size = len(msgspec.msgpack.encode(told))
    if request.kind == "embed" or not card.context_tokens:
        return size
    return min(size + TEMPLATE_TOKENS, card.context_tokens)
