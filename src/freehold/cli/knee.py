"""`freehold knee`: at which rate does a server break its SLO, and why?

Joins the search (`sizing/knee.py`), which knows no network, with the load client, which knows no statistics.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli.output import JsonFlag, print_json
from freehold.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from freehold.cli.knee_probe import Live
    from freehold.loadtest.probe import Found
    from freehold.loadtest.trace import Trace
    from freehold.sample import Sample
    from freehold.sizing.answer import Answer
    from freehold.sizing.capacity import Capacity
    from freehold.sizing.found import Plan
    from freehold.slo import Objective

LONG_S, QUICK_S = 300.0, 30.0
QUICK_TRIALS = 3
CEILING_SHARE = 0.7
"""Of what this client can do at most, so much may be asked of it."""
Text = str | None
ANSWER = "knee.json"
FORMATS = "azure, mooncake, burstgpt, servegen, freehold."
SLO_HELP = '"p99 e2e < 500ms", "p95 ttft < 200ms", "error rate < 1%"; several.'


Option = typer.Option


def knee(
    url: Annotated[str, typer.Argument(help="Address of the server.")],
    slo: Annotated[list[str], Option("--slo", help=SLO_HELP)],
    trace: Annotated[Path | None, Option("--trace", help="Arrivals and lengths of this traffic.")] = None,
    trace_format: Annotated[str, Option("--trace-format", help=FORMATS)] = "auto",
    input_tokens: Annotated[int | None, Option("--input-tokens", min=1, help="128 unless told.")] = None,
    output_tokens: Annotated[int | None, Option("--output-tokens", min=1, help="64 unless told.")] = None,
    spread: Annotated[float, Option("--spread", min=0.0, max=0.99, help="Lengths vary by ± this share.")] = 0.0,
    longest: Annotated[int | None, Option("--longest", min=1, help="Cut a trace's prompts to this.")] = None,
    headroom: Annotated[float, Option("--headroom", min=0.0, max=0.9, help="Plan so much below the knee.")] = 0.2,
    seconds: Annotated[Text, Option("--seconds", metavar="TIME", help="Measure at most: 5min unless told.")] = None,
    quick: Annotated[bool, Option("--quick", help="A first answer within 45 s, with a wide interval.")] = False,
    model: Annotated[Text, Option("--model", "-m", help="Default: the first.")] = None,
    api: Annotated[str, Option("--api", help="chat or completions.")] = "chat",
    api_key: Annotated[Text, Option("--api-key", envvar="FREEHOLD_API_KEY", show_default=False)] = None,
    out: Annotated[Path | None, Option("--out", help="Keep all samples and the answer in this folder.")] = None,
    processes: Annotated[int, Option("--processes", min=1, max=64, help="That send.")] = 1,
    seed: Annotated[int, Option("--seed", min=0, help="The same seed sends the same.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Find the rate at which a server breaks its SLO, with an interval, the reason, and a rate to plan with."""
    from rich.console import Console

    from freehold.cli.load import target_of
    from freehold.loadtest.probe import probe
    from freehold.slo import parse

    objectives, plan = parse(slo), plan_of(seconds, quick)
    traffic = traffic_of(trace, trace_format, input_tokens, output_tokens, seed)
    if out is not None and (out / ANSWER).exists():
        raise UsageError(f"{out} has an answer in it already.", next="Name another folder with --out, or remove it.")
    console = Console(stderr=as_json, highlight=False)
    found = probe(target_of(url, model, api, api_key, True, _patience_s(objectives)), seed=seed)
    console.print(_what(found, traffic, input_tokens, output_tokens), markup=False)
    lengths = (input_tokens, output_tokens, spread, longest)
    live = live_of(found, traffic, lengths, plan, processes, seed, out)
    told = _search(live, objectives, plan, seed, headroom, console)
    if out is not None:
        keep(out, *told)
        console.print(f"\nsamples of every trial and the answer in {out}", markup=False)
    if as_json:
        import msgspec

        print_json(
            msgspec.json.decode(msgspec.json.encode(told[0]))
        )  # what isn't bounded is null, as JSON has no infinity


