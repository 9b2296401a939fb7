"""`freehold load`: send a load to any OpenAI-compatible server and tell what came back, and whether the client kept up.

Wiring and words: what is sent is decided in `load_plan.py`, sent by `loadtest/generator.py`, shown by `load_show.py`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli.output import JsonFlag, print_json
from freehold.core import Json
from freehold.errors import NotFound, Unavailable, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from freehold.cli.load_plan import Plan
    from freehold.core import Sample
    from freehold.loadtest.probe import Found
    from freehold.loadtest.proof import Proof
    from freehold.loadtest.record import Columns, Recorded
    from freehold.loadtest.target import Target

INTERRUPTED = 130
Text = str | None
LOOP, TRACE, PROMPT, SERVER, RESULT = "Load", "Trace", "Prompts", "Server", "Result"


def load(
    url: Annotated[str, typer.Argument(help="Address of the server, or the folder of a run to show again.")],
    rate: Annotated[
        float | None, typer.Option("--rate", help="Requests/s, however slow the answers are.", rich_help_panel=LOOP)
    ] = None,
    users: Annotated[
        int | None, typer.Option("--users", help="Users who wait for each answer.", rich_help_panel=LOOP)
    ] = None,
    ramp: Annotated[
        Text, typer.Option("--ramp", metavar="FROM:TO", help="Rate that rises or falls.", rich_help_panel=LOOP)
    ] = None,
    steps: Annotated[
        Text,
        typer.Option("--steps", metavar="1,2,4", help="Rates, --seconds each (10 s).", rich_help_panel=LOOP),
    ] = None,
    arrivals: Annotated[
        str, typer.Option("--arrivals", help="constant, poisson or gamma.", rich_help_panel=LOOP)
    ] = "poisson",
    burstiness: Annotated[
        float | None,
        typer.Option("--burstiness", help="Of gamma: 1 is Poisson, smaller comes in bursts.", rich_help_panel=LOOP),
    ] = None,
    seconds: Annotated[
        Text, typer.Option("--seconds", metavar="TIME", help="30, 10min, 2h; 30 s unless told.", rich_help_panel=LOOP)
    ] = None,
    requests: Annotated[
        int | None, typer.Option("--requests", min=1, help="At most so many.", rich_help_panel=LOOP)
    ] = None,
    think: Annotated[
        Text, typer.Option("--think", metavar="TIME", help="Users' mean pause.", rich_help_panel=LOOP)
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace", help="Replay its arrivals and lengths; with --rate, its lengths.", rich_help_panel=TRACE
        ),
    ] = None,
    trace_format: Annotated[
        str,
        typer.Option("--trace-format", help="azure, mooncake, burstgpt, servegen, freehold.", rich_help_panel=TRACE),
    ] = "auto",
    skip: Annotated[Text, typer.Option("--skip", metavar="TIME", help="Begin there.", rich_help_panel=TRACE)] = None,
    speed: Annotated[float, typer.Option("--speed", help="So many times as fast.", rich_help_panel=TRACE)] = 1.0,
    share: Annotated[float, typer.Option("--share", help="A random part of it.", rich_help_panel=TRACE)] = 1.0,
    loop: Annotated[bool, typer.Option("--loop", help="Again until --seconds.", rich_help_panel=TRACE)] = False,
    synthesise: Annotated[
        bool, typer.Option("--synthesise", help="New traffic like it instead.", rich_help_panel=TRACE)
    ] = False,
    input_tokens: Annotated[
        int | None, typer.Option("--input-tokens", min=1, help="128 unless told.", rich_help_panel=PROMPT)
    ] = None,
    output_tokens: Annotated[
        int | None, typer.Option("--output-tokens", min=1, help="64 unless told.", rich_help_panel=PROMPT)
    ] = None,
    shared_tokens: Annotated[
        int, typer.Option("--shared-tokens", min=0, help="The same at every start.", rich_help_panel=PROMPT)
    ] = 0,
    spread: Annotated[
        float, typer.Option("--spread", min=0.0, max=0.99, help="Lengths vary by ± this share.", rich_help_panel=PROMPT)
    ] = 0.0,
    longest: Annotated[
        int | None, typer.Option("--longest", min=1, help="Cut a trace's prompts to this.", rich_help_panel=PROMPT)
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", help="A file: a text a line, or JSON lines.", rich_help_panel=PROMPT),
    ] = None,
    model: Annotated[Text, typer.Option("--model", "-m", help="Default: the first.", rich_help_panel=SERVER)] = None,
    api: Annotated[str, typer.Option("--api", help="chat or completions.", rich_help_panel=SERVER)] = "chat",
    api_key: Annotated[
        Text, typer.Option("--api-key", envvar="FREEHOLD_API_KEY", show_default=False, rich_help_panel=SERVER)
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream/--no-stream", help="Token by token.", rich_help_panel=SERVER)
    ] = True,
    exact: Annotated[
        bool,
        typer.Option("--exact/--free", help="Answers as long as asked, where it can.", rich_help_panel=SERVER),
    ] = True,
    timeout: Annotated[str, typer.Option("--timeout", metavar="TIME", rich_help_panel=SERVER)] = "10min",
    slo: Annotated[
        list[str] | None,
        typer.Option("--slo", help='"p99 ttft < 500ms": for goodput; several.', rich_help_panel=RESULT),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Keep samples and manifest in this folder.", rich_help_panel=RESULT)
    ] = None,
    processes: Annotated[int, typer.Option("--processes", min=1, max=64, help="That send.")] = 1,
    measure_ceiling: Annotated[
        bool, typer.Option("--ceiling/--no-ceiling", help="Measure after the run what the client can do at most.")
    ] = True,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed sends the same.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Send requests at a rate, by users, or as a trace has them; tell latencies, failures, and the client's part."""
    from freehold.cli.load_plan import Wanted, plan, seconds_of

    if (Path(url) / "manifest.json").exists():
        _again(Path(url), slo, as_json)
        return
    wanted = Wanted(
        rate, users, ramp, steps, trace, arrivals, burstiness, seconds, requests, think, trace_format, skip, speed,
        share, loop, synthesise, input_tokens, output_tokens, shared_tokens, spread, longest, prompts, seed,
    )  # fmt: skip
    met = _met(slo)
    chosen = plan(wanted)
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
    from freehold.sizing.slo import judge, parse

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
    show(console, figures, proof)
    told = None if proof is None else {name: getattr(proof, name) for name in proof.__struct_fields__}
    return {"url": run.manifest.url, "model": run.manifest.model, **plain(figures), "client": told}


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


def _again(folder: Path, slo: list[str] | None, as_json: bool) -> None:
    from rich.console import Console

    from freehold.loadtest.record import open_run

    told = _report(open_run(folder), _met(slo), Console(stderr=as_json, highlight=False))
    if as_json:
        print_json(told)
