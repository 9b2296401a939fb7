"""What queue, pipe and HTTP add to the first token: `sim` at 200 requests/s, served against driven directly.

The simulated engine answers at once (profile `instant`), so nearly all of the time to first token of the served side is
Freehold's own: HTTP parsing, the durable accept, claim, token pipe, SSE. The directly driven side is measured in the
same run, with the same arrivals, and taken off.
"""

from __future__ import annotations

import random
import statistics
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from rich.console import Console

import lean
from report import Claim
from sides import Served

RATE, TOKENS = 200.0, 8


def measure(home: Path, seconds: float, console: Console) -> list[Claim]:
    """Poisson arrivals for `seconds`; latency counts from the intended send time."""
    arrivals = poisson(RATE, seconds)
    direct = engine_alone([at_s for at_s in arrivals if at_s < seconds / 2])
    served = Served(home, "sim:instant")
    try:
        player = lean.Player(served.port)
        player.play([stream(served.model, i, i / 50) for i in range(50)])
        streams = [stream(served.model, i, at_s) for i, at_s in enumerate(arrivals)]
        start = time.perf_counter()
        player.play(streams)
        player.close()
        assert all(s.tokens == TOKENS for s in streams), "an answer is not whole: its time would say nothing"
    finally:
        served.close()
    through = [s.first_s - start - s.at_s for s in streams]
    late = [s.sent_s - start - s.at_s for s in streams]
    added = {p: (quantile(through, p) - quantile(direct, p)) * 1e3 for p in (0.5, 0.99)}
    console.print(
        f"\nadded time to first token at {RATE:.0f} requests/s, {len(streams)} requests: p50 {added[0.5]:.2f} ms, "
        f"p99 {added[0.99]:.2f} ms (engine alone p50 {quantile(direct, 0.5) * 1e3:.3f} ms; the client sent late by "
        f"p50 {quantile(late, 0.5) * 1e3:.2f}, p99 {quantile(late, 0.99) * 1e3:.2f} ms, counted in)"
    )
    return [
        Claim("added time to first token, p50 ms", added[0.5], "<=", 3.0),
        Claim("added time to first token, p99 ms", added[0.99], "<=", 10.0),
    ]


def stream(model: str, number: int, at_s: float) -> lean.Stream:
    return lean.Stream(lean.completion(model, f"request {number}", TOKENS), at_s=at_s)


def poisson(rate: float, seconds: float) -> list[float]:
    dice, at_s, times = random.Random(1), 0.0, []
    while (at_s := at_s + dice.expovariate(rate)) < seconds:
        times.append(at_s)
    return times


def engine_alone(arrivals: list[float]) -> list[float]:
    """Seconds from intended arrival to first token of the sim engine driven by a bare loop."""
    from freehold.core import Request, Sampling
    from freehold.engine.base import EngineSpec
    from freehold.engine.choose import build
    from freehold.model.source import Source

    source = Source(kind="sim", path="instant", label="sim", name="sim")
    engine = build(EngineSpec(engine="sim", source=source, name="sim", cache_dir="", profile="instant"))

    def untimed(phase: str, detail: str) -> AbstractContextManager[None]:
        return nullcontext()

    engine.load(untimed)
    sampling = Sampling(max_tokens=TOKENS, temperature=0.0, ignore_eos=True)
    first: dict[str, float] = {}
    waiting = list(enumerate(arrivals))[::-1]
    left = len(waiting)
    start = time.perf_counter()
    while left:
        while waiting and waiting[-1][1] <= time.perf_counter() - start:
            number, _ = waiting.pop()
            engine.add(Request(id=str(number), model="sim", kind="text", prompt=f"request {number}", sampling=sampling))
        chunks = engine.step().chunks
        if not chunks:
            time.sleep(0.0001)
        for chunk in chunks:
            first.setdefault(chunk.id, time.perf_counter() - start)
            left -= chunk.finish is not None
    engine.close()
    return [first[str(number)] - at_s for number, at_s in enumerate(arrivals)]


def quantile(values: list[float], p: float) -> float:
    return statistics.quantiles(values, n=1000, method="inclusive")[round(p * 1000) - 1]
