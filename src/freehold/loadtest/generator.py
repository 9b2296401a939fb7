"""Plays a load against a server: deals requests out to sending processes ahead of time and gathers what they saw.

The processes (`process.py`) keep time; here bodies are made and samples collected, where a pause does no harm. A `Run`
is an iterator of `(now_s, samples)` about four times a second, in which all that ended since then is told once.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Literal, Self

import msgspec
import numpy as np

from freehold.core import Record, Sample
from freehold.errors import FreeholdError, UsageError
from freehold.loadtest.arrivals import Times, dice
from freehold.loadtest.hand import Hand
from freehold.loadtest.orders import Begin, Due, Setup, Stop
from freehold.loadtest.place import find, head
from freehold.loadtest.target import Address, Prompts, Target, address

TICK_S = 0.25
LEAD_S = 2.0
"""How long before its time a request is handed to the process that sends it."""
USERS_LEAD = 256
"""Closed loop: at least so many requests are kept ready for a process's users."""
START_S = 30.0
PATIENCE_S = 5.0
"""How long a stopped process may take to tell what it has."""


class Closed(Record, frozen=True):
    """A closed loop: each user waits for the answer, thinks, and asks again."""

    users: int
    seconds: float
    think_s: float = 0.0
    think: Literal["constant", "exponential"] = "constant"
    stagger_s: float = 0.0
    """The users' first requests are spread over this."""


def play(
    target: Target,
    load: Times | Closed,
    prompts: Prompts,
    *,
    processes: int = 1,
    seed: int = 0,
    keep_text: bool = False,
) -> Run:
    """Start playing `load` against `target`. Iterate over the run to keep it going; `close` it to end it early.

    Raises `UsageError` for a load that means nothing and `Unreachable` for a host without an address.
    """
    if isinstance(load, Closed):
        if load.users < 1 or not load.seconds > 0 or load.think_s < 0:
            raise UsageError("A closed loop needs at least one user, some seconds, and a pause of 0 or more.")
    elif not load.size:
        raise UsageError("The schedule is empty: there is nothing to send.")
    return Run(target, load, prompts, processes=max(1, processes), seed=seed, keep_text=keep_text)


