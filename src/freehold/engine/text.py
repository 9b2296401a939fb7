"""From tokens to chunks, for one answer: stop strings held back, log-probabilities beside their text, counts.

The engines with a real model share it: `Draft.extend` is called once a token with the text that became
complete, and gives the chunk to show. Nothing of a stop string is ever shown, nor is a token of it in the
log-probabilities.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from freehold.core import Chunk, Failure, FinishReason, TokenLogprob, Usage
from freehold.engine.given import Given, Place
from freehold.errors import CannotResume


class StopScan:
    """Looks for stop strings in a text that comes in pieces. `found` is the stop string, once there is one."""

    __slots__ = ("_held", "_longest", "_stops", "found")

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""
        self.found: str | None = None

    def feed(self, piece: str) -> str:
        """The text that can be shown now: up to a stop string, or all that can't be the start of one."""
        text = self._held + piece
        at, stop = self._earliest(text)
        if stop is not None:
            self.found, self._held = stop, ""
            return text[:at]
        cut = self._possible_start(text)
        self._held = text[cut:]
        return text[:cut]

    def end(self) -> str:
        """What was held back, when the answer ends otherwise."""
        held, self._held = self._held, ""
        return held

    def _earliest(self, text: str) -> tuple[int, str | None]:
        """Where the first stop string begins; of several that begin there, the longest."""
        hits = [(at, -len(stop), stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        at, _, stop = min(hits, default=(-1, 0, None))
        return at, stop

    def _possible_start(self, text: str) -> int:
        """Where the longest end of `text` begins that a stop string could begin with; its length if none."""
        for at in range(max(0, len(text) - self._longest + 1), len(text)):
            if any(stop.startswith(text[at:]) for stop in self._stops):
                return at
        return len(text)


class Draft:
    """One answer being written. Slotted: one exists for each running stream, and `extend` runs once a token."""

    __slots__ = (
        "_again", "_fed_chars", "_late", "_logprobs", "_min_tokens", "_scan", "_shown_chars",
        "cached_tokens", "choice", "id", "prompt_tokens", "tokens",
    )  # fmt: skip

    def __init__(
        self, id: str, choice: int, prompt_tokens: int, stops: Sequence[str] = (), min_tokens: int = 0
    ) -> None:
        self.id = id
        self.choice = choice
        self.prompt_tokens = prompt_tokens
        self.cached_tokens = 0
        self.tokens = 0
        """Completion tokens so far."""
        self._again = 0
        """How many of them are yet to be made once more."""
        self._late: tuple[str, tuple[TokenLogprob, ...]] | None = None
        self._min_tokens = min_tokens
        self._scan = StopScan(stops) if stops else None
        self._logprobs: deque[tuple[int, TokenLogprob]] = deque()
        self._fed_chars = 0
        self._shown_chars = 0

    def resume(self, given: Given, place: Place, again: int = 0) -> None:
        """Stand where an answer stood when its worker was lost; `again` of its tokens will be made once more. Raises
        `CannotResume` if what was held back then wouldn't be held back now."""
        self.tokens = given.tokens
        self._again = again
        held = place.text[len(given.text) :]
        self._fed_chars = len(held)
        if held and (self._scan is None or self._scan.feed(held) or self._scan.found is not None):
            raise CannotResume("The answer can't be gone on with.", "More of it was made than shown.")

    @property
    def position(self) -> int:
        """The tokens that stand: less than `tokens` while some are made once more."""
        return self.tokens - self._again

    def extend(
        self,
        text: str,
        tokens: int = 1,
        logprobs: Sequence[TokenLogprob] | None = None,
        finish: FinishReason | None = None,
        stop: str | int | None = None,
    ) -> Chunk:
        """The chunk for `tokens` more tokens and the text that became complete with them.

        `finish` and `stop` say that the engine ended the answer with them. The chunk's `finish` may be set
        without it: a stop string was found, and the engine should be told to end.
        """
        if self._again or self._late:
            tokens, text, logprobs = self._made_again(tokens, text, logprobs)
            if not tokens and finish is None:
                return Chunk(self.id, self.choice, self.tokens, 0, "")
        offset = self.tokens
        self.tokens = offset + tokens
        scan = self._scan
        if scan is None:
            shown, ready = text, tuple(logprobs) if logprobs is not None else None
        else:
            shown = scan.feed(text) if self.position >= self._min_tokens else text
            if scan.found is not None:
                finish, stop = "stop", scan.found
            elif finish is not None:
                shown += scan.end()
            ready = self._release(text, shown, logprobs) if logprobs is not None else None
        usage = self.usage() if finish is not None else None
        return Chunk(self.id, self.choice, offset, tokens, shown, ready or None, finish, usage, None, stop)

    def end(self, finish: FinishReason, failure: Failure | None = None) -> Chunk:
        """The last chunk of an answer that ends without another token: aborted or failed."""
        held = (self._scan.end() if self._scan else "") + (self._late[0] if self._late else "")
        left = (*(entry for _, entry in self._logprobs), *(self._late[1] if self._late else ())) or None
        return Chunk(self.id, self.choice, self.tokens, 0, held, left, finish, self.usage(), failure)

    def usage(self) -> Usage:
        return Usage(prompt_tokens=self.prompt_tokens, cached_tokens=self.cached_tokens, completion_tokens=self.tokens)

    def _made_again(
        self, tokens: int, text: str, logprobs: Sequence[TokenLogprob] | None
    ) -> tuple[int, str, Sequence[TokenLogprob] | None]:
        """Tokens that were counted before count no more; what they bring is told with the next one that counts."""
        repeated = min(self._again, tokens)
        self._again -= repeated
        tokens -= repeated
        late_text, late_logprobs = self._late or ("", ())
        text = late_text + text
        if logprobs is not None:
            logprobs = (*late_logprobs, *logprobs)
        self._late = None if tokens else (text, tuple(logprobs or ()))
        return tokens, text, logprobs

    def _release(self, text: str, shown: str, logprobs: Sequence[TokenLogprob]) -> tuple[TokenLogprob, ...]:
        """The log-probabilities of tokens whose text is shown by now; the others wait with their text."""
        self._fed_chars += len(text)
        self._shown_chars += len(shown)
        self._logprobs.extend((self._fed_chars, entry) for entry in logprobs)
        ready = []
        while self._logprobs and self._logprobs[0][0] <= self._shown_chars:
            ready.append(self._logprobs.popleft()[1])
        return tuple(ready)
