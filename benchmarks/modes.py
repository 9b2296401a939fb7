"""Requests a minute in the three modes of serving, on the same model and machine: the built-in starter, answers of 16
tokens, 40 clients that ask again and again and obey `Retry-After`.

In `stateless` every request's time includes its cold start: a process, its library, the model. The server's own start
is shown apart, and the answers of the first minute after the command with it. Modes take turns, so that a slow spell of
the machine meets all of them. The ceiling is the engine alone, driven without queue or HTTP at its full batch.

    python benchmarks/modes.py [--quick]
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from freehold.model.source import locate
from report import finish, ratio
from sides import Direct, Served

TOKENS = 16
CLIENTS = 40
BATCH = 32
PROMPT = "My card has not arrived."
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
MODES = {"hybrid": (), "stateful": (), "stateless": ("--workers", str(CORES))}
"""stateless: as many processes at a time as there are cores."""


@dataclass
class Tally:
    """What the clients of one run saw."""

    ends_s: list[float] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)
    refused: int = 0
    failed: list[str] = field(default_factory=list)


@dataclass
class Run:
    a_minute: float
    p50_s: float
    refused: int
    start_s: float

    def first_minute(self) -> float:
        """Answers in the minute after the command, its start included."""
        return self.a_minute * (60.0 - self.start_s) / 60.0


def ask_on(port: int, model: str, until_s: float, tally: Tally) -> None:
    """One client."""
    body = json.dumps({"model": model, "prompt": PROMPT, "max_tokens": TOKENS, "ignore_eos": True, "temperature": 0})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while time.perf_counter() < until_s:
        start_s = time.perf_counter()
        connection.request("POST", "/v1/completions", body, {"content-type": "application/json"})
        reply = connection.getresponse()
        data = reply.read()
        end_s = time.perf_counter()
        if reply.status == 429:
            tally.refused += 1
            time.sleep(float(reply.headers["retry-after-ms"]) / 1000)
        elif reply.status != 200:
            tally.failed.append(data.decode()[:200])
        else:
            tally.ends_s.append(end_s)
            tally.waits_s.append(end_s - start_s)
    connection.close()


def measure(home: Path, mode: str, seconds: float) -> Run:
    server = Served(home, "starter", "--mode", mode, "--max-batch", str(BATCH), *MODES[mode])
    try:
        tally, start_s = Tally(), time.perf_counter()
        until_s = start_s + seconds
        clients = [
            threading.Thread(target=ask_on, args=(server.port, server.model, until_s, tally)) for _ in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    finally:
        server.close()
    if tally.failed:
        raise RuntimeError(f"{mode}: {len(tally.failed)} requests failed, the first with {tally.failed[0]}")
    in_time = sum(end_s <= until_s for end_s in tally.ends_s)
    return Run(in_time * 60.0 / seconds, statistics.median(tally.waits_s), tally.refused, server.start_s)


def ceiling(home: Path) -> float:
    """Requests a minute of the engine alone, its batch full."""
    spec: dict[str, Any] = {
        "engine": "openvino", "source": msgspec.to_builtins(locate("starter", home=home)), "name": "starter",
        "cache_dir": str(home / "cache"), "threads": CORES, "max_batch": BATCH,
    }  # fmt: skip
    side = Direct("freehold", spec)
    prompts = [[40 + i] * 8 for i in range(BATCH)]
    side.run(prompts, TOKENS)
    rates = [BATCH * 60.0 / side.run(prompts, TOKENS).wall_s for _ in range(5)]
    side.close()
    return statistics.median(rates)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--quick", action="store_true", help="one round of 5 s a mode")
    quick = options.parse_args().quick
    rounds, seconds = (1, 5.0) if quick else (3, 15.0)
    console = Console(highlight=False)
    runs: dict[str, list[Run]] = {mode: [] for mode in MODES}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        most = ceiling(home)
        console.print(f"ceiling  {most:,.0f} requests/min: the engine alone, {BATCH} answers at once")
        for _ in range(rounds):
            for mode, told in runs.items():
                told.append(measure(home, mode, seconds))
    table = Table("mode", "requests/min", "of the ceiling", "p50 s", "refused", "server start s", "first minute")
    for mode, told in runs.items():
        rate = statistics.median(run.a_minute for run in told)
        middle = min(told, key=lambda run: abs(run.a_minute - rate))
        table.add_row(
            mode, f"{rate:,.0f}", f"{rate / most:.1%}", f"{middle.p50_s:.2f}", str(sum(run.refused for run in told)),
            f"{middle.start_s:.1f}", f"{middle.first_minute():,.0f}",
        )  # fmt: skip
    console.print(table)
    rates = {mode: [run.a_minute for run in told] for mode, told in runs.items()}
    return finish(
        "modes",
        [
            ratio("hybrid over stateless, requests a minute", rates["hybrid"], rates["stateless"], ">=", 10.0),
            ratio("stateful over hybrid, requests a minute", rates["stateful"], rates["hybrid"], ">=", 0.7),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
