"""Child process of the benchmarks: one engine, driven without queue or HTTP, obeying lines on standard input.

`freehold` drives it through Freehold's engine protocol, `bare` is openvino-genai's own loop with its own defaults and
no detokenising at all (the least work a caller can do), `llama-server` is llama.cpp's stock HTTP server as xllamacpp
ships it. A line in is a JSON case; a line out is its JSON outcome.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from freehold.engine.openvino import hush

hush()  # before the library is imported: it would phone home

Case = dict[str, Any]
"""`prompts` (token ids, one list a stream) and `tokens` (to generate for each)."""


def freehold_engine(told: Case) -> tuple[Callable[[Case], Case], Case]:
    """An engine behind Freehold's protocol."""
    from freehold.core import Request, Sampling
    from freehold.engine.base import EngineSpec
    from freehold.engine.choose import build
    from freehold.model.source import Source

    spec = EngineSpec(source=Source(**told.pop("source")), **told)
    engine = build(spec)
    phases: dict[str, float] = {}

    @contextmanager
    def timed(phase: str, detail: str = "") -> Iterator[None]:
        start = time.perf_counter()
        yield
        phases[phase] = phases.get(phase, 0.0) + time.perf_counter() - start

    engine.load(timed)
    count = 0

    def run(case: Case) -> Case:
        nonlocal count
        sampling = Sampling(max_tokens=case["tokens"], temperature=0.0, ignore_eos=True)
        start = time.perf_counter()
        for prompt in case["prompts"]:
            count += 1
            engine.add(Request(id=f"r{count}", model=spec.name, kind="text", prompt=tuple(prompt), sampling=sampling))
        left, tokens, first_s = len(case["prompts"]), 0, 0.0
        while left:
            for chunk in engine.step().chunks:
                if chunk.failure:
                    raise RuntimeError(chunk.failure.what)
                first_s = first_s or time.perf_counter() - start
                tokens += chunk.tokens
                left -= chunk.finish is not None
        return {"wall_s": time.perf_counter() - start, "tokens": tokens, "first_s": first_s}

    return run, {"phases": phases}


def bare_openvino(told: Case) -> tuple[Callable[[Case], Case], Case]:
    """openvino-genai as its documentation shows it, with the same number of threads."""
    import numpy as np
    import openvino as ov
    import openvino_genai as genai

    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = 1
    pipeline = genai.ContinuousBatchingPipeline(
        told["path"], scheduler, "CPU", {"INFERENCE_NUM_THREADS": told["threads"]}
    )

    def run(case: Case) -> Case:
        config = genai.GenerationConfig(max_new_tokens=case["tokens"], ignore_eos=True)
        start = time.perf_counter()
        handles = [
            pipeline.add_request(i, ov.Tensor(np.array([prompt], np.int64)), config)
            for i, prompt in enumerate(case["prompts"])
        ]
        tokens, first_s = 0, 0.0
        while pipeline.has_non_finished_requests():
            pipeline.step()
            for handle in handles:
                while handle.can_read():
                    first_s = first_s or time.perf_counter() - start
                    tokens += sum(len(output.generated_ids) for output in handle.read().values())
        return {"wall_s": time.perf_counter() - start, "tokens": tokens, "first_s": first_s}

    return run, {}


def llama_server(told: Case) -> tuple[Callable[[Case], Case], Case]:
    """llama.cpp's server with its defaults, save slots and context for all streams."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = told["path"]
    params.n_parallel = told["max_batch"]
    params.n_ctx = told["max_batch"] * told["context_tokens"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = told["threads"]
    params.warmup = True
    params.verbosity = 0
    server = xllamacpp.Server(params)
    port = int(server.listening_address.rsplit(":", 1)[1])

    def run(case: Case) -> Case:
        raise RuntimeError(f"play it over HTTP, at {server.listening_address}")

    return run, {"port": port}


SIDES = {"freehold": freehold_engine, "bare": bare_openvino, "llama-server": llama_server}


def main() -> None:
    kind, told = sys.argv[1], json.loads(sys.argv[2])
    start = time.perf_counter()
    out = sys.stdout
    run, extra = SIDES[kind](told)
    print(json.dumps({"ready_s": time.perf_counter() - start, **extra}), file=out, flush=True)
    for line in sys.stdin:
        outcome = run(json.loads(line))
        outcome["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(outcome), file=out, flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
