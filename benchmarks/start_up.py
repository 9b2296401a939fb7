"""What a warm cache saves: the starter loaded twice by the default engine, in fresh homes, in processes of their own.

Loading is the sum of the phases that the engine reports (convert, map, compile, warm-up); starting Python and importing
the library are shown beside it, since no cache helps there.
"""

from __future__ import annotations

import statistics
import tempfile

import msgspec
from rich.console import Console

from freehold import config, machine
from freehold.model.source import locate
from report import Claim
from sides import Direct


def measure(console: Console, rounds: int) -> list[Claim]:
    """Cold then warm, `rounds` times."""
    source = msgspec.to_builtins(locate("starter", home=config.home_dir())) | {"name": "starter"}
    ratios = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            spec = {"engine": "openvino", "source": source, "name": "starter", "cache_dir": cache}
            cold, warm = (load(spec | {"threads": machine.cores()}) for _ in range(2))
        ratios.append(sum(cold["phases"].values()) / sum(warm["phases"].values()))
        console.print(f"\nloading the starter, cold then warm: {told(cold)}; {told(warm)}", highlight=False)
    spread = (max(ratios) - min(ratios)) / 2
    return [Claim("cold load over warm load of the starter", statistics.median(ratios), ">=", 3.0, spread)]


def load(spec: dict[str, object]) -> dict[str, dict[str, float]]:
    child = Direct("freehold", spec)
    child.close()
    return {"phases": child.ready["phases"], "whole": {"s": child.start_s}}


def told(one: dict[str, dict[str, float]]) -> str:
    phases = ", ".join(f"{name} {seconds:.2f}" for name, seconds in one["phases"].items())
    return f"{sum(one['phases'].values()):.2f} s ({phases}) of {one['whole']['s']:.2f} s"
