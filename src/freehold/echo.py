"""An answer that is told again: what was shown must come again as it was, and is shown only once.

A worker uses it where no engine could go on and the answer is made anew, a gateway where another attempt begins
before the place that its readers have reached.
"""

from __future__ import annotations

from collections.abc import Sequence

from freehold.core import Chunk, TokenLogprob, Usage
from freehold.errors import ResumeFailed


class Echo:
    """Of one choice. Everything that the engine makes goes through `hear`."""

    __slots__ = ("_due", "_late_logprobs", "_late_text", "_made", "_skip_logprobs", "_told")

    def __init__(self, shown: Sequence[Chunk]) -> None:
        """`shown` are the chunks that come again, in order; after them the answer goes on."""
        self._due = "".join(chunk.text for chunk in shown)
        self._made = shown[0].offset if shown else 0
        self._told = shown[-1].offset + shown[-1].tokens if shown else 0
        self._skip_logprobs = sum(len(chunk.logprobs or ()) for chunk in shown)
        self._late_text = ""
        self._late_logprobs: tuple[TokenLogprob, ...] = ()

    @property
    def over(self) -> bool:
        """All that was shown has come again, and nothing waits."""
        return not self._due and not self._late_text and not self._late_logprobs and self._made >= self._told

    def hear(self, chunk: Chunk) -> Chunk | None:
        """What is new of `chunk`, as it follows what was shown. Raises `ResumeFailed` where it differs."""
        self._made += chunk.tokens
        text = self._late_text + self._beyond(chunk.text)
        if chunk.finish is not None and chunk.failure is None and chunk.finish != "cancelled" and self._due:
            raise _differs()
        entries = chunk.logprobs or ()
        skipped = min(self._skip_logprobs, len(entries))
        self._skip_logprobs -= skipped
        logprobs = (*self._late_logprobs, *entries[skipped:])
        tokens = max(0, self._made - self._told)
        if not tokens and chunk.finish is None:
            self._late_text, self._late_logprobs = text, logprobs
            return None
        self._late_text, self._late_logprobs = "", ()
        chunk.offset, chunk.tokens, chunk.text = self._told, tokens, text
        chunk.logprobs = logprobs or None
        chunk.ids = chunk.ids[-tokens:] if tokens else ()
        self._told += tokens
        if chunk.usage is not None:
            usage = chunk.usage
            chunk.usage = Usage(
                prompt_tokens=usage.prompt_tokens, cached_tokens=usage.cached_tokens, completion_tokens=self._told
            )
        return chunk

    def _beyond(self, text: str) -> str:
        """`text` without what was shown before."""
        due = self._due
        if not due:
            return text
        if due.startswith(text):
            self._due = due[len(text) :]
            return ""
        if not text.startswith(due):
            raise _differs()
        self._due = ""
        return text[len(due) :]


def _differs() -> ResumeFailed:
    return ResumeFailed(
        "The interrupted answer can't be continued.",
        "Its worker was lost, and made again it reads differently from what was sent.",
        "Send the request again.",
    )
