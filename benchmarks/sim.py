"""Can the `sim` engine hold 2,000 streams at 20 tokens/s each without being the bottleneck itself?

One process, real time, a profile of 50 ms a step. Counts what the engine costs in CPU (its own thread, so
that a busy machine doesn't blur it), the tokens that came, and the steps that ended late. Sampled answers
at temperature 1; then once more with log-probabilities and stop strings, the dear way to write a token.

    python benchmarks/sim.py [--quick]

The last line of standard output is one JSON object.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from freehold.core import Request, Sampling
from freehold.engine.base import EngineSpec
from freehold.engine.sim.engine import SimEngine
from freehold.model.source import Source
from freehold.profile import Profile, StepLaw, save
from report import Claim, finish

STREAMS = 2_000
STEP_MS = 50.0
PROFILE = Profile(
    name="steady",
    model="none",
    engine="sim",
    machine="any",
    date="2026-11-22",
    source="Assumed: every step takes 50 ms, which is 20 tokens/s for each stream.",
    step=StepLaw(base_ms=STEP_MS),
    sweet_batch=STREAMS,
    max_batch=STREAMS,
    context_tokens=4096,
    max_batched_tokens=1 << 20,
    basis={"step.base_ms": "assumed"},
)


def engine_of(folder: str) -> SimEngine:
    path = Path(folder) / "steady.json"
    save(PROFILE, path)
    source = Source(kind="sim", path=str(path), label="steady", name="sim")
    engine = SimEngine(EngineSpec(engine="sim", source=source, name="sim", cache_dir=folder))
    engine.load(lambda *_: nullcontext())
    return engine


def run(engine: SimEngine, steps: int, sampling: Sampling) -> dict[str, float]:
    """Stream to `STREAMS` answers for `steps` steps: tokens/s, CPU of the engine, late steps."""
    for i in range(STREAMS):
        prompt = ({"role": "user", "content": f"Question {i}: what can I do about my card?"},)
        chosen = msgspec.structs.replace(sampling, seed=i, max_tokens=steps + 100, ignore_eos=True)
        engine.add(Request(id=f"r{i}", model="sim", kind="chat", messages=prompt, sampling=chosen))
    engine.step()
    late, begun_s, cpu_s, tokens, costs = engine.late_steps, time.monotonic(), time.thread_time(), 0, []
    for _ in range(steps):
        before_s = time.thread_time()
        tokens += sum(chunk.tokens for chunk in engine.step().chunks)
        costs.append((time.thread_time() - before_s) * 1000)
    wall_s, cpu_s = time.monotonic() - begun_s, time.thread_time() - cpu_s
    for i in range(STREAMS):
        engine.abort(f"r{i}")
    engine.step()
    costs.sort()
    return {
        "tokens_per_s": tokens / wall_s,
        "cpu_share": cpu_s / wall_s,
        "us_per_token": cpu_s / tokens * 1e6,
        "step_cpu_ms_p50": statistics.median(costs),
        "step_cpu_ms_p99": costs[int(0.99 * (len(costs) - 1))],
        "late_steps": engine.late_steps - late,
        "steps": steps,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 seconds instead of 20 for each run")
    steps = 60 if parser.parse_args().quick else 400
    careful = Sampling(logprobs=True, top_logprobs=5, stop=("never written",))
    with TemporaryDirectory() as folder:
        engine = engine_of(folder)
        plain, dear = run(engine, steps, Sampling()), run(engine, steps, careful)
    for name, result in (("sampled", plain), ("with logprobs and stops", dear)):
        print(f"{name}:", ", ".join(f"{key} {value:,.3g}" for key, value in result.items()))
    return finish(
        "sim",
        [
            Claim("tokens_per_s", plain["tokens_per_s"], ">=", 0.99 * STREAMS * 1000 / STEP_MS),
            Claim("us_per_token", plain["us_per_token"], "<=", 12.0),
            Claim("step_cpu_ms_p99", plain["step_cpu_ms_p99"], "<=", 25.0),
            Claim("late_share", plain["late_steps"] / steps, "<=", 0.01),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
