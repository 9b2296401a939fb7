"""What "accepted" costs: durable accepts a second and how long one waits, for each store, beside what its disk can do.

As in a gateway, an event loop asks and one thread commits; 1, 32 or 256 requests wait at a time. Ceilings first: one
writer that appends a page and syncs it, again and again (without groups nobody accepts faster); and for Redis the
same bytes as plain SETs in pipelines of 256. Redis runs here with appendfsync always, the only setting that is safe.

    python benchmarks/gateway.py [--quick] [--folder DIR]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from freehold.core import Request, Sampling
from freehold.ledger.group import AsyncLedger
from freehold.ledger.open import open_ledger
from report import Claim, finish, ratio

WAITING = (1, 32, 256)
PROMPT = "The quick brown fox jumps over the lazy dog. " * 22
"""About 1 kB, an ordinary chat."""
PAGE_BYTES = 4096
SWITCH_S = 0.0005
"""As in `gateway/process.py`."""


class Series:
    """Latencies of one run."""

    def __init__(self, latencies_s: list[float], took_s: float) -> None:
        self.rate = len(latencies_s) / took_s
        ordered = sorted(latencies_s)
        self.p50_ms = ordered[len(ordered) // 2] * 1000
        self.p99_ms = ordered[int(len(ordered) * 0.99)] * 1000


def syncs(folder: Path, seconds: float) -> Series:
    """The ceiling: append a page, sync, again."""
    latencies = []
    fd = os.open(folder / "syncs", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        start = time.perf_counter()
        os.write(fd, b"\1" * PAGE_BYTES)
        getattr(os, "fdatasync", os.fsync)(fd)
        latencies.append(time.perf_counter() - start)
    took = time.perf_counter() - began
    os.close(fd)
    return Series(latencies, took)


def accepts(store: str, waiting: int, seconds: float, tag: str) -> Series:
    """A closed loop of `waiting` clients, each with one request on its way to the disk."""
    latencies: list[float] = []

    async def client(ledger: AsyncLedger, number: int, until: float) -> None:
        count = 0
        while time.perf_counter() < until:
            count += 1
            request = Request(
                id=f"{tag}-{number}-{count}", model="m", kind="text", prompt=PROMPT, tenant=f"t{number % 8}",
                sampling=Sampling(max_tokens=200),
            )  # fmt: skip
            start = time.perf_counter()
            await ledger.accept(request)
            latencies.append(time.perf_counter() - start)

    async def main() -> float:
        ledger = AsyncLedger(lambda: open_ledger(store, fsync="always"))
        await ledger.start()
        began = time.perf_counter()
        await asyncio.gather(*(client(ledger, number, began + seconds) for number in range(waiting)))
        took = time.perf_counter() - began
        await ledger.close()
        return took

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return Series(latencies, runner.run(main()))


def sets(url: str, seconds: float) -> Series:
    """Redis' ceiling: values of the same size, as plain SETs, 256 to a pipeline."""
    import redis

    client = redis.Redis.from_url(url)
    latencies, number = [], 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        pipeline = client.pipeline(transaction=False)
        start = time.perf_counter()
        for _ in range(WAITING[-1]):
            number += 1
            pipeline.set(f"ceiling:{number}", PROMPT)
        pipeline.execute()
        latencies += [time.perf_counter() - start] * WAITING[-1]
    took = time.perf_counter() - began
    client.close()
    return Series(latencies, took)


@contextmanager
def redis_server(folder: Path) -> Iterator[str | None]:
    """The URL of a safe server with its data in `folder`; None where none is installed."""
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None:
        yield None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    process = subprocess.Popen([*command, "--appendonly", "yes", "--appendfsync", "always"], stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.wait()


def measure(console: Console, folder: Path, rounds: int, seconds: float) -> list[Claim]:
    """Every side once a round, one after the other, so that a slow moment of the disk hits all."""
    found: dict[str, list[Series]] = {}

    def run(name: str, side: Callable[[], Series]) -> None:
        console.print(f"  {name} ...", highlight=False)
        found.setdefault(name, []).append(side())

    with redis_server(folder) as url:
        if url is None:
            console.print("No redis-server or valkey-server is installed: that half is left out.")
        for round in range(rounds):
            console.print(f"round {round + 1} of {rounds}", highlight=False)
            run("append and sync, one by one", lambda: syncs(folder, seconds))
            for waiting in WAITING:
                tag = f"{round}-{waiting}"
                run(
                    f"SQLite, {waiting} waiting",
                    lambda tag=tag, waiting=waiting: accepts(str(folder / "l.sqlite"), waiting, seconds, tag),  # type: ignore[misc]
                )
            if url is not None:
                run("Redis SETs, pipelines of 256", lambda: sets(url, seconds))
                for waiting in WAITING:
                    tag = f"{round}-{waiting}"
                    run(
                        f"Redis, {waiting} waiting",
                        lambda tag=tag, waiting=waiting: accepts(url, waiting, seconds, tag),  # type: ignore[misc]
                    )
    show(console, found)
    return claims(found)


def show(console: Console, found: dict[str, list[Series]]) -> None:
    table = Table(box=None, header_style="bold")
    for heading in ("", "a second", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, series in found.items():
        each = [statistics.median(getattr(one, field) for one in series) for field in ("rate", "p50_ms", "p99_ms")]
        table.add_row(name, f"{each[0]:,.0f}", f"{each[1]:.2f}", f"{each[2]:.2f}")
    console.print(table)


def claims(found: dict[str, list[Series]]) -> list[Claim]:
    made = []
    for store, ceiling in (("SQLite", "append and sync, one by one"), ("Redis", "Redis SETs, pipelines of 256")):
        series = found.get(f"{store}, {WAITING[-1]} waiting")
        if series is None:
            continue
        rates = [one.rate for one in series]
        spread = (max(rates) - min(rates)) / 2
        made.append(Claim(f"durable accepts/s on {store}", statistics.median(rates), ">=", 2000.0, spread))
        over, target = ("synced appends", 2.0) if store == "SQLite" else ("plain SETs", 0.2)
        made.append(ratio(f"{store} accepts over {over}", rates, [one.rate for one in found[ceiling]], ">=", target))
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="one round of shorter runs")
    parser.add_argument("--folder", type=Path, help="where the stores lie: name the disk that matters")
    options = parser.parse_args()
    sys.setswitchinterval(SWITCH_S)
    rounds, seconds = (1, 2.0) if options.quick else (5, 3.0)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        made = measure(Console(stderr=True), Path(folder), rounds, seconds)
    return finish("gateway", made)


if __name__ == "__main__":
    sys.exit(main())
