"""Plays a trace through n replicas in virtual time: the server's order and batching, on the profile's step law.

Replicas pull from one queue, as Freehold's workers do: whoever comes first to the end of a step and has a place claims
what is next. Between two events (an arrival that can be claimed, an answer's end, a full KV cache, a deadline) a batch
doesn't change, so the steps between them are not played but summed: with a step law that is linear in the context,
k steps take `k a + b k (k - 1) / 2` milliseconds. So a request costs a few microseconds however long its answer is.
A simulation proposes; only a measurement certifies.
"""

from __future__ import annotations

import heapq

import numpy as np

from freehold import batching
from freehold.profile import step_ms
from freehold.sizing.replica import Replica, steps_within
from freehold.sizing.work import CUT, DONE, EXPIRED, REFUSED, WAITING, Admit, Fleet, Played, Work


def play(work: Work, fleet: Fleet, admit: Admit | None = None) -> Played:
    """Every request of `work` through `fleet`, from the first arrival to the last answer."""
    return _Run(work, fleet, admit).play()


class _Run:
    """One play. The numbers of requests index every column."""

    def __init__(self, work: Work, fleet: Fleet, admit: Admit | None) -> None:
        profile = fleet.profile
        self.arrivals: list[float] = work.arrival_s.tolist()
        self.prompts: list[int] = np.maximum(1, work.prompt_tokens).tolist()
        self.outputs: list[int] = np.maximum(1, work.output_tokens).tolist()
        self.due: list[float] | None = None if work.due_s is None else work.due_s.tolist()
        self.ranks: list[float] | None = None if work.rank is None else work.rank.tolist()
        self.admit = admit
        self.law = profile.step
        self.slowness = fleet.slowness
        self.gap_ms = fleet.gap_ms
        self.overhead_s = fleet.overhead_ms / 1000.0
        self.budget = profile.max_batched_tokens
        self.kv_limit = max(profile.kv_cache_tokens, profile.context_tokens)
        places = fleet.max_batch or profile.sweet_batch
        self.replicas = [Replica(places) for _ in range(fleet.replicas)]
        self.idle = list(range(fleet.replicas))[::-1]
        self.calendar: list[tuple[float, int, int]] = []
        """(time, replica, version) of the ends of stretches."""
        self.waiting: list[tuple[float, int]] = []
        """(rank, request): a heap."""
        count = len(self.arrivals)
        self.claimed = np.full(count, np.nan)
        self.first = np.full(count, np.nan)
        self.end = np.full(count, np.nan)
        self.outcome = np.zeros(count, np.int8)
        self.written: dict[int, int] = {}
        """Tokens of those that were put back and have not joined again."""
        self.running = 0
        self.put_back = 0

    def play(self) -> Played:
        arrivals, calendar = self.arrivals, self.calendar
        number, count = 0, len(arrivals)
        while number < count or calendar:
            if number < count and (not calendar or arrivals[number] <= calendar[0][0]):
                now_s = arrivals[number]
                while number < count and arrivals[number] == now_s:
                    self._arrive(number, now_s)
                    number += 1
                self._call(now_s)
                continue
            now_s, which, version = heapq.heappop(calendar)
            replica = self.replicas[which]
            if version == replica.version:
                self._boundary(which, replica, now_s)
        return Played(
            claimed_s=self.claimed,
            first_s=self.first + self.overhead_s,
            end_s=self.end + self.overhead_s,
            outcome=self.outcome,
            busy_s=np.array([replica.busy_s for replica in self.replicas]),
            steps=sum(replica.steps for replica in self.replicas),
            put_back=self.put_back,
        )

    # ---- arrivals ---------------------------------------------------------------------------------

    def _arrive(self, number: int, now_s: float) -> None:
        if self.admit is not None and not self.admit(number, now_s, len(self.waiting), self.running):
            self.outcome[number] = REFUSED
            self.end[number] = now_s
            return
        heapq.heappush(self.waiting, (self.ranks[number] if self.ranks else 0.0, number))

    def _call(self, now_s: float) -> None:
        """Somebody waits: idle replicas begin at once, of the others the first that come to the end of a step."""
        while self.waiting and self.idle:
            which = self.idle.pop()
            self._boundary(which, self.replicas[which], now_s)
        places = 0
        for at_s, which, steps in self._next_ends(now_s) if self.waiting else ():
            replica = self.replicas[which]
            if steps < replica.stretch:
                replica.stretch = steps
                self._put(which, replica, at_s)
            places += replica.places - replica.running
            if places >= len(self.waiting):
                return

    def _next_ends(self, now_s: float) -> list[tuple[float, int, int]]:
        """(when, replica, steps of its stretch until then) of those that have a place: soonest first."""
        found = []
        for which, replica in enumerate(self.replicas):
            if replica.running < replica.places:
                steps = replica.stretch
                if steps > 1:
                    within = steps_within((now_s - replica.begun_s) * 1000.0, replica.a_ms, replica.b_ms)
                    steps = min(steps, within)
                found.append((replica.begun_s + replica.lasts_s(steps), which, steps))
        return [min(found)] if found and len(self.waiting) == 1 else sorted(found)

    # ---- the end of a step ------------------------------------------------------------------------

    def _boundary(self, which: int, replica: Replica, now_s: float) -> None:
        if replica.stretch:
            self._finish_stretch(replica, now_s)
        self._claim(replica, now_s)
        self._enter(replica)
        if replica.reading or replica.ends:
            self._begin_stretch(which, replica, now_s)
        else:
            replica.version += 1
            self.idle.append(which)

    def _finish_stretch(self, replica: Replica, now_s: float) -> None:
        replica.busy_s += now_s - replica.begun_s
        replica.steps += replica.stretch
        replica.kv += replica.stretch * len(replica.ends)
        replica.stretch = 0
        while replica.reading and not replica.unread[replica.reading[0]]:
            number = replica.reading.popleft()
            del replica.unread[number]
            self._join(replica, number, now_s)
        while replica.ends and replica.ends[0][0] <= replica.steps:
            number = heapq.heappop(replica.ends)[1]
            del replica.joined[number]
            replica.kv -= self.prompts[number] + self.outputs[number]
            self._end(replica, number, now_s, DONE)
        while replica.dues and replica.dues[0][0] <= now_s:
            self._cut(replica, heapq.heappop(replica.dues)[1], now_s)

    def _join(self, replica: Replica, number: int, now_s: float) -> None:
        """Its prompt is read, and the same step wrote its next token."""
        written = self.written.pop(number, 0) + 1
        if written == 1:
            self.first[number] = now_s
        replica.kv += 1
        replica.joined[number] = replica.steps
        heapq.heappush(replica.ends, (replica.steps + self.outputs[number] - written, number))

    def _cut(self, replica: Replica, number: int, now_s: float) -> None:
        """Its deadline has passed while it ran: it gives everything back."""
        if self.outcome[number] != WAITING:
            return
        if number in replica.joined:
            place = next(i for i, (_, writer) in enumerate(replica.ends) if writer == number)
            replica.kv -= self.prompts[number] + self._written(replica, replica.ends.pop(place))
            heapq.heapify(replica.ends)
            del replica.joined[number]
        elif number in replica.unread:
            replica.reading.remove(number)
            del replica.unread[number]
            replica.kv -= self.prompts[number] + self.written.pop(number, 0)
        else:
            replica.held.remove(number)
        self._end(replica, number, now_s, CUT)

    def _end(self, replica: Replica, number: int, now_s: float, outcome: int) -> None:
        self.end[number] = now_s
        self.outcome[number] = outcome
        replica.running -= 1
        self.running -= 1

    def _written(self, replica: Replica, writer: tuple[int, int]) -> int:
        """Tokens that a writer has written."""
        end_step, number = writer
        return self.outputs[number] - (end_step - replica.steps)

    # ---- what comes next --------------------------------------------------------------------------

    def _claim(self, replica: Replica, now_s: float) -> None:
        while self.waiting and replica.running < replica.places:
            number = heapq.heappop(self.waiting)[1]
            if self.due is not None:
                if self.due[number] <= now_s:
                    self.end[number] = now_s
                    self.outcome[number] = EXPIRED
                    continue
                heapq.heappush(replica.dues, (self.due[number], number))
            self.claimed[number] = now_s
            replica.held.append(number)
            replica.running += 1
            self.running += 1

    def _enter(self, replica: Replica) -> None:
        """Let claimed answers read, while their prompts fit the KV cache."""
        while replica.held:
            number = replica.held[0]
            tokens = self.prompts[number] + self.written.get(number, 0)
            alone = not (replica.reading or replica.ends)
            if not alone and not batching.can_enter(replica.kv, tokens, len(replica.ends), self.kv_limit):
                return
            replica.held.popleft()
            replica.reading.append(number)
            replica.unread[number] = tokens
            replica.kv += tokens

    def _begin_stretch(self, which: int, replica: Replica, now_s: float) -> None:
        """One step while prompts are read, else as many as change nothing."""
        while batching.must_leave(replica.kv, len(replica.ends), self.kv_limit) and len(replica.ends) > 1:
            self._put_back(replica)
        writers = len(replica.ends)
        read, steps = 0, 1
        if replica.reading:
            for number, share in zip(
                replica.reading,
                batching.shares(self.budget - writers, [replica.unread[number] for number in replica.reading]),
                strict=True,
            ):
                replica.unread[number] -= share
                read += share
        else:
            steps = replica.ends[0][0] - replica.steps
            if writers > 1:
                steps = max(1, min(steps, batching.steps_before_full(replica.kv, writers, self.kv_limit)))
        sequences = writers + len(replica.reading)
        replica.a_ms = step_ms(self.law, read, sequences, replica.kv) * self.slowness + self.gap_ms
        replica.b_ms = self.law.context_ms_per_token * writers * self.slowness
        if replica.dues and steps > 1:
            steps = min(steps, steps_within((replica.dues[0][0] - now_s) * 1000.0, replica.a_ms, replica.b_ms))
        replica.begun_s, replica.stretch = now_s, steps
        self._put(which, replica, now_s + replica.lasts_s(steps))

    def _put_back(self, replica: Replica) -> None:
        """The KV cache is full: the youngest gives its room up, and will read everything again."""
        self.put_back += 1
        if replica.reading:
            number = replica.reading.pop()
            del replica.unread[number]
            replica.kv -= self.prompts[number] + self.written.get(number, 0)
        else:
            place = max(range(len(replica.ends)), key=lambda i: (replica.joined[replica.ends[i][1]], i))
            writer = replica.ends.pop(place)
            heapq.heapify(replica.ends)
            number = writer[1]
            self.written[number] = self._written(replica, writer)
            replica.kv -= self.prompts[number] + self.written[number]
            del replica.joined[number]
        replica.held.appendleft(number)

    def _put(self, which: int, replica: Replica, at_s: float) -> None:
        replica.version += 1
        heapq.heappush(self.calendar, (at_s, which, replica.version))
