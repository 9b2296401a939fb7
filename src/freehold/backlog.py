"""What waits, in the order in which it will be served, and what was promised to those who were told to come back.

A refused request that comes back when it was told to must find its place, or `Retry-After` is a guess. So a promise
stands in the line like a request that waits: newcomers are let in only as far as it still holds. How many come back is
learnt, and promises count by that share, so that places kept for nobody are few. No clock, no I/O: time is given.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, insort
from collections import deque
from itertools import accumulate, islice

import msgspec

from freehold.admission import PLANNED, Ask, Line, Pace, allowance_s, drain_s, work_tokens

PROMISES = 4096
"""Most at a time; who is refused beyond them is told a time that nothing is kept for."""
GRACE_S = 1.5
"""How long after its time a promise is kept: clients that know only whole seconds come up to one late."""
EARLY_S = 0.1
SOON_S = 1.0
"""Promises of the next second count towards the limit of requests."""
LEARN = 0.1
SHOWS_LEAST = 0.2
"""Where fewer come back, no newcomer is turned away for their sake."""

_Key = tuple[int, float, int]
"""priority, due, arrival: as `order.py` has it, and a store."""


class Entry(msgspec.Struct):
    """One waiting request, or a promise."""

    key: _Key
    work: float
    answers: int
    tokens: float
    answer_tokens: float
    """Of all its answers together."""
    bytes: int
    start_by_s: float
    """To be in time it must start before. Infinite without a deadline."""


class Backlog:
    """The waiting, the running and the promised of one model.

    The line is kept as columns in the order of its keys, since every decision is a sum over parts of them.
    """

    def __init__(self) -> None:
        self.tokens = 0.0
        self.bytes = 0
        self.shows = 1.0
        """Share of the promised that come."""
        self.running: dict[str, Entry] = {}
        self.waiting: dict[str, Entry] = {}
        self._promised: dict[_Key, tuple[Entry, bytes]] = {}
        self._by_digest: dict[bytes, deque[tuple[float, _Key]]] = {}
        self._ends: list[tuple[float, _Key, bytes]] = []
        self._comes: list[float] = []
        self._keys: list[_Key] = []
        self._work: list[float] = []
        self._kept: list[float] = []
        self._answers: list[int] = []
        self._start_by_s: list[float] = []
        self._arrivals = 0

    # ---- requests --------------------------------------------------------------------------------

    def add(self, id: str, ask: Ask, pace: Pace, now_s: float) -> None:
        """A request was accepted and waits."""
        start_by_s = now_s + allowance_s(ask, pace) if ask.due_in_s < math.inf else math.inf
        self._enter(id, self._entry(ask, pace, now_s, start_by_s))

    def begin(self, id: str) -> None:
        """A worker has begun it."""
        if id in self.waiting:
            self.running[id] = self._leave(id)

    def requeue(self, id: str) -> None:
        """Its worker is gone: it waits again."""
        if id in self.running:
            self._enter(id, self.running.pop(id))

    def end(self, id: str) -> None:
        """It has ended, or left."""
        if self.running.pop(id, None) is None and id in self.waiting:
            self._leave(id)

    def start_s(self, id: str, pace: Pace, running_work: float) -> float:
        """In how many seconds a waiting request starts, at the latest."""
        place = bisect_left(self._keys, self.waiting[id].key)
        return drain_s(running_work + sum(self._work[:place]), pace)

    # ---- promises --------------------------------------------------------------------------------

    def promise(self, digest: bytes, ask: Ask, pace: Pace, now_s: float, after_s: float) -> bool:
        """Keep a place for the request that comes again after `after_s`. False: too many are promised already."""
        if len(self._promised) >= PROMISES:
            return False
        comes_s = now_s + after_s
        start_by_s = comes_s + PLANNED * allowance_s(ask, pace) if ask.due_in_s < math.inf else math.inf
        entry = self._entry(ask, pace, comes_s, start_by_s)
        self._promised[entry.key] = entry, digest
        self._by_digest.setdefault(digest, deque()).append((comes_s, entry.key))
        heapq.heappush(self._ends, (comes_s + GRACE_S, entry.key, digest))
        insort(self._comes, comes_s)
        self._insert(entry, 0.0, entry.work)
        return True

    def redeem(self, digest: bytes, now_s: float) -> bool:
        """Whether this request comes for what it was promised; its promise is then used up."""
        self._forget_late(now_s)
        mine = self._by_digest.get(digest)
        if not mine or mine[0][0] > now_s + EARLY_S:
            return False
        self._drop(mine[0][1], digest)
        self.shows += LEARN * (1.0 - self.shows)
        return True

    @property
    def promises(self) -> int:
        return len(self._promised)

    def _forget_late(self, now_s: float) -> None:
        while self._ends and self._ends[0][0] <= now_s:
            _, key, digest = heapq.heappop(self._ends)
            if key in self._promised:
                self._drop(key, digest)
                self.shows -= LEARN * self.shows

    def _drop(self, key: _Key, digest: bytes) -> None:
        del self._promised[key]
        mine = self._by_digest[digest]
        comes_s = next(comes_s for comes_s, each in mine if each == key)
        mine.remove((comes_s, key))
        if not mine:
            del self._by_digest[digest]
        del self._comes[bisect_left(self._comes, comes_s)]
        self._delete(key)

    # ---- the line --------------------------------------------------------------------------------

    def line(self, ask: Ask, pace: Pace, now_s: float, running_work: float, *, promised: bool = False) -> Line:
        """The queue as a newcomer finds it. One that was promised a place stands before all other promises."""
        self._forget_late(now_s)
        place = bisect_left(self._keys, (ask.priority, now_s + ask.due_in_s, self._arrivals))
        ahead_work = sum(self._work[:place]) + (0.0 if promised else self.shows * sum(self._kept[:place]))
        dated = bisect_left(self._keys, (ask.priority, math.inf, -1))
        soon = 0 if promised else bisect_left(self._comes, now_s + SOON_S)
        running = sum(entry.answers for entry in self.running.values())
        slack_s = math.inf
        if place < dated and running + sum(self._answers) + soon + ask.answers > pace.places * pace.workers:
            slack_s = self._slack_s(place, dated, pace, now_s, running_work, promised=promised)
        return Line(
            requests=len(self.waiting) + self.shows * soon,
            promised=self.shows * (self.promises - soon),
            next_slot_s=self._next_slot_s(ask, pace, now_s),
            tokens=self.tokens,
            bytes=self.bytes,
            running=running,
            answers=sum(self._answers),
            running_work=running_work,
            ahead=sum(self._answers[:place]),
            ahead_work=ahead_work,
            class_work=sum(self._work[:dated]) + self.shows * sum(self._kept[:dated]),
            slack_s=slack_s,
        )

    def _next_slot_s(self, ask: Ask, pace: Pace, now_s: float) -> float:
        """After the last promise, as far as it is probable that somebody comes for it."""
        if not self._comes:
            return 0.0
        return max(0.0, self._comes[-1] - now_s) + self.shows * drain_s(work_tokens(ask, pace), pace)

    def _slack_s(
        self, place: int, dated: int, pace: Pace, now_s: float, running_work: float, *, promised: bool
    ) -> float:
        """How much later than forecast those from `place` on can start, the one that can least. Only of the newcomer's
        own class: a more urgent class goes first, whatever it costs the others."""
        shows = 0.0 if promised else self.shows
        works = (work + shows * kept for work, kept in zip(self._work[:dated], self._kept[:dated], strict=True))
        each_s = drain_s(1.0, pace)
        slack_s = math.inf
        columns = zip(accumulate(works, initial=running_work), self._start_by_s[:dated], self._work, strict=False)
        for before, start_by_s, real in islice(columns, place, None):
            if real or shows > SHOWS_LEAST:
                slack_s = min(slack_s, start_by_s - now_s - before * each_s)
        return slack_s

    def _entry(self, ask: Ask, pace: Pace, from_s: float, start_by_s: float) -> Entry:
        self._arrivals += 1
        tokens = ask.prompt_tokens + ask.answers * ask.answer_tokens
        key = (ask.priority, from_s + ask.due_in_s, self._arrivals)
        work, answer_tokens = work_tokens(ask, pace), ask.answers * ask.answer_tokens
        return Entry(key, work, ask.answers, tokens, answer_tokens, ask.bytes, start_by_s)

    def _enter(self, id: str, entry: Entry) -> None:
        self.waiting[id] = entry
        self.tokens += entry.tokens
        self.bytes += entry.bytes
        self._insert(entry, entry.work, 0.0)

    def _leave(self, id: str) -> Entry:
        entry = self.waiting.pop(id)
        self.tokens = self.tokens - entry.tokens if self.waiting else 0.0
        self.bytes -= entry.bytes
        self._delete(entry.key)
        return entry

    def _insert(self, entry: Entry, work: float, kept: float) -> None:
        place = bisect_left(self._keys, entry.key)
        self._keys.insert(place, entry.key)
        self._work.insert(place, work)
        self._kept.insert(place, kept)
        self._answers.insert(place, entry.answers if work else 0)
        self._start_by_s.insert(place, entry.start_by_s)

    def _delete(self, key: _Key) -> None:
        place = bisect_left(self._keys, key)
        for column in (self._keys, self._work, self._kept, self._answers, self._start_by_s):
            del column[place]
