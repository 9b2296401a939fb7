"""`freehold load`: send a load to any OpenAI-compatible server and tell what came back, and whether the client kept up.

Wiring and words: what is sent is decided in `load_plan.py`, sent by `loadtest/generator.py`, shown by `load_show.py`.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from freehold.cli import load_options as opt
from freehold.cli.output import JsonFlag, print_json
from freehold.core import Json
from freehold.errors import NotFound, Unavailable, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from freehold.cli.load_plan import Plan
    from freehold.loadtest.probe import Found
    from freehold.loadtest.proof import Proof
    from freehold.loadtest.record import Columns, Recorded
    from freehold.loadtest.target import Target
    from freehold.sample import Sample
    from freehold.sizing.dependence import Interval

INTERRUPTED = 130


def load(
    url: opt.Url,
    rate: opt.Rate = None,
    users: opt.Users = None,
    ramp: opt.Ramp = None,
    steps: opt.Steps = None,
    arrivals: opt.Arrivals = "poisson",
    burstiness: opt.Burstiness = None,
    seconds: opt.Seconds = None,
    requests: opt.Requests = None,
    think: opt.Think = None,
    trace: opt.Trace = None,
    trace_format: opt.TraceFormat = "auto",
    skip: opt.Skip = None,
    speed: opt.Speed = 1.0,
    share: opt.Share = 1.0,
    loop: opt.Loop = False,
    synthesise: opt.Synthesise = False,
    input_tokens: opt.InputTokens = None,
    output_tokens: opt.OutputTokens = None,
    shared_tokens: opt.SharedTokens = 0,
    spread: opt.Spread = 0.0,
    longest: opt.Longest = None,
    prompts: opt.Prompts = None,
    model: opt.Model = None,
    api: opt.Api = "chat",
    api_key: opt.ApiKey = None,
    stream: opt.Stream = True,
    exact: opt.Exact = True,
    timeout: opt.Timeout = "10min",
    slo: opt.Slo = None,
    out: opt.Out = None,
    processes: opt.Processes = 1,
    measure_ceiling: opt.MeasureCeiling = True,
    seed: opt.Seed = 0,
    as_json: JsonFlag = False,
) -> None:
    """Send requests at a rate, by users, or as a trace has them; tell latencies, failures, and the client's part."""
    from freehold.cli.load_plan import Wanted, plan, seconds_of

    if _shown_again(Path(url), slo, as_json):
        return
    wanted = Wanted(
        rate, users, ramp, steps, trace, arrivals, burstiness, seconds, requests, think, trace_format, skip, speed,
        share, loop, synthesise, input_tokens, output_tokens, shared_tokens, spread, longest, prompts, seed,
    )  # fmt: skip
    met, chosen = _met(slo), plan(wanted)
    target = target_of(url, model, api, api_key, stream, seconds_of(timeout, "--timeout"))
    if _play(target, chosen, met, exact, out, processes, seed, measure_ceiling, as_json):
        raise typer.Exit(INTERRUPTED)


def target_of(url: str, model: str | None, api: str, api_key: str | None, stream: bool, timeout_s: float) -> Target:
    """The server and a model on it. Raises what it answers with, or `Unreachable`."""
    from freehold.cli.http import base_url, get_json
    from freehold.loadtest.target import Target

    if api not in ("chat", "completions"):
        raise UsageError(f"--api {api} is not known.", next="One of chat, completions.")
    if model is None:
        try:
            names = [str(each["id"]) for each in get_json(url, "/v1/models", api_key).get("data", [])]
        except NotFound as error:
            raise UsageError("This server has no list of models.", next="Name one with --model.") from error
        if not names:
            raise Unavailable("No model is ready there yet.", next="Wait for it, or name one with --model.")
        model = names[0]
    return Target(
        url=base_url(url),
        model=model,
        api="chat" if api == "chat" else "completions",
        api_key=api_key or "",
        stream=stream,
        timeout_s=timeout_s,
        extra={"temperature": 0},
    )


def _met(slo: list[str] | None) -> Callable[[Sample], bool] | None:
    """Whether a sample kept all its objectives; None without any."""
    if not slo:
        return None
    from freehold.slo import judge, parse

    objectives = parse(slo)
    return lambda sample: not any(judge(each, sample).misses for each in objectives)


def _play(
    target: Target,
    chosen: Plan,
    met: Callable[[Sample], bool] | None,
    exact: bool,
    out: Path | None,
    processes: int,
    seed: int,
    measure_ceiling: bool,
    as_json: bool,
) -> bool:
    """The whole run; True if it was interrupted."""
    from rich.console import Console

    from freehold.loadtest.probe import probe
    from freehold.loadtest.record import open_run

    console = Console(stderr=as_json, highlight=False)
    found = probe(target, exact=exact, seed=seed)
    console.print(f"{target.model} at {target.url}: {chosen.words}", markup=False, soft_wrap=True)
    for note in _notes(found, exact):
        console.print(note, style="yellow", soft_wrap=True)
    with tempfile.TemporaryDirectory() if out is None else nullcontext(str(out)) as folder:
        interrupted = _record(Path(folder), found, chosen, processes, seed, measure_ceiling, console)
        told = _report(open_run(Path(folder)), met, console)
    if out is not None:
        console.print(
            f"\nsamples and manifest in {out}; `freehold load {out}` shows this again", markup=False, soft_wrap=True
        )
    if as_json:
        print_json({**told, "interrupted": interrupted})
    return interrupted


