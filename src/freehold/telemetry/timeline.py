"""The slot maker: what ends, and what workers' steps cost, goes into the open slot of ten seconds, which then closes.

Slots begin at multiples of ten seconds of the wall clock, and their length is measured on the monotonic one: a clock
that is set makes one slot shorter or longer than ten seconds, and never one that doesn't end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import msgspec

from freehold.clock import Clock, SystemClock
from freehold.pipe import StepSums
from freehold.sketch import of
from freehold.telemetry.row import Row
from freehold.telemetry.slot import SLOT_S, Slot
from freehold.telemetry.sums import Sums
from freehold.telemetry.tokens import Lengthening
from freehold.telemetry.windows import Whole


class Live:
    """One variant now. `gaps_s` is the one thing that is added to once a token."""

    __slots__ = ("busy_s", "gap_limit_s", "gaps_s", "lengthening", "sums")

    def __init__(self, gap_limit_ms: float) -> None:
        self.gap_limit_s = gap_limit_ms / 1000.0
        """Of the objective on gaps between tokens; infinite without one."""
        self.gaps_s: list[float] = []
        """Between two pieces of text of one answer; not yet in the sums."""
        self.lengthening = Lengthening()
        self.busy_s: defaultdict[str, float] = defaultdict(float)
        """Time in steps by worker, in the open slot."""
        self.sums = Sums()
        """Of the open slot."""

    def gather(self) -> None:
        """Take up what was noted token by token: once a second or so, and before anybody looks."""
        if self.gaps_s:
            self.sums.sketch("itl").add_all([1000.0 * gap_s for gap_s in self.gaps_s])
            self.gaps_s.clear()

    def close(self) -> Sums:
        """What was added up since the last time."""
        self.gather()
        closed = self.sums
        closed.longer_answers, closed.rambling = self.lengthening.longer, self.lengthening.rambling
        closed.busy_s = max(self.busy_s.values(), default=0.0)
        self.sums = Sums()
        self.busy_s = defaultdict(float)
        return closed


class Timeline:
    """Told of every row and of workers' steps. `due` says when the open slot is to be closed."""

    def __init__(self, clock: Clock | None = None, *, gap_limit_ms: float = float("inf")) -> None:
        self._clock: Clock = clock or SystemClock()
        self._gap_limit_ms = gap_limit_ms
        self._live: dict[str, Live] = {}
        self.ever: dict[str, Sums] = {}
        """By variant, of all slots that were closed: what counters and histograms are made of."""
        self.bandwidth_bytes_per_s: float | None = None
        """Of this machine, as it was measured."""
        self._last_begin_unix_s: float | None = None
        self._begin()

    def live(self, variant: str) -> Live:
        found = self._live.get(variant)
        if found is None:
            found = self._live[variant] = Live(self._gap_limit_ms)
            self.ever[variant] = Sums()
        return found

    def count(self, row: Row) -> None:
        self.live(row.variant or row.model).sums.count(row)

    def stepped(self, variant: str, worker: str, told: StepSums) -> None:
        """A worker tells what its steps were since the last time."""
        live = self.live(variant)
        sums, step_s = live.sums, told.step_ms.total / 1000.0
        sums.steps += told.steps
        sums.step_tokens += told.tokens
        sums.step_running += told.running
        sums.step_s += step_s
        sums.lone_tokens += told.lone_tokens
        sums.lone_s += told.lone_s
        if told.bytes_read is not None:
            sums.bytes_read = (sums.bytes_read or 0.0) + told.bytes_read
        sums.sketch("step").merge(of(told.step_ms))
        live.busy_s[worker] += step_s

    def gather(self) -> None:
        """See `Live.gather`."""
        for live in self._live.values():
            live.gather()

    # ---- the open slot ---------------------------------------------------------------------------

    @property
    def due_in_s(self) -> float:
        """Until the open slot is to be closed; not over 0 once it is."""
        return self._ends_s - self._clock.monotonic_s()

    @property
    def begin_s(self) -> float:
        """When the open slot began, on the monotonic clock."""
        return self._began_s

    def open(self) -> Whole:
        """The slot so far."""
        whole = Whole()
        whole.seconds = self._clock.monotonic_s() - self._began_s
        self.gather()
        for variant, live in self._live.items():
            if not live.sums.empty:
                sums = whole.part(variant)
                sums.merge(live.sums)
                sums.busy_s = max(live.busy_s.values(), default=0.0)
                sums.longer_answers, sums.rambling = live.lengthening.longer, live.lengthening.rambling
        return whole

    def close(self, stand: Slot, batch_limits: Mapping[str, int]) -> Slot:
        """The slot that ends now, with how things stand in it; the next one begins. Variants of which nothing was
        heard are in it only while a worker serves them (`batch_limits`)."""
        seconds = self._clock.monotonic_s() - self._began_s
        begin_unix_s, parts, busy_s = self._begin_unix_s, {}, 0.0
        for variant in batch_limits:
            self.live(variant)
        for variant, live in self._live.items():
            sums = live.close()
            sums.batch_limit = batch_limits.get(variant, 0)
            self.ever[variant].merge(sums)
            busy_s = max(busy_s, sums.busy_s)
            if not sums.empty or sums.batch_limit:
                parts[variant] = sums.part()
        read = [part.bytes_read for part in parts.values() if part.steps]
        known = [each for each in read if each is not None]
        mbu = None
        if known and len(known) == len(read) and busy_s and self.bandwidth_bytes_per_s:
            mbu = sum(known) / busy_s / self.bandwidth_bytes_per_s
        last = self._last_begin_unix_s
        gaps = 0 if last is None else max(0, round((begin_unix_s - last) / SLOT_S) - 1)
        self._last_begin_unix_s = begin_unix_s
        self._begin()
        return msgspec.structs.replace(
            stand, begin_unix_s=begin_unix_s, seconds=seconds, parts=parts, mbu=mbu, gaps=gaps
        )

    def after(self, begin_unix_s: float) -> None:
        """The last slot that was written began then, before this process did."""
        self._last_begin_unix_s = begin_unix_s

    def _begin(self) -> None:
        unix_s = self._clock.unix_s()
        self._begin_unix_s = unix_s - unix_s % SLOT_S
        self._began_s = self._clock.monotonic_s()
        self._ends_s = self._began_s + SLOT_S - unix_s % SLOT_S