def _search(
    live: Live, objectives: tuple[Objective, ...], plan: Plan, seed: int, headroom: float, console: Console
) -> tuple[Answer, Capacity]:
    from freehold.cli.knee_show import Watcher, show
    from freehold.sizing.answer import answer
    from freehold.sizing.knee import Search

    with Watcher(console, plan.longest_s) as watcher:
        search = Search(live, objectives, plan, watcher)
        told = answer(search, search.run(seed), headroom)
    show(console, told, objectives)
    return told, told_of(told, [sample for trial in search.trials for sample in trial.samples])


def traffic_of(
    trace: Path | None, trace_format: str, inputs: int | None, outputs: int | None, seed: int
) -> Trace | None:
    from freehold.cli.load_plan import Wanted, trace_of

    if trace is None:
        return None
    if inputs or outputs:
        raise UsageError("--trace has lengths already.", next="Leave out --input-tokens and --output-tokens.")
    return trace_of(Wanted(trace=trace, trace_format=trace_format, seed=seed))


def plan_of(seconds: str | None, quick: bool) -> Plan:
    from freehold.cli.load_plan import seconds_of
    from freehold.sizing.found import Plan

    if seconds and quick:
        raise UsageError("--quick and --seconds don't go together.", next="Give one of them.")
    if quick:
        return Plan(longest_s=QUICK_S, trials=QUICK_TRIALS)
    return Plan(longest_s=seconds_of(seconds, "--seconds") if seconds else LONG_S)


def _patience_s(objectives: tuple[Objective, ...]) -> float:
    """When a request is given up: long after every limit."""
    return max(30.0, *(10 * objective.limit_ms / 1000 for objective in objectives))


def _what(found: Found, traffic: Trace | None, inputs: int | None, outputs: int | None) -> str:
    from freehold.cli.load_plan import INPUT_TOKENS, OUTPUT_TOKENS

    of = (
        f"{traffic.name}, {len(traffic)} requests"
        if traffic
        else f"{inputs or INPUT_TOKENS} tokens in, {outputs or OUTPUT_TOKENS} out, Poisson arrivals"
    )
    return f"{found.target.model} at {found.target.url}: {of}"


def live_of(
    found: Found,
    traffic: Trace | None,
    lengths: tuple[int | None, int | None, float, int | None],
    plan: Plan,
    processes: int,
    seed: int,
    out: Path | None,
) -> Live:
    from freehold.cli.knee_probe import Live
    from freehold.cli.load_plan import INPUT_TOKENS, OUTPUT_TOKENS
    from freehold.loadtest.prompts import of_length, of_trace
    from freehold.loadtest.proof import ceiling

    inputs, outputs, spread, longest = lengths
    if traffic is not None:
        prompts = of_trace(traffic, found.scale, seed=seed, longest=longest)
        inputs, outputs = int(traffic.input_tokens.mean()), int(traffic.output_tokens.mean())
    else:
        inputs, outputs = inputs or INPUT_TOKENS, outputs or OUTPUT_TOKENS
        prompts = of_length(inputs, outputs, found.scale, spread=spread, seed=seed)
    reached = ceiling(found.target.api, processes, "word " * max(1, inputs), max(1, outputs))
    return Live(
        found.target,
        prompts,
        ceiling_per_s=CEILING_SHARE * reached.requests_per_s,
        longest_s=plan.longest_s,
        processes=processes,
        trace=traffic,
        out=out,
    )


def told_of(told: Answer, samples: Sequence[Sample]) -> Capacity:
    """What whoever sizes or pays reads of the answer."""
    import sys

    from freehold.sizing.answer import capacity_of

    return capacity_of(told, samples, " ".join(("freehold", *sys.argv[1:])))


def keep(out: Path, told: Answer, capacity: Capacity) -> None:
    """Write knee.json."""
    import msgspec

    out.mkdir(parents=True, exist_ok=True)
    whole = {**msgspec.to_builtins(told), "capacity": msgspec.to_builtins(capacity), "command": capacity.source}
    (out / ANSWER).write_bytes(msgspec.json.format(msgspec.json.encode(whole)) + b"\n")
