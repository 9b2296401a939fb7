"""What a worker's loop says to its supervisor's watch: before a step, how long it may take; between steps, a beat.

It knows which prompts are still unread, and learns the price of steps as they pass. An engine that hides its steps
always returns at once: there the time since it last showed something counts instead.
"""

from __future__ import annotations

from freehold.clock import Clock
from freehold.core import Chunk, ModelCard, Request
from freehold.engine.base import Engine, Step
from freehold.profile import StepLaw
from freehold.worker.bound import FLOOR_MS, StepBound, prompt_tokens_at_most
from freehold.worker.pulse import Pulse
from freehold.worker.steplog import StepLog

BETWEEN_MS = 7_000.0
"""Claims, ends and frames: one call of the ledger may keep a worker waiting for five seconds."""
LEAVING_MS = 30_000.0
"""Last frames, and giving back what a model took."""
FULL_CACHE = 0.9
"""From here on an engine may put an answer back and read all of it again."""


class Heart:
    """Beats once it has a pulse and a card; without a supervisor it only counts."""

    def __init__(self, clock: Clock, pulse: Pulse | None) -> None:
        self._clock = clock
        self._pulse = pulse
        self._bound: StepBound | None = None
        self._card: ModelCard | None = None
        self._waits_by_itself = False
        self._hidden = False
        self._unread: dict[str, int] = {}
        self._moved_s = 0.0
        self._begun_s = 0.0
        self.due_s = 0.0
        """By when it will have moved again (monotonic)."""
        self.limit_ms: float | None = None
        """What the present step may take."""

    def begin(self, card: ModelCard, law: StepLaw | None) -> None:
        """The model is loaded: from now on it beats. A remote ends what takes too long by its own time limits."""
        self._card, self._bound = card, StepBound(card, law)
        self._waits_by_itself = card.engine == "remote"
        self._moved_s = self._clock.monotonic_s()
        self.between()

    def took(self, request: Request, again_tokens: int = 0) -> None:
        """A request was claimed: its prompt, and what of its answer was given already, is to be read."""
        if self._card is not None:
            self._unread[request.id] = prompt_tokens_at_most(request, self._card) + again_tokens

    def before_step(self, running: int, kv_usage: float | None) -> None:
        if self._bound is None or self._card is None:
            return
        now_s = self._clock.monotonic_s()
        again = self._card.context_tokens if kv_usage is not None and kv_usage >= FULL_CACHE else 0
        self.limit_ms = self._bound.most_ms(sum(self._unread.values()) + again, running)
        self._begun_s = now_s
        if self._waits_by_itself:
            self._beat(FLOOR_MS)
        elif self._hidden:
            self._beat(self.limit_ms - (now_s - self._moved_s) * 1000.0)
        else:
            self._beat(self.limit_ms)

    def step(self, engine: Engine, steplog: StepLog) -> list[Chunk]:
        """One step of `engine`, with its time in the log; what it gave."""
        start_s = self._clock.monotonic_s()
        step = engine.step()
        self.after_step(step)
        if step.chunks or step.running:
            steplog.add(step, start_s, self._clock.monotonic_s())
        return step.chunks

    def after_step(self, step: Step) -> None:
        """`step` is over. It moved if it read, or showed something."""
        now_s = self._clock.monotonic_s()
        self._hidden = step.prefill_tokens is None
        if step.chunks or not self._hidden:
            if self._bound is not None and step.running:
                since_s = self._moved_s if self._hidden else self._begun_s
                read = sum(self._unread.values()) if step.prefill_tokens is None else step.prefill_tokens
                self._bound.learn((now_s - since_s) * 1000.0, read)
            self._moved_s = now_s
        for chunk in step.chunks:
            self._unread.pop(chunk.id, None)
        self.between()

    def read(self, id: str) -> None:
        """Nothing of that request is left to read."""
        self._unread.pop(id, None)

    def between(self) -> None:
        """Not in a step: claiming, telling, recording."""
        self._beat(BETWEEN_MS)

    def leaving(self) -> None:
        """The loop is over."""
        self._beat(LEAVING_MS)

    def rest(self, steplog: StepLog) -> None:
        """Nothing to do: it looks up again within a second."""
        steplog.pause()
        self._moved_s = self._clock.monotonic_s()
        self._unread.clear()
        self.limit_ms = FLOOR_MS
        self._beat(FLOOR_MS)

    def _beat(self, within_ms: float) -> None:
        if self._bound is None:
            return
        within_s = max(0.0, within_ms) / 1000.0
        self.due_s = self._clock.monotonic_s() + within_s
        if self._pulse is not None:
            self._pulse.beat(within_s)
