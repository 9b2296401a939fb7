"""How many tokens a second one gateway process carries, and what it adds to a first token.

    python benchmarks/gateway_tokens.py [--quick]

`sim` gives tokens as fast as it can make them, so the gateway is what is measured: frames in, server-sent events out.
The client costs little (`lean.py`), and its share is told; the ceiling is the same engine in a bare loop. The last line
is one JSON object.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

import added_latency
import lean
from freehold.core import Request, Sampling
from freehold.engine.base import EngineSpec
from freehold.engine.choose import build
from freehold.model.source import Source
from report import Claim, finish
from sides import Served

STREAMS, TOKENS = 64, 200
TOKENS_PER_S = 10_000.0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds: under 50 s")
    quick = parser.parse_args().quick
    console = Console(width=120)
    with TemporaryDirectory() as folder:
        rates = carried(Path(folder), rounds=3 if quick else 10, console=console)
        claims = [
            Claim(
                "tokens/s through one gateway process", statistics.median(rates), ">=", TOKENS_PER_S, half_range(rates)
            )
        ]
        claims += added_latency.measure(Path(folder), seconds=2.5 if quick else 30.0, console=console)
    return finish("gateway_tokens", claims)


def carried(home: Path, rounds: int, console: Console) -> list[float]:
    """Tokens/s of each round, engine alone and served in turns."""
    served = Served(home, "sim:instant")
    rates, ceilings, shares = [], [], []
    try:
        gateway = next(child for child in served.children() if "gateway" in " ".join(child.cmdline()))
        for number in range(rounds):
            ceilings.append(engine_alone())
            streams = [lean.Stream(lean.completion(served.model, f"{number}.{i}", TOKENS)) for i in range(STREAMS)]
            player = lean.Player(served.port)
            before, own = sum(gateway.cpu_times()[:2]), time.process_time()
            wall_s = player.play(streams)
            player.close()
            shares.append(((sum(gateway.cpu_times()[:2]) - before) / wall_s, (time.process_time() - own) / wall_s))
            rates.append(sum(stream.tokens for stream in streams) / wall_s)
    finally:
        served.close()
    gateway_share, client_share = (statistics.median(each) for each in zip(*shares, strict=True))
    console.print(
        f"{STREAMS} streams of {TOKENS} tokens: {statistics.median(rates):,.0f} tokens/s served, "
        f"{statistics.median(ceilings):,.0f} by the engine alone; the gateway used {gateway_share:.2f} of a core, "
        f"the client {client_share:.2f}"
    )
    return rates


def engine_alone() -> float:
    """Tokens/s of the sim engine in a bare loop."""
    source = Source(kind="sim", path="instant", label="sim", name="sim")
    engine = build(EngineSpec(engine="sim", source=source, name="sim", cache_dir="", profile="instant"))
    engine.load(lambda *_: nullcontext())
    sampling = Sampling(max_tokens=TOKENS, temperature=0.0, ignore_eos=True)
    for i in range(STREAMS):
        engine.add(Request(id=str(i), model="sim", kind="text", prompt=f"request {i}", sampling=sampling))
    start, left = time.perf_counter(), STREAMS
    while left:
        left -= sum(chunk.finish is not None for chunk in engine.step().chunks)
    return STREAMS * TOKENS / (time.perf_counter() - start)


def half_range(values: list[float]) -> float:
    return (max(values) - min(values)) / 2


if __name__ == "__main__":
    sys.exit(main())
