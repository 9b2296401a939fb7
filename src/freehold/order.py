"""Who is next: one pure decision, used by every store and by whoever predicts a queue.

Priority class first, then the earliest deadline, then a fair share of tokens among tenants, then arrival. A store
keeps the parts of `key` where it can walk them in order; a test holds every store to this order.

The share is start-time fair queueing (Goyal, Vin and Cheng, 1996). A tenant's requests carry rising tags, each the sum
of what it asked for before; a lane's virtual time is the tag that is served now. Who comes back from a pause starts
at the virtual time, so that rest earns no credit; who sends ten times as much waits for itself alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from freehold.core import Request, Usage

EXPECTED_TOKENS = 512
"""An answer is expected to be this long, or as long as it may be if that is shorter."""
BYTES_PER_TOKEN = 4


class Key(NamedTuple):
    """Compares as requests are served: the smaller one first."""

    priority: int
    due_unix_s: float
    """Infinity without a deadline, so that any deadline goes first within its class."""
    tag_tokens: int
    arrival: int


def key(request: Request, arrival: int, tag_tokens: int = 0) -> Key:
    due = math.inf if request.deadline_unix_s is None else request.deadline_unix_s
    return Key(request.priority, due, tag_tokens, arrival)


def cost_tokens(request: Request) -> int:
    """What a request will probably take, prompt and answers together; at least 1. `settled` corrects it later."""
    prompt_tokens = _text_tokens(request.prompt) if isinstance(request.prompt, str) else len(request.prompt)
    prompt_tokens += sum(_text_tokens(text) for text in request.inputs)
    for message in request.messages:
        content = message.get("content")
        if isinstance(content, str):
            prompt_tokens += _text_tokens(content)
    if request.tools:
        prompt_tokens += len(msgspec.json.encode(request.tools)) // BYTES_PER_TOKEN
    if request.kind == "embed":
        return max(1, prompt_tokens)
    most_tokens = request.sampling.max_tokens
    each_tokens = EXPECTED_TOKENS if most_tokens is None else min(most_tokens, EXPECTED_TOKENS)
    return max(1, prompt_tokens + request.n * each_tokens)


def took_tokens(usage: Usage) -> int:
    """What it did take: the prompt as far as it had to be read, and the answers."""
    return max(1, usage.prompt_tokens - usage.cached_tokens + usage.completion_tokens)


def tag_tokens(virtual_tokens: int, finish_tokens: int) -> int:
    """The start tag of a tenant's next request: after its last one (`finish_tokens`), never before the lane's virtual
    time. The tenant's finish is then this tag plus the request's cost."""
    return max(virtual_tokens, finish_tokens)


def settled(finish_tokens: int, cost_tokens: int, took_tokens: int) -> int:
    """The tenant's finish once a request that was expected to cost `cost_tokens` took `took_tokens`."""
    return max(0, finish_tokens + took_tokens - cost_tokens)


def advanced(virtual_tokens: int, served: Sequence[tuple[int, bool]], next_tag_tokens: int | None) -> int:
    """A lane's virtual time after `served`, (tag, had a deadline) each. Who went first for its deadline moves it no
    further than to the first tag that still waits (`next_tag_tokens`), or newcomers would be put behind everyone."""
    for tag, had_deadline in served:
        if had_deadline and next_tag_tokens is not None:
            tag = min(tag, next_tag_tokens)
        virtual_tokens = max(virtual_tokens, tag)
    return virtual_tokens


def overdue(request: Request, now_unix_s: float) -> bool:
    """Its deadline has passed: it must not be started any more."""
    return request.deadline_unix_s is not None and request.deadline_unix_s <= now_unix_s


def take(answers: Sequence[int], room: int) -> int:
    """How many of the queue's first requests fit into `room` places, each wanting `answers[i]` of them.

    The first is taken even if it is wider than the room, or it would wait for ever; nobody overtakes one
    that doesn't fit, or wide requests would starve.
    """
    if room < 1:
        return 0
    taken = used = 0
    for wanted in answers:
        if taken and used + wanted > room:
            break
        taken += 1
        used += wanted
        if used >= room:
            break
    return taken


def _text_tokens(text: str) -> int:
    """By its bytes, so that scripts with more bytes a letter, and more tokens a letter, count as such."""
    size_bytes = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return -(-size_bytes // BYTES_PER_TOKEN)
