"""What `chaos.py` does to a running server: kills, stops and continues its processes, kills and restarts its Redis,
fills its disk (a file-size limit on its processes), and looks at its memory meanwhile.
"""

from __future__ import annotations

import asyncio
import random
import resource
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil

SPARED = 0.98
"""Of picks, share that spares processes which still load: on a busy machine nothing would ever come up otherwise."""
FULL_BYTES = 4096
FULL_S = 1.0
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


class Redis:
    """A Redis that syncs every write, on the same port and data after a kill."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.folder = folder
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        words = f"redis-server --port {self.port} --bind 127.0.0.1 --save --appendonly yes --appendfsync always --dir"
        command = words.split()
        command.insert(command.index("--save") + 1, "")
        with (self.folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen([*command, str(self.folder)], stdout=log, stderr=log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
        return False


class Storm:
    """Until `kills` processes have been killed; everything random comes from `seed`."""

    def __init__(
        self, server: psutil.Process, seed: int, every_s: float, redis: Redis | None, say: bool, ready: dict[str, float]
    ) -> None:
        """`ready`: name of a worker or `gateway` -> when it said so last (unix seconds)."""
        self._ready = ready
        self.counts: Counter[str] = Counter()
        self.memory: list[tuple[float, str, int]] = []
        self._server = server
        self._random = random.Random(seed)
        self._every_s = every_s
        self._redis = redis
        self._say = say
        self._later: set[asyncio.Task[None]] = set()

    @property
    def server_lives(self) -> bool:
        return self._server.is_running() and self._server.status() != psutil.STATUS_ZOMBIE

    @property
    def kills(self) -> int:
        return sum(count for name, count in self.counts.items() if name.startswith("kill"))

    async def blow(self, kills: int, most_s: float) -> None:
        """Until so many processes have been killed, or the time is over."""
        end_s = time.monotonic() + most_s
        deeds = {self._kill_worker: 66, self._kill_gateway: 12, self._kill_both: 3, self._stop: 12}
        deeds |= {self._kill_redis: 7} if self._redis else {self._fill_disk: 3}
        told = 0
        while self.kills < kills and self.server_lives and time.monotonic() < end_s:
            await asyncio.sleep(self._random.expovariate(1 / self._every_s))
            with suppress(psutil.NoSuchProcess):
                await self._random.choices(list(deeds), list(deeds.values()))[0]()
            if self._say and self.kills >= told + 50:
                told = self.kills
                print(f"  {told} kills", flush=True)
        await asyncio.gather(*self._later)

    async def watch_memory(self) -> None:
        """Resident bytes of supervisor and gateway, twice a second."""
        while True:
            with suppress(psutil.NoSuchProcess):
                self.memory.append((time.monotonic(), "supervisor", self._server.memory_info().rss))
                for gateway in self._children("gateway"):
                    self.memory.append((time.monotonic(), "gateway", gateway.memory_info().rss))
            await asyncio.sleep(0.5)

    def growth(self, who: str) -> tuple[float, float]:
        """Highest in the second quarter and in the last, in MiB: the first quarter is for warming up."""
        times = [at for at, name, _ in self.memory if name == who]
        first_s, last_s = times[0], times[-1]
        quarter_s = (last_s - first_s) / 4
        early = max(size for at, name, size in self.memory if name == who and at <= first_s + 2 * quarter_s)
        late = max(size for at, name, size in self.memory if name == who and at >= last_s - quarter_s)
        return early / 2**20, late / 2**20

    # ---- deeds -----------------------------------------------------------------------------------

    def _children(self, kind: str) -> list[psutil.Process]:
        found = []
        for child in self._server.children():
            with suppress(psutil.NoSuchProcess):
                if kind in child.cmdline()[:5]:
                    found.append(child)
        return found

    def _one(self, kind: str) -> psutil.Process | None:
        found = self._children(kind)
        loaded = [child for child in found if self._ready.get(_name(child, kind), 0.0) > child.create_time()]
        pick = loaded if self._random.random() < SPARED else found
        return self._random.choice(pick) if pick else None

    async def _kill(self, kind: str) -> None:
        if (victim := self._one(kind)) is not None:
            victim.send_signal(signal.SIGKILL)
            self.counts[f"kill {kind}"] += 1

    async def _kill_worker(self) -> None:
        await self._kill("work")

    async def _kill_gateway(self) -> None:
        await self._kill("gateway")

    async def _kill_both(self) -> None:
        await self._kill("gateway")
        await self._kill("work")

    async def _kill_redis(self) -> None:
        assert self._redis is not None
        if not self._redis.answers():
            return
        self._redis.kill()
        self.counts["kill redis"] += 1
        self._afterwards(self._random.uniform(0.0, 1.0), self._redis.start)

    async def _stop(self) -> None:
        """Most stops are short; a long one of a worker is a hang, and the supervisor must see it."""
        kind = self._random.choice(("work", "work", "gateway"))
        if (victim := self._one(kind)) is None:
            return
        victim.send_signal(signal.SIGSTOP)
        self.counts[f"stop {kind}"] += 1
        longest_s = 15.0 if kind == "work" and self._random.random() < 0.1 else 1.5
        self._afterwards(self._random.uniform(0.05, longest_s), lambda: victim.send_signal(signal.SIGCONT))

    async def _fill_disk(self) -> None:
        """No write beyond the first page of any file succeeds for a while: to these processes, the disk is full."""
        self.counts["full disk"] += 1
        for child in (*self._children("gateway"), *self._children("work")):
            with suppress(psutil.NoSuchProcess):
                child.rlimit(resource.RLIMIT_FSIZE, (FULL_BYTES, resource.RLIM_INFINITY))
                self._afterwards(FULL_S, partial(child.rlimit, resource.RLIMIT_FSIZE, UNLIMITED))

    def _afterwards(self, delay_s: float, act: Callable[[], object]) -> None:
        async def run() -> None:
            await asyncio.sleep(delay_s)
            with suppress(psutil.NoSuchProcess):
                act()

        task = asyncio.create_task(run())
        self._later.add(task)
        task.add_done_callback(self._later.discard)


def _name(child: psutil.Process, kind: str) -> str:
    """As the server's log has it; a worker gives its process its name."""
    return kind if kind == "gateway" else str(child.name()).removeprefix("fh-")
