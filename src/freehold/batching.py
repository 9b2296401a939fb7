"""How a continuous batch is put together, as pure decisions on plain numbers.

Running answers get one token a step; what is left of the step's token budget reads waiting prompts, oldest first and
in pieces. An answer is let in when there is a place, and room for its prompt in the KV cache; when the cache is full
the youngest gives its room up and will read everything again, as vLLM does. The `sim` engine decides so a step at a
time and the planner (`sizing/simulate.py`) many steps at once; a test holds the two to the same figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def can_enter(kv_tokens: int, prompt_tokens: int, writers: int, kv_limit_tokens: int) -> bool:
    """A prompt of `prompt_tokens` fits beside the `kv_tokens` held, and the writers' next tokens too."""
    return kv_tokens + prompt_tokens + writers <= kv_limit_tokens


def must_leave(kv_tokens: int, writers: int, kv_limit_tokens: int) -> bool:
    """The next token of every writer would not fit: the youngest answer gives its room up."""
    return kv_tokens + writers > kv_limit_tokens


def steps_before_full(kv_tokens: int, writers: int, kv_limit_tokens: int) -> int:
    """How many steps `writers` answers can write before `must_leave`."""
    return (kv_limit_tokens - kv_tokens) // writers


def shares(budget_tokens: int, unread: Iterable[int]) -> Iterator[int]:
    """How much of each prompt, oldest first, one step reads within `budget_tokens`."""
    left = max(0, budget_tokens)
    for tokens in unread:
        taken = min(left, tokens)
        left -= taken
        yield taken
