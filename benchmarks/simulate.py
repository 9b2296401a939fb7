"""Is the planner's simulator fast enough for a month of traffic, and right about a server that really runs?

    python benchmarks/simulate.py [--quick]

Speed: requests with lengths like a chat's through 4 instances, and through 10,000 in cells, on one core. The ceiling
is reading and writing the trace's columns once. Truth: `freehold serve` plays a profile in real time, `freehold knee`
finds where it breaks the SLO, and the simulator says the same from the profile alone; what HTTP, queue and a busy
machine add is the difference. Half a minute of measuring knows the knee to a quarter only, so the quick run asks how
far outside of the measured interval the simulation lies. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from freehold.profile import Profile, StepLaw, open_profile, save
from freehold.sizing.cells import play_in_cells
from freehold.sizing.rightsize import simulated_capacity
from freehold.sizing.work import DONE, Fleet, Work
from freehold.slo import parse
from report import Claim, finish
from sides import Served

SLO = "p99 e2e < 500ms"
INPUT, OUTPUT = 64, 32
LIVE = Profile(
    name="steady", model="none", engine="sim", machine="any", date="2026-11-25",
    source="Assumed: slow enough that a server on two cores is no limit.",
    step=StepLaw(base_ms=3.0, prefill_ms_per_token=0.025, sequence_ms=0.3, context_ms_per_token=0.0005),
    sweet_batch=8, max_batch=8, context_tokens=4096, basis={"step": "assumed"},
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="100,000 requests and half a minute of measuring")
    quick = parser.parse_args().quick
    count = 100_000 if quick else 1_000_000
    claims = [speed(count, 4, 0.8), speed(count, 10_000, 0.8)]
    claims.append(truth("30s", within=True) if quick else truth("4min"))
    return finish("simulate", claims)


def speed(count: int, instances: int, load: float) -> Claim:
    """Seconds for a million requests, at `load` of what the instances carry."""
    profile = open_profile("llama-8b-vllm-h100")
    rng = np.random.default_rng(0)
    rate = 22.0 * instances * load
    work = Work(
        arrival_s=np.cumsum(rng.exponential(1.0 / rate, count)),
        prompt_tokens=rng.integers(20, 2000, count),
        output_tokens=rng.geometric(1 / 200, count),
    )
    start = time.process_time()
    ceiling = [column.tolist() for column in (work.arrival_s, work.prompt_tokens, work.output_tokens)]
    np.array(ceiling[0])
    ceiling_s = time.process_time() - start
    start = time.process_time()
    played = play_in_cells(work, Fleet(profile=profile, replicas=instances))
    took_s = time.process_time() - start
    assert (played.outcome == DONE).all(), "a request was lost"
    tokens = int(work.output_tokens.sum())
    print(
        f"{count:,} requests ({tokens:,} tokens) on {instances:,} instances: {took_s:.1f} s of one core, "
        f"{took_s / count * 1e6:.1f} us a request; reading and writing the trace once takes {ceiling_s:.2f} s; "
        f"busy {played.busy_s.sum() / instances / float(np.nanmax(played.end_s)):.0%}"
    )
    return Claim(f"seconds for a million requests on {instances:,} instances", took_s / count * 1e6, "<=", 60.0)


def truth(longest: str, *, within: bool = False) -> Claim:
    """|simulated over measured - 1|, in requests/s at the SLO; `within`: over the nearer end of the interval, if it
    lies outside."""
    rng = np.random.default_rng(1)
    lengths = Work(
        arrival_s=np.cumsum(rng.exponential(1.0, 100)), prompt_tokens=np.full(100, INPUT),
        output_tokens=np.full(100, OUTPUT),
    )  # fmt: skip
    said = simulated_capacity(lengths, Fleet(profile=LIVE, replicas=1), parse(SLO))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "steady.json"
        save(LIVE, path)
        server = Served(Path(folder) / "home", f"sim:{path}")
        try:
            command = [sys.executable, "-m", "freehold", "knee", f"http://127.0.0.1:{server.port}", "--slo", SLO]
            command += ["--input-tokens", str(INPUT), "--output-tokens", str(OUTPUT), "--seconds", longest, "--json"]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        finally:
            server.close()
    found = json.loads(told.splitlines()[-1])
    if found["outcome"] == "none":
        print(f"{SLO}: kept at no rate here, not even with one user: the machine is too busy to compare with")
        return Claim("simulated requests/s at the SLO against measured, relative error", 1.0, "<=", 0.10)
    error, low, high = said / found["knee_per_s"] - 1.0, found["low_per_s"], found["high_per_s"] or math.inf
    print(
        f"{SLO}: measured {found['knee_per_s']:.2f} requests/s (90 %: {low:.2f} to {high:.2f}), simulated {said:.2f}: "
        f"{error:+.1%}"
    )
    if within:
        outside = max(0.0, low / said - 1.0, said / high - 1.0)
        return Claim("simulated requests/s at the SLO outside the measured interval", outside, "<=", 0.10)
    return Claim("simulated requests/s at the SLO against measured, relative error", abs(error), "<=", 0.10)


if __name__ == "__main__":
    sys.exit(main())
