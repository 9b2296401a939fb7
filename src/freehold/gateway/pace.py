"""How fast the workers are, learnt from the frames they send: seconds of a step, alone and in a full batch.

A worker's profile, where it has one, is the first word; every quarter of a second of work says it better. What counts
is tokens over time, so that engines which hide their steps are measured alike.
"""

from __future__ import annotations

from collections.abc import Sequence

from freehold.admission import Pace
from freehold.core import ModelCard

WINDOW_S = 0.25
PAUSE_S = 5.0
"""A longer silence is a stuck worker or a lost pipe, and says nothing about steps."""
LEARN = 0.2
FULL_SHARE = 0.75
LONE_SHARE = 0.25
NET_SHARE = 0.2
"""Reading prompts takes at most all but this share of a window, however long a profile says it takes."""


class WorkerPace:
    """One worker's. Told when answers begin and end on it, and of each frame."""

    def __init__(self, card: ModelCard) -> None:
        self.places = card.max_batch
        self.running = 0
        self.stretch = 1.0
        told = card.pace
        self.step_s = told.step_ms / 1000 if told else 0.0
        self.lone_step_s = told.lone_step_ms / 1000 if told else 0.0
        self.prefill_s = told.prefill_ms_per_token / 1000 if told else 0.0
        self._prefill_is_known = told is not None
        self._measured: set[str] = set()
        self._last_s: float | None = None
        self._clear()

    def _clear(self) -> None:
        self._seconds = self._running_s = self._tokens = self._prompt_tokens = 0.0
        self._queue_held = True

    def begun(self, answers: int, prompt_tokens: float, first_s: float) -> None:
        """Answers have begun; their first token came `first_s` after the claim."""
        self.running += answers
        self._prompt_tokens += prompt_tokens
        if not self._prefill_is_known and prompt_tokens >= 1:
            each_s = max(0.0, first_s - self.step_s) / prompt_tokens
            self.prefill_s = each_s if not self.prefill_s else self.prefill_s + LEARN * (each_s - self.prefill_s)

    def ended(self, answers: int) -> None:
        self.running = max(0, self.running - answers)
        if not self.running:
            self._last_s = None
            self._clear()

    def stepped(self, tokens: int, now_s: float, *, queue_waits: bool) -> None:
        """A frame came with so many tokens. `queue_waits`: there was more to do than places."""
        last_s, self._last_s = self._last_s, now_s
        if last_s is None or now_s - last_s > PAUSE_S or not self.running:
            self._clear()
            return
        self._seconds += now_s - last_s
        self._running_s += self.running * (now_s - last_s)
        self._tokens += tokens
        self._queue_held = self._queue_held and queue_waits
        if self._seconds >= WINDOW_S and self._tokens:
            self._learn()
            self._clear()

    def _learn(self) -> None:
        share = self._running_s / self._seconds / self.places
        net_s = max(NET_SHARE * self._seconds, self._seconds - self._prompt_tokens * self.prefill_s)
        full = self._queue_held and share >= FULL_SHARE  # places between two answers are part of what a full batch is
        running = float(self.places) if full else self._running_s / self._seconds
        step_s = running * net_s / self._tokens
        if share >= FULL_SHARE or (share > LONE_SHARE and "full" not in self._measured):
            self.step_s = self._mixed("full" if share >= FULL_SHARE else "part", self.step_s, step_s)
            self.stretch += LEARN * (self._seconds / net_s - self.stretch)
        elif share <= LONE_SHARE:
            self.lone_step_s = self._mixed("lone", self.lone_step_s, step_s)
            self.step_s = max(self.step_s, self.lone_step_s)

    def _mixed(self, name: str, known_s: float, seen_s: float) -> float:
        """The first measurement replaces what was only told."""
        if name not in self._measured:
            self._measured.add(name)
            return max(known_s, seen_s) if name == "part" else seen_s
        return known_s + LEARN * (seen_s - known_s)


def together(crew: Sequence[WorkerPace]) -> Pace:
    """The pace of all live workers of one model. Those of which nothing is known don't slow the forecast."""
    known = [each for each in crew if each.step_s] or list(crew)
    if not known:
        return Pace()
    count = len(known)
    return Pace(
        step_s=sum(each.step_s for each in known) / count,
        lone_step_s=sum(min(each.lone_step_s, each.step_s) for each in known) / count,
        prefill_s=sum(each.prefill_s for each in known) / count,
        stretch=sum(each.stretch for each in known) / count,
        places=max(1, round(sum(each.places for each in crew) / len(crew))),
        workers=len(crew),
    )
