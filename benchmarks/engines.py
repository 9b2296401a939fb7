"""What each engine gives on this machine, alone and through the whole of Freehold, beside the physical ceiling.

    python benchmarks/engines.py [--quick] [--model MODEL] [--streams 1,4,8,16,32]

Every side runs in its own process, warm, with the same prompts, lengths and batch. They take turns in short slices,
there and back again (A B C C B A ...), those that are compared next to each other: a machine that gets slower by and by
costs both the same. Figures are medians over the rounds; claims are medians of the ratios of neighbours. The last line
is one JSON object. Without `--model` it makes a Llama of 135M parameters with random weights, run as Q8_0;
`--model starter` measures the model that comes along.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec
from rich.console import Console
from rich.table import Table

import added_latency
import models
import start_up
from freehold import config, machine
from freehold.engine import choose
from freehold.engine.openvino.peak import matrix_peak_gops
from freehold.model.convert import prepared
from freehold.model.gguf_read import describe
from freehold.model.source import Source, locate
from report import Claim, finish, ratio
from sides import Direct, LlamaServer, Outcome, Served

PROMPT, TOKENS, LONG_PROMPT, CONTEXT = 32, 64, 512, 1024
QUICK_PROMPT, QUICK_TOKENS, QUICK_S = 4, {8: 10, 32: 8}, 17.0
ENGINES = ("openvino", "llamacpp")
ORDER = ("openvino bare loop", "openvino engine", "openvino served", "llama.cpp server")
"""Compared sides stand next to each other."""


class Side(Protocol):
    start_s: float

    @property
    def peak_mb(self) -> float: ...
    def run(self, prompts: list[list[int]], tokens: int) -> Outcome: ...
    def close(self) -> None: ...


Results = dict[tuple[str, int], list[float]]
"""(side, streams) to tokens/s of each round; streams 0 is prefill tokens/s."""


def main() -> int:
    told = arguments()
    threads = machine.cores()
    home = config.home_dir() / "bench"
    source = locate(str(told.model or models.random_checkpoint(home)), home=config.home_dir())
    console = Console(width=120)
    with ExitStack() as stack:
        engines = [name for name in ENGINES if choose.installed().get(name)]
        for name in set(ENGINES) - set(engines):
            print(f"{name} is not installed: left out")
        spec = {
            "source": msgspec.to_builtins(source),
            "name": source.name,
            "threads": threads,
            "max_batch": max(told.streams),
        }
        claims, sides = start(stack, spec, engines, home, console, quick=told.quick)
        results, firsts = play(sides, told, console)
        memory = {name: side.peak_mb for name, side in sides.items()}
    claims = judge(results) + claims
    show(console, prepared(source, home / "cache")[0], results, told, memory, firsts)
    claims += added_latency.measure(home, seconds=2.5 if told.quick else 30.0, console=console)
    return finish("engines", claims)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="8 and 32 streams, shorter slices: under 50 s once the model is made"
    )
    parser.add_argument("--model", help="a GGUF file, a directory of safetensors, or `starter`")
    parser.add_argument(
        "--streams", type=lambda text: [int(part) for part in text.split(",")], default=[1, 4, 8, 16, 32]
    )
    parser.add_argument("--rounds", type=int, default=5)
    told = parser.parse_args()
    if told.quick:
        told.streams, told.rounds = list(QUICK_TOKENS), 8
    return told


def start(
    stack: ExitStack, spec: dict[str, Any], engines: list[str], home: Path, console: Console, *, quick: bool
) -> tuple[list[Claim], dict[str, Side]]:
    """All sides, loaded, and what the warm cache saved meanwhile. A quick run loads several at a time, with whatever
    cache there is, and doesn't drive the second engine."""
    source, first = Source(**spec["source"]), engines[0]
    claims: list[Claim] = []
    if quick:
        warm = Direct("freehold", spec | {"engine": first, "cache_dir": str(home / "cache")})
    else:
        claims, warm = start_up.measure(console, spec | {"engine": first}, home / "cache", rounds=3)
    stack.callback(warm.close)
    stock = {"path": str(prepared(source, home / "cache")[0]), "context_tokens": CONTEXT}
    stock |= {key: spec[key] for key in ("threads", "max_batch")}
    limits = ("--threads", str(spec["threads"]), "--max-batch", str(spec["max_batch"]))
    openings: dict[str, Callable[[], Side]] = {}
    for engine in engines:
        if engine == "openvino":
            openings["openvino bare loop"] = partial(Direct, "bare", stock)
        else:
            openings["llama.cpp server"] = partial(LlamaServer, stock)
        if quick and engine != first:
            continue
        if engine != first:
            told = spec | {"engine": engine, "cache_dir": str(home / "cache")}
            openings[f"{engine} engine"] = partial(Direct, "freehold", told)
        openings[f"{engine} served"] = partial(Served, home, served_as(source), "--engine", engine, *limits)
    sides: dict[str, Side] = {f"{first} engine": warm}
    with ThreadPoolExecutor(len(openings) if quick else 1) as pool:
        for name, side in zip(openings, pool.map(lambda opened: opened(), openings.values()), strict=True):
            stack.callback(side.close)
            sides[name] = side
    order = sorted(sides, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
    return claims if source.kind == "safetensors" else [], {name: sides[name] for name in order}


def served_as(source: Source) -> str:
    """What a person would type for it."""
    return "starter" if source.name == "starter" else source.path


def play(sides: dict[str, Side], told: argparse.Namespace, console: Console) -> tuple[Results, dict[str, float]]:
    """Every side at every number of streams, in turns; and the seconds from its start to its first token. A quick run
    plays as many rounds as fit into its time, two at least."""
    results: Results = defaultdict(list)
    firsts: dict[str, float] = {}
    dice = random.Random(0)

    def prompts(count: int, length: int) -> list[list[int]]:
        return [[dice.randrange(300, 4000) for _ in range(length)] for _ in range(count)]

    for name, side in sides.items():
        firsts[name] = side.start_s + side.run(prompts(1, PROMPT), 1).first_s
        side.run(prompts(max(told.streams), 4), 2)  # the first batch of a size costs more
    end_s = time.perf_counter() + QUICK_S
    with console.status("measuring") as status:
        for done in range(told.rounds):
            if told.quick and done > 1 and time.perf_counter() > end_s:
                break
            there_or_back = list(sides) if done % 2 == 0 else list(reversed(sides))
            for count in told.streams:
                length, tokens = (QUICK_PROMPT, QUICK_TOKENS[count]) if told.quick else (PROMPT, TOKENS)
                asked = prompts(count, length)  # nobody has seen them before: no prefix is cached
                for name in there_or_back:
                    status.update(f"round {done + 1}, {count} streams: {name}")
                    results[name, count].append(sides[name].run(asked, tokens).tokens_per_s)
            if not told.quick:
                asked = prompts(1, LONG_PROMPT)
                for name in there_or_back:
                    results[name, 0].append(LONG_PROMPT / sides[name].run(asked, 1).wall_s)
    return results, firsts


def judge(results: Results) -> list[Claim]:
    """The claims: the HTTP path costs little, the default engine is driven well, and it beats the stock server.
    A claim whose sides or streams weren't measured isn't made."""

    def compared(name: str, over: str, under: str, count: int, target: float) -> list[Claim]:
        a, b = results.get((over, count), []), results.get((under, count), [])
        return [ratio(f"{name} at {count} streams", a, b, ">=", target)] if a and b else []

    claims = compared("served over engine", "openvino served", "openvino engine", 32, 0.95)
    for count in (8, 32):
        claims += compared("openvino engine over bare loop", "openvino engine", "openvino bare loop", count, 1.0)
        claims += compared("openvino served over stock server", "openvino served", "llama.cpp server", count, 1.8)
    return claims


def show(
    console: Console,
    gguf: Path,
    results: Results,
    told: argparse.Namespace,
    memory: dict[str, float],
    firsts: dict[str, float],
) -> None:
    """The table, with the ceilings as its first row."""
    info, threads = describe(gguf), machine.cores()
    seconds = 0.3 if told.quick else 2.0
    bandwidth = machine.memory_bandwidth_gb_s(threads, seconds)
    int8, bf16 = matrix_peak_gops(threads, "int8", seconds), matrix_peak_gops(threads, "bf16", seconds)
    in_matrices = (
        info.parameters - len(info.tokens) * info.heads * info.key_dim
    )  # a prompt's tokens skip the vocabulary
    title = f"{gguf.name}: {info.parameters / 1e6:.0f}M parameters, {info.weight_bytes / 1e6:.0f} MB, {threads} threads"
    table = Table(title=title, box=None, header_style="bold")
    table.add_column("tokens/s")
    for count in told.streams:
        table.add_column(f"{count} streams" if count > 1 else "1 stream", justify="right")
    for heading in ("prefill", "warm start to first token s", "memory MB"):
        table.add_column(heading, justify="right")
    most = max(int8, bf16) * 1e9 / 2 / info.parameters  # whatever the batch
    top = [f"{min(count * bandwidth * 1e9 / info.weight_bytes, most):.0f}" for count in told.streams]
    ceilings = f"ceiling ({bandwidth:.0f} GB/s, {int8:.0f} int8 and {bf16:.0f} bf16 GOPS)"
    table.add_row(ceilings, *top, f"{int8 * 1e9 / 2 / in_matrices:.0f}", "", "")
    for name, used in memory.items():
        cells = [
            f"{statistics.median(results[name, count]):.0f}" if results[name, count] else "-"
            for count in [*told.streams, 0]
        ]
        table.add_row(name, *cells, "-" if told.quick else f"{firsts[name]:.1f}", f"{used:.0f}")
    console.print(table)
    if int8 < bf16:
        console.print(
            "8-bit weights are multiplied no faster than others here: this processor has no VNNI, and OpenVINO turns "
            "them into floats, while llama.cpp has 8-bit kernels for AVX2. 1.8 over it was aimed at with VNNI."
        )


if __name__ == "__main__":
    sys.exit(main())
