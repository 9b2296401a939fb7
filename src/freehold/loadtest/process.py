"""The process that keeps time: sends each request when it is due, reads the answers, reports what it saw.

One thread, one loop: wait until something is due or readable; empty every readable socket; parse; report. What is due
goes out between any two of these. Started by `generator.py`, which hands it requests; loads neither numpy nor asyncio.
"""

from __future__ import annotations

import errno
import gc
import math
import os
import resource
import select
import selectors
import socket
import sys
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from freehold.loadtest.client import Exchange
from freehold.loadtest.connection import Connection, ParserError, tls_context
from freehold.loadtest.orders import Begin, Due, More, Order, Report, Setup, Stop
from freehold.loadtest.upward import Upward
from freehold.loadtest.urgency import EARLY_S, Urgency
from freehold.loadtest.waiting import NOBODY, Waiting
from freehold.sample import Outcome, Sample

if TYPE_CHECKING:
    import ssl

REPORT_S = 0.25
REPORT_SAMPLES = 64
"""As many at once as are encoded in a tenth of a millisecond."""
COARSE_S = 0.002
"""epoll counts in whole milliseconds: nearer than this, `select` waits instead, which counts in microseconds."""
NO_FILES = (errno.EMFILE, errno.ENFILE)


class Player:
    """The loop and its state. Times are seconds on the monotonic clock."""

    def __init__(self, poller: selectors.BaseSelector, upward: Upward, setup: Setup) -> None:
        self._poller = poller
        self._fd: int | None = poller.fileno() if hasattr(poller, "fileno") else None
        self._upward = upward
        self._setup = setup
        self._context: ssl.SSLContext | None = tls_context() if setup.address.tls else None
        self._waiting = Waiting(setup)
        self._zero_s = math.inf
        self._cpu_from_s = 0.0
        self._idle: list[Connection] = []
        self._busy: dict[Exchange, Connection] = {}
        self._limits: deque[tuple[float, Exchange]] = deque()
        self._samples: list[Sample] = []
        self._texts: dict[int, str] = {}
        self._report_s = 0.0
        self._stopped = False
        self._urgency = Urgency()

    def run(self) -> None:
        while not (self._stopped or (self._waiting.empty and not self._busy)):
            self._send_due(time.monotonic())
            self._turn(self._wait_s())
            now_s = time.monotonic()
            self._send_due(now_s)
            self._expire(now_s)
            if now_s >= self._report_s or len(self._samples) >= REPORT_SAMPLES or self._waiting.hungry():
                self._report(now_s)
        self._report(time.monotonic(), done=True)
        self._upward.finish()

    # ---- waiting and reading ---------------------------------------------------------------------

    def _wait_s(self) -> float:
        now_s, due_s = time.monotonic(), self._waiting.next_s
        near = due_s - now_s < EARLY_S
        self._urgency.set(near)
        until_s = min(due_s if near else due_s - EARLY_S, self._report_s)
        if self._limits:
            until_s = min(until_s, self._limits[0][0])
        return max(0.0, until_s - now_s)

    def _turn(self, wait_s: float) -> None:
        """Wait, empty all sockets that are ready, then parse."""
        came: list[Connection] = []
        for key, mask in self._ready(wait_s):
            connection: Connection | None = key.data
            if connection is None:
                for order in self._upward.ready(mask):
                    self.obey(order)
            elif self._take(connection, mask):
                came.append(connection)
            self._send_due(time.monotonic())
        for connection in came:
            self._parse(connection)
            self._send_due(time.monotonic())

    def _ready(self, wait_s: float) -> list[tuple[selectors.SelectorKey, int]]:
        if self._fd is None:
            return self._poller.select(wait_s)
        if wait_s > 2 * COARSE_S:
            return self._poller.select(wait_s - COARSE_S)
        if wait_s > 0:
            select.select([self._fd], [], [], wait_s)
        return self._poller.select(0)

    def _take(self, connection: Connection, mask: int) -> bool:
        """Bytes off one socket; True if there is something to parse."""
        before = connection.wants
        try:
            came = connection.ready(mask)
        except OSError as error:
            self._lost(connection, error.strerror or str(error))
            return False
        if connection.wants != before:
            self._poller.modify(connection.socket, connection.wants, connection)
        return came

    def _parse(self, connection: Connection) -> None:
        busy = connection.reader.exchange is not None
        try:
            exchange = connection.parse()
        except ParserError as error:
            self._lost(connection, f"The reply is not HTTP: {error}.")
            return
        if exchange is not None:
            if connection.usable:
                self._idle.append(connection)
            else:
                self._drop(connection)
            exchange.finish()
            self._ended(exchange, connection.last_s, exchange.outcome())
        elif connection.eof:
            self._lost(connection, "The connection ended in the middle of the answer." if busy else "")

    # ---- sending ---------------------------------------------------------------------------------

    def _send_due(self, now_s: float) -> None:
        while self._waiting.next_s <= now_s:
            self._send(*self._waiting.take())
            now_s = time.monotonic()

    def _send(self, due: Due, intended_s: float, user: int) -> None:
        group = due.group or (f"user-{user}" if user != NOBODY else "")
        exchange = Exchange(due.number, group, intended_s, due.request, keep=self._setup.keep_text, user=user)
        exchange.sent_s = time.monotonic()
        self._limits.append((exchange.sent_s + self._setup.timeout_s, exchange))
        self._try(exchange)

    def _try(self, exchange: Exchange) -> None:
        """Over a connection that is free, or else a new one."""
        try:
            connection = self._idle.pop() if self._idle else self._connect()
        except OSError as error:
            exchange.error = os.strerror(error.errno or 0)
            self._ended(exchange, time.monotonic(), "unsent" if error.errno in NO_FILES else "failed")
            return
        self._busy[exchange] = connection
        before = connection.wants
        try:
            connection.send(exchange)
        except OSError as error:
            self._lost(connection, error.strerror or str(error))
            return
        if connection.wants != before:
            self._poller.modify(connection.socket, connection.wants, connection)

    def _connect(self) -> Connection:
        connection = Connection(self._setup, self._context)
        self._poller.register(connection.socket, connection.wants, connection)
        return connection

    # ---- ends ------------------------------------------------------------------------------------

    def _lost(self, connection: Connection, why: str) -> None:
        """The connection is gone. A kept one may have been closed just as a request went out: that is sent again."""
        exchange, fresh = connection.reader.exchange, connection.fresh
        self._drop(connection)
        if exchange is None:
            return
        self._busy.pop(exchange, None)
        if not fresh and exchange.status == 0 and not exchange.tried_again:
            exchange.tried_again = True
            self._try(exchange)
            return
        exchange.error = exchange.error or why
        self._ended(exchange, time.monotonic(), "failed")

    def _drop(self, connection: Connection) -> None:
        with suppress(KeyError, ValueError):
            self._poller.unregister(connection.socket)
        if connection in self._idle:
            self._idle.remove(connection)
        connection.close()

    def _ended(self, exchange: Exchange, now_s: float, outcome: Outcome) -> None:
        self._busy.pop(exchange, None)
        self._samples.append(exchange.sample(now_s, outcome, self._zero_s))
        if exchange.kept is not None and outcome == "ok":
            self._texts[exchange.number] = exchange.text()
        while self._limits and self._limits[0][1] not in self._busy:
            self._limits.popleft()
        self._waiting.think(exchange, now_s, outcome)

    def _expire(self, now_s: float) -> None:
        while self._limits and self._limits[0][0] <= now_s:
            _, exchange = self._limits.popleft()
            connection = self._busy.get(exchange)
            if connection is not None:
                exchange.error = "No whole answer in time."
                self._drop(connection)
                self._ended(exchange, now_s, "timeout")

    def _stop(self) -> None:
        now_s = time.monotonic()
        self._stopped = True
        for exchange, connection in list(self._busy.items()):
            self._drop(connection)
            self._ended(exchange, now_s, "cancelled")
        for due, intended_s in self._waiting.unsent():
            exchange = Exchange(due.number, due.group, intended_s, b"", keep=False, user=NOBODY)
            exchange.sent_s = now_s
            self._samples.append(exchange.sample(now_s, "unsent", self._zero_s))

    # ---- the line to the command -----------------------------------------------------------------

    def obey(self, order: Order) -> None:
        match order:
            case More():
                self._waiting.add(order)
            case Begin():
                self._zero_s = order.zero_s
                self._waiting.begin(order.zero_s)
                self._cpu_from_s = time.process_time()
                gc.collect()
                gc.freeze()
                if not self._setup.users:  # users keep no schedule, and may take all there is
                    self._urgency.begin(self._cpu_from_s, time.monotonic())
            case Stop():
                self._stop()
            case Setup():
                raise AssertionError("set up twice")

    def _report(self, now_s: float, done: bool = False) -> None:
        self._report_s = now_s + REPORT_S
        samples, self._samples = self._samples, []
        texts, self._texts = self._texts, {}
        cpu_s = time.process_time()
        self._urgency.check(cpu_s, now_s)
        self._upward.tell(
            Report(
                samples=samples,
                texts=texts,
                cpu_s=cpu_s - self._cpu_from_s,
                in_flight=len(self._busy),
                taken=self._waiting.taken,
                done=done,
            )
        )


def main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    line = socket.socket(fileno=int(sys.argv[1]))
    poller = selectors.DefaultSelector()
    upward = Upward(line, poller)
    orders: list[Order] = []
    while not orders:
        orders = [order for _, mask in poller.select() for order in upward.ready(mask)]
    assert isinstance(orders[0], Setup)
    player = Player(poller, upward, orders[0])
    for order in orders[1:]:
        player.obey(order)
    player.run()


if __name__ == "__main__":
    main()
