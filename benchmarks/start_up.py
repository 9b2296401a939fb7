"""What a warm cache saves: a model loaded with an empty cache and again with what that left, in processes of their own.

Loading is the sum of the phases that the engine reports (convert, map, compile, warm-up); starting Python and importing
the library are shown beside it, since no cache helps there. OpenVINO compiles at every start, so a warm start can't
be faster than that.
"""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path

from rich.console import Console

from report import Claim
from sides import Direct

Spec = dict[str, object]


def measure(console: Console, spec: Spec, cache: Path, rounds: int) -> tuple[list[Claim], Direct]:
    """Cold then warm, `rounds` times, for the engine spec `spec` with its cache in `cache`, which is emptied first.
    The last warm engine is left running."""
    ratios = []
    warm = None
    for _ in range(rounds):
        if warm is not None:
            warm.close()
        shutil.rmtree(cache, ignore_errors=True)
        cold = Direct("freehold", spec | {"cache_dir": str(cache)})
        cold.close()
        warm = Direct("freehold", spec | {"cache_dir": str(cache)})
        ratios.append(seconds(cold) / seconds(warm))
        console.print(f"loading {spec['name']}, cold then warm: {told(cold)}; {told(warm)}", highlight=False)
    assert warm is not None
    spread = (max(ratios) - min(ratios)) / 2
    return [Claim(f"cold load over warm load of {spec['name']}", statistics.median(ratios), ">=", 3.0, spread)], warm


def seconds(side: Direct) -> float:
    return float(sum(side.ready["phases"].values()))


def told(side: Direct) -> str:
    phases = ", ".join(f"{name} {took_s:.2f}" for name, took_s in side.ready["phases"].items())
    return f"{seconds(side):.2f} s ({phases}) of {side.start_s:.2f} s"
