"""What observing costs: one server with everything on beside one with recording off, turn by turn, on `sim`.

    python benchmarks/observe.py [--quick]

Throughput: 64 streams at once, as fast as the simulated engine can make tokens, so that the gateway is the limit. The
99th percentile: 200 requests/s of 24 tokens, end to end from the intended send time. The order of the two sides turns
each round. And in this process, what one recorded sample costs. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

import lean
from added_latency import poisson, quantile
from freehold.sketch import Sketch
from report import Claim, finish, ratio
from sides import Served

STREAMS, TOKENS = 64, 200
RATE, SHORT_TOKENS = 200.0, 24
SLO = "p99 e2e < 500ms, p95 ttft < 200ms, p99 itl < 50ms"
ON = ("--set", f"observe.slo={SLO}", "--set", "observe.price_per_hour_usd=1", "--set", "observe.against=gpt-4o-mini")
OFF = ("--set", "observe.recording=off")
SAMPLES = 200_000


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds: under 50 s")
    rounds, seconds = (5, 1.5) if parser.parse_args().quick else (25, 5.0)
    console = Console(width=120)
    claims = [Claim("microseconds to record a sample", sample_us(), "<=", 2.0)]
    with TemporaryDirectory() as folder:
        sides = {"on": Served(Path(folder) / "on", "sim:instant", *ON)}
        try:
            sides["off"] = Served(Path(folder) / "off", "sim:instant", *OFF)
            claims += compared(sides, rounds, seconds, console)
        finally:
            for side in sides.values():
                side.close()
    return finish("observe", claims)


def sample_us() -> float:
    """The best of five rounds: adding gaps like those between tokens to a sketch, the loop's own cost included."""
    gaps = [5.0 + (i * 7919 % 1000) / 50.0 for i in range(SAMPLES)]
    best = float("inf")
    for _ in range(5):
        sketch, start = Sketch(), time.perf_counter()
        for gap in gaps:
            sketch.add(gap)
        best = min(best, time.perf_counter() - start)
    return best / SAMPLES * 1e6


def compared(sides: dict[str, Served], rounds: int, seconds: float, console: Console) -> list[Claim]:
    rates: dict[str, list[float]] = {name: [] for name in sides}
    slow: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        tokens_per_s(side, 0, 8)
    for number in range(1, rounds + 1):
        names = list(sides) if number % 2 else list(reversed(sides))
        for name in names:
            rates[name].append(tokens_per_s(sides[name], number, STREAMS))
        for name in names:
            slow[name].append(p99_ms(sides[name], number, seconds))
    for name in sides:
        console.print(
            f"observing {name:3}: {statistics.median(rates[name]):9,.0f} tokens/s   "
            f"p99 at {RATE:.0f} requests/s {statistics.median(slow[name]):6.2f} ms"
        )
    return [
        ratio("tokens/s, everything on over off", rates["on"], rates["off"], ">=", 0.98),
        ratio("p99 end to end, everything on over off", slow["on"], slow["off"], "<=", 1.02),
    ]


def tokens_per_s(side: Served, number: int, streams: int) -> float:
    asked = [lean.Stream(lean.completion(side.model, f"{number}.{i}", TOKENS)) for i in range(streams)]
    player = lean.Player(side.port)
    wall_s = player.play(asked)
    player.close()
    return sum(stream.tokens for stream in asked) / wall_s


def p99_ms(side: Served, number: int, seconds: float) -> float:
    """The same arrivals for both sides in each round."""
    arrivals = poisson(RATE, seconds)
    asked = [
        lean.Stream(lean.completion(side.model, f"{number} {i}", SHORT_TOKENS), at_s=at_s)
        for i, at_s in enumerate(arrivals)
    ]
    player, start = lean.Player(side.port), time.perf_counter()
    player.play(asked)
    player.close()
    return quantile([stream.end_s - start - stream.at_s for stream in asked], 0.99) * 1e3


if __name__ == "__main__":
    sys.exit(main())