def _notes(found: Found, exact: bool) -> list[str]:
    notes = []
    if exact and not found.exact:
        notes.append("This server doesn't take ignore_eos: answers may be shorter than asked.")
    if not found.counts:
        notes.append("This server doesn't tell how many tokens there were: a word counts as one, an event as one.")
    return notes


def _record(
    folder: Path, found: Found, chosen: Plan, processes: int, seed: int, measure_ceiling: bool, console: Console
) -> bool:
    """Play and write; True if somebody pressed Ctrl-C."""
    from freehold.cli.load_show import Live
    from freehold.loadtest.generator import Closed, play
    from freehold.loadtest.record import Recorder, manifest

    target, asked = found.target, {**chosen.told, "api": found.target.api, "stream": found.target.stream}
    command = " ".join(("freehold", *sys.argv[1:]))
    told = manifest(
        "load", command, url=target.url, model=target.model, seed=seed, load=asked, started_unix_s=time.time()
    )
    until_s = chosen.load.seconds if isinstance(chosen.load, Closed) else float(chosen.load[-1])
    interrupted = False
    with Recorder(folder, told) as recorder:
        run = play(target, chosen.load, chosen.prompts(found.scale), processes=processes, seed=seed)
        live = Live(console, until_s)
        try:
            for now_s, samples in run:
                recorder.add(samples)
                live.show(now_s, samples, run.in_flight)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            live.stop()
            run.close()
            recorder.add(run.rest)
        wall_s = run.now_s
        recorder.finish(wall_s, interrupted=interrupted, vitals={"cpu_s": run.cpu_s})
        if measure_ceiling and not interrupted:
            vitals = {"cpu_s": run.cpu_s, "ceiling": _ceiling(folder, found.target, processes)}
            recorder.finish(wall_s, vitals=vitals)
    return interrupted


def _ceiling(folder: Path, target: Target, processes: int) -> Json:
    """What this client can do at most, with answers and questions as long as they were in the run."""
    from freehold.loadtest.figures import compute
    from freehold.loadtest.proof import ceiling
    from freehold.loadtest.record import open_run

    figures, _ = compute(open_run(folder).samples())
    text = "word " * max(1, min(100_000, round(figures.mean_input_tokens)))
    reached = ceiling(target.api, processes, text, max(1, round(figures.mean_output_tokens)))
    return {name: getattr(reached, name) for name in reached.__struct_fields__}


def _report(run: Recorded, met: Callable[[Sample], bool] | None, console: Console) -> Json:
    """Every table from the samples and the manifest alone."""
    from freehold.cli.load_show import show
    from freehold.loadtest.figures import compute, plain

    figures, rows = compute(run.samples(), met)
    if not figures.asked:
        raise UsageError("Nothing was measured: the run ended before its first request.")
    proof = _proof(run, rows) if run.manifest.vitals else None
    sure = _sure(rows)
    show(console, figures, proof, sure)
    told = None if proof is None else {name: getattr(proof, name) for name in proof.__struct_fields__}
    told_sure = {
        name: {p: [each.low, each.high if math.isfinite(each.high) else None] for p, each in of.items()}
        for name, of in sure.items()
    }
    base = {"url": run.manifest.url, "model": run.manifest.model, **plain(figures)}
    return {**base, "latency_ms_95": told_sure, "client": told}


def _sure(rows: Columns) -> dict[str, dict[str, Interval]]:
    """Where the percentiles of answered requests lie at 95 %, neighbours being alike."""
    import numpy as np

    from freehold.sizing.dependence import percentile

    order = np.argsort(rows.intended_s, kind="stable")
    ok = rows.were("ok")[order]
    found: dict[str, dict[str, Interval]] = {}
    for name, until in (("ttft", rows.first_s), ("e2e", rows.end_s)):
        values = ((until - rows.intended_s) * 1e3)[order][ok]
        values = values[~np.isnan(values)]
        if values.size:
            found[name] = {f"p{p}": percentile(values, p / 100) for p in (50, 95, 99)}
    return found


def _proof(run: Recorded, rows: Columns) -> Proof:
    import msgspec

    from freehold.loadtest.arrivals import Phase, Rate
    from freehold.loadtest.proof import Ceiling, prove

    told, vitals = run.manifest.load, run.manifest.vitals
    phases = told.get("phases")
    reached = vitals.get("ceiling")
    return prove(
        rows,
        vitals["cpu_s"],
        run.manifest.seconds or 0.0,
        scheduled=told["loop"] == "open",
        rate=Rate([msgspec.convert(phase, Phase) for phase in phases]) if phases else None,
        reached=msgspec.convert(reached, Ceiling) if reached else None,
    )


def _shown_again(folder: Path, slo: list[str] | None, as_json: bool) -> bool:
    """Where `folder` has a run in it."""
    from rich.console import Console

    from freehold.loadtest.record import MANIFEST, open_run

    if not (folder / MANIFEST).exists():
        return False
    told = _report(open_run(folder), _met(slo), Console(stderr=as_json, highlight=False))
    if as_json:
        print_json(told)
    return True
