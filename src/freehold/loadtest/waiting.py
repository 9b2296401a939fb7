"""What a sending process has still to send, and which is next: requests with a time each, or users who ask in turn."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque

from freehold.loadtest.client import Exchange
from freehold.loadtest.orders import Due, More, Setup
from freehold.sample import Outcome

PAUSE_S = 0.25
"""So long at least a user waits after a failure, or a dead server would be asked thousands of times a second."""
PAUSE_MOST_S = 5.0
NOBODY = -1


class Waiting:
    """Times are seconds on the monotonic clock."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._zero_s = math.inf
        self._due: deque[Due] = deque()
        self._last = False
        self._free: list[tuple[float, int]] = []
        """Closed loop: users who wait for their next request's time, the earliest first."""
        self._thoughts = {
            user: random.Random(seed)  # noqa: S311
            for user, seed in zip(setup.users, setup.user_seeds, strict=True)
        }
        self._called = False
        self.taken = 0

    def begin(self, zero_s: float) -> None:
        self._zero_s = zero_s
        setup = self._setup
        self._free = [(zero_s + setup.stagger_s * user / setup.all_users, user) for user in setup.users]
        heapq.heapify(self._free)

    def add(self, more: More) -> None:
        self._due.extend(more.due)
        self._last = self._last or more.last
        self._called = False

    @property
    def empty(self) -> bool:
        """Nothing will be sent any more, unless an answer that is under way frees a user."""
        if math.isinf(self._zero_s):
            return False
        return not self._free if self._setup.users else self._last and not self._due

    @property
    def next_s(self) -> float:
        """When the next request is to go out; infinity if none can."""
        if not self._due:
            return math.inf
        if self._setup.users:
            return self._free[0][0] if self._free else math.inf
        return self._zero_s + self._due[0].at_s

    def take(self) -> tuple[Due, float, int]:
        """The next request, when it was to be sent, and its user."""
        due = self._due.popleft()
        self.taken += 1
        if self._setup.users:
            return due, *heapq.heappop(self._free)
        return due, self._zero_s + due.at_s, NOBODY

    def think(self, exchange: Exchange, now_s: float, outcome: Outcome) -> None:
        """The user who got this answer asks again after a pause, if the run isn't over by then."""
        if exchange.user == NOBODY:
            return
        pause_s = self._setup.think_s
        if self._setup.think_varies and pause_s > 0:
            pause_s = self._thoughts[exchange.user].expovariate(1 / pause_s)
        if outcome != "ok":
            pause_s = max(pause_s, min(exchange.retry_after_s or PAUSE_S, PAUSE_MOST_S))
        if now_s + pause_s < self._zero_s + self._setup.until_s:
            heapq.heappush(self._free, (now_s + pause_s, exchange.user))

    def hungry(self) -> bool:
        """Closed loop: the requests kept ready run out. True once, until more come."""
        if self._called or not self._free or len(self._due) > 32 + 2 * len(self._thoughts):
            return False
        self._called = True
        return True

    def unsent(self) -> list[tuple[Due, float]]:
        """What had its own time and won't be sent."""
        if self._setup.users or math.isinf(self._zero_s):
            return []
        return [(due, self._zero_s + due.at_s) for due in self._due]