class Run(Iterator[tuple[float, list[Sample]]]):
    """A run that goes on while it is iterated over."""

    def __init__(
        self, target: Target, load: Times | Closed, prompts: Prompts, *, processes: int, seed: int, keep_text: bool
    ) -> None:
        where = address(target)
        self.texts: dict[int, str] = {}
        """With `keep_text`: answers by request number; whoever reads them takes them out."""
        self.rest: list[Sample] = []
        """After `close`: what was under way (`cancelled`) or not sent yet (`unsent`)."""
        self.zero_s = 0.0
        """The run's second 0 on the monotonic clock."""
        self.zero_unix_s = 0.0
        self._target = target
        self._head = head(target, where)
        self._load = load
        self._prompts = prompts
        self._next = 0
        self._fresh: list[Sample] = []
        self._told_s = 0.0
        self._poller = selectors.DefaultSelector()
        setups = _setups(target, where, load, processes, seed, keep_text)
        self._hands = [Hand(setup) for setup in setups]
        try:
            for hand in self._hands:
                self._poller.register(hand.line, selectors.EVENT_READ, hand)
            self._begin()
        except BaseException:
            self._kill()
            raise

    @property
    def now_s(self) -> float:
        return time.monotonic() - self.zero_s

    @property
    def in_flight(self) -> int:
        """Requests sent and not ended, as last told."""
        return sum(hand.last.in_flight for hand in self._hands)

    @property
    def cpu_s(self) -> list[float]:
        """Processor time of each sending process since the run began, as last told."""
        return [hand.last.cpu_s for hand in self._hands]

    def __next__(self) -> tuple[float, list[Sample]]:
        if all(hand.ended for hand in self._hands):
            if self._fresh:
                return self._hand_over()
            self.close()
            raise StopIteration
        self._told_s += TICK_S
        left_s = TICK_S
        while left_s > 0 and not all(hand.ended for hand in self._hands):
            self._feed()
            left_s = self._told_s - self.now_s
            self._gather(max(0.0, min(left_s, TICK_S)))
        self._told_s = max(self._told_s, self.now_s - TICK_S)
        return self._hand_over()

    def close(self) -> None:
        """End the run: what is under way is cancelled and told in `rest`. Closing twice changes nothing."""
        for hand in self._hands:
            hand.tell(Stop())
        give_up_s = time.monotonic() + PATIENCE_S
        while not all(hand.ended for hand in self._hands) and time.monotonic() < give_up_s:
            self._gather(TICK_S, stopping=True)
        self.rest += self._fresh
        self._fresh = []
        self._kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self) -> None:
        """Wait until all processes are up, hand out what is due first, then say when second 0 is."""
        give_up_s = time.monotonic() + START_S
        while not all(hand.ready for hand in self._hands):
            if time.monotonic() > give_up_s:
                raise FreeholdError(f"The sending processes did not start within {START_S:.0f} s.")
            self._gather(TICK_S)
        self.zero_s = time.monotonic()
        self._feed()
        self.zero_s = time.monotonic() + 0.02
        self.zero_unix_s = time.time() + 0.02
        for hand in self._hands:
            hand.tell(Begin(zero_s=self.zero_s))

    def _feed(self) -> None:
        """Hand out what is due within `LEAD_S`; in a closed loop, enough for every user to go on at once."""
        if isinstance(self._load, Closed):
            for number, hand in enumerate(self._hands):
                while hand.handed - hand.last.taken < max(USERS_LEAD, 4 * len(hand.setup.users)):
                    hand.hand(self._due(len(self._hands) * hand.handed + number, 0.0))
        else:
            until = int(np.searchsorted(self._load, self.now_s + LEAD_S, side="right"))
            for number in range(self._next, until):
                self._hands[number % len(self._hands)].hand(self._due(number, float(self._load[number])))
            self._next = max(self._next, until)
            if self._next == self._load.size:
                for hand in self._hands:
                    hand.finish()
        for hand in self._hands:
            hand.flush()

    def _due(self, number: int, at_s: float) -> Due:
        ask = self._prompts(number)
        body = self._target.body(ask)
        more = "".join(f"{name}: {value}\r\n" for name, value in ask.headers.items())
        head = self._head + f"{more}Content-Length: {len(body)}\r\n\r\n".encode()
        return Due(number, at_s, ask.group, head + body)

    def _gather(self, wait_s: float, stopping: bool = False) -> None:
        for key, _ in self._poller.select(wait_s):
            hand: Hand = key.data
            for report in hand.receive():
                self._fresh += report.samples
                self.texts |= report.texts
            if hand.lost:
                self._poller.unregister(hand.line)
                if not (hand.last.done or stopping):
                    raise FreeholdError(
                        "A process that sends requests ended in the middle of the run.",
                        f"Its exit code is {hand.process.wait()}; what it wrote is above.",
                        "What was measured until then is kept. Say so to Freehold's makers.",
                    )

    def _hand_over(self) -> tuple[float, list[Sample]]:
        fresh, self._fresh = self._fresh, []
        return self.now_s, fresh

    def _kill(self) -> None:
        for hand in self._hands:
            hand.kill()
        self._poller.close()


def _setups(
    target: Target, where: Address, load: Times | Closed, processes: int, seed: int, keep_text: bool
) -> list[Setup]:
    """One for each process. Users are dealt out in turn, like requests."""
    family, place = find(where)
    same = Setup(
        address=where,
        timeout_s=target.timeout_s,
        family=family,
        place=place,
        keep_text=keep_text,
    )
    if not isinstance(load, Closed):
        return [same] * processes
    seeds = [int(dice(seed, "think", user).integers(1 << 62)) for user in range(load.users)]
    return [
        msgspec.structs.replace(
            same,
            users=tuple(range(load.users))[first::processes],
            user_seeds=tuple(seeds[first::processes]),
            all_users=load.users,
            until_s=load.seconds,
            think_s=load.think_s,
            think_varies=load.think == "exponential",
            stagger_s=load.stagger_s,
        )
        for first in range(min(processes, load.users))
    ]
