"""`freehold knee`: at which rate does a server break its SLO, and why?

Joins the search (`sizing/knee.py`), which knows no network, with the load client, which knows no statistics.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli import traffic
from freehold.cli.output import JsonFlag, print_json
from freehold.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from freehold.cli.knee_probe import Live
    from freehold.cli.traffic import Fitted
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
Option = typer.Option


def knee(
    url: Annotated[str, typer.Argument(help="Address of the server.")],
    slo: traffic.Slo,
    trace: traffic.Trace = None,
    trace_format: traffic.TraceFormat = "auto",
    input_tokens: traffic.Input = None,
    output_tokens: traffic.Output = None,
    spread: Annotated[float, Option("--spread", min=0.0, max=0.99, help="Lengths vary by ± this share.")] = 0.0,
    longest: traffic.Longest = None,
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
    asked = traffic.Traffic(
        trace, trace_format, input_tokens=input_tokens, output_tokens=output_tokens, longest=longest, seed=seed
    )
    rows = traffic.read(asked)
    if out is not None and (out / ANSWER).exists():
        raise UsageError(f"{out} has an answer in it already.", next="Name another folder with --out, or remove it.")
    console = Console(stderr=as_json, highlight=False)
    found = probe(target_of(url, model, api, api_key, True, patience_s(objectives)), seed=seed)
    fit = traffic.fitted(rows, asked, traffic.context_of(url, found.target.model, api_key))
    for line in _what(found, fit, asked):
        console.print(line, markup=False, soft_wrap=True)
    live = live_of(found, fit.trace if fit else None, asked, plan, spread=spread, processes=processes, out=out)
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


def plan_of(seconds: str | None, quick: bool) -> Plan:
    from freehold.cli.load_plan import seconds_of
    from freehold.sizing.found import Plan

    if seconds and quick:
        raise UsageError("--quick and --seconds don't go together.", next="Give one of them.")
    if quick:
        return Plan(longest_s=QUICK_S, trials=QUICK_TRIALS)
    return Plan(longest_s=seconds_of(seconds, "--seconds") if seconds else LONG_S)


def patience_s(objectives: tuple[Objective, ...]) -> float:
    """When a request is given up: long after every limit."""
    return max(30.0, *(10 * objective.limit_ms / 1000 for objective in objectives))


def _what(found: Found, fit: Fitted | None, asked: traffic.Traffic) -> list[str]:
    from freehold.cli.load_plan import INPUT_TOKENS, OUTPUT_TOKENS

    where = f"{found.target.model} at {found.target.url}"
    if fit is not None:
        return [f"{where}: {fit.trace.name}, {len(fit.trace)} requests", *([fit.words] if fit.words else [])]
    inputs, outputs = asked.input_tokens or INPUT_TOKENS, asked.output_tokens or OUTPUT_TOKENS
    return [f"{where}: {inputs} tokens in, {outputs} out, Poisson arrivals"]


def live_of(
    found: Found, rows: Trace | None, asked: traffic.Traffic, plan: Plan, *, spread: float = 0.0, processes: int,
    out: Path | None,
) -> Live:  # fmt: skip
    """The server as the search sees it."""
    from freehold.cli.knee_probe import Live
    from freehold.cli.load_plan import INPUT_TOKENS, OUTPUT_TOKENS
    from freehold.loadtest.prompts import of_length, of_trace
    from freehold.loadtest.proof import ceiling

    if rows is not None:
        prompts = of_trace(rows, found.scale, seed=asked.seed)
        inputs, outputs = int(rows.input_tokens.mean()), int(rows.output_tokens.mean())
    else:
        inputs, outputs = asked.input_tokens or INPUT_TOKENS, asked.output_tokens or OUTPUT_TOKENS
        prompts = of_length(inputs, outputs, found.scale, spread=spread, seed=asked.seed)
    reached = ceiling(found.target.api, processes, "word " * max(1, inputs), max(1, outputs))
    return Live(
        found.target, prompts, ceiling_per_s=CEILING_SHARE * reached.requests_per_s, longest_s=plan.longest_s,
        processes=processes, trace=rows, out=out,
    )  # fmt: skip


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
