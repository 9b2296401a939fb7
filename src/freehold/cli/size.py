"""`freehold size` and `freehold simulate`: from traffic and one measured instance to their number, and the money.

`size` does all of it in one command: finds the knee of what answers at the URL, learns its step law meanwhile, plays
the owner's trace through fleets until one keeps the SLO, and asks what that costs beside a paid API. `simulate` plays
one fleet of a profile, without any server.
"""

from __future__ import annotations

import math
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from freehold.cli import money
from freehold.cli.knee import FORMATS, SLO_HELP
from freehold.cli.output import JsonFlag, print_json
from freehold.core import Record
from freehold.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from freehold.cli.fleet_law import Known
    from freehold.core import Sample
    from freehold.sizing.answer import Answer as Knee
    from freehold.sizing.capacity import Capacity
    from freehold.sizing.rightsize import Answer
    from freehold.sizing.simulate import Played, Work
    from freehold.sizing.slo import Objective

Text = str | None
MEASURE, FLEET, MONEY = "Measuring", "Fleet", "Money"
Trace = Annotated[Path | None, typer.Option("--trace", help="Your traffic: arrivals and lengths.")]
TraceFormat = Annotated[str, typer.Option("--trace-format", help=FORMATS)]
Rate = Annotated[float | None, typer.Option("--rate", help="Without a trace: requests/s of Poisson traffic.")]
Input = Annotated[int | None, typer.Option("--input-tokens", min=1, help="128 unless told.")]
Output = Annotated[int | None, typer.Option("--output-tokens", min=1, help="64 unless told.")]
Longest = Annotated[int | None, typer.Option("--longest", min=1, help="Cut prompts and answers of a trace to this.")]
Growth = Annotated[float, typer.Option("--growth", help="So many times the traffic.", rich_help_panel=FLEET)]
Slo = Annotated[list[str], typer.Option("--slo", help=SLO_HELP)]


class _Bill(Record, frozen=True):
    """What was said about the money."""

    hardware: str
    rent: bool
    against: str
    prices: Path | None
    assume: tuple[str, ...]

    def asked(self, folder: Path | None, requests: str, fixed: tuple[str, ...] = ()) -> money.Asked:
        """The question to the money: about the measured folder, or a trial one without."""
        claimed = ("", "") if folder else ("1", "1/1")
        return money.Asked(
            folder=folder, requests=requests, hardware=self.hardware, rent=self.rent, catalogue=None, rate=claimed[0],
            tokens=claimed[1], api=self.against, prices=self.prices, model="", weights="",
            assume=(*fixed, *self.assume),
        )  # fmt: skip


class Asked(Record, frozen=True):
    """Traffic as it was asked for."""

    trace: Path | None
    trace_format: str
    rate: float | None
    input_tokens: int | None
    output_tokens: int | None
    longest: int | None
    growth: float
    seed: int


def size(
    url: Annotated[str, typer.Argument(help="Address of a running server with one or more instances.")],
    slo: Slo,
    trace: Trace = None,
    trace_format: TraceFormat = "auto",
    rate: Rate = None,
    input_tokens: Input = None,
    output_tokens: Output = None,
    longest: Longest = None,
    growth: Growth = 1.0,
    spare: Annotated[
        int, typer.Option("--spare", min=0, help="Instances on top, for when one fails (N+1).", rich_help_panel=FLEET)
    ] = 1,
    running: Annotated[
        int | None, typer.Option("--running", min=1, help="You run so many: may it be fewer?", rich_help_panel=FLEET)
    ] = None,
    against: Annotated[
        str, typer.Option("--against", help="Model of the paid API, by its name there.", rich_help_panel=MONEY)
    ] = "",
    prices: money.PriceFile = None,
    hardware: money.HardwareName = "",
    rent: money.Rent = False,
    assume: money.Assumptions = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A first answer within 45 s, with a wide interval.", rich_help_panel=MEASURE)
    ] = False,
    seconds: Annotated[
        Text, typer.Option("--seconds", metavar="TIME", help="Measure at most: 4min.", rich_help_panel=MEASURE)
    ] = None,
    model: Annotated[Text, typer.Option("--model", "-m", help="Default: the first.", rich_help_panel=MEASURE)] = None,
    api: Annotated[str, typer.Option("--api", help="chat or completions.", rich_help_panel=MEASURE)] = "chat",
    api_key: Annotated[Text, typer.Option("--api-key", envvar="FREEHOLD_API_KEY", show_default=False)] = None,
    processes: Annotated[int, typer.Option("--processes", min=1, max=64, rich_help_panel=MEASURE)] = 1,
    out: Annotated[Path | None, typer.Option("--out", help="Keep samples, answers and the report there.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    as_json: JsonFlag = False,
) -> None:
    """How many instances your traffic needs at your SLO, what they cost, whether the paid API is cheaper."""
    from rich.console import Console

    from freehold.cli.load import target_of
    from freehold.sizing.slo import parse

    objectives = parse(slo)
    asked = Asked(trace, trace_format, rate, input_tokens, output_tokens, longest, growth, seed)
    bill = _Bill(hardware, rent, against, prices, tuple(assume or ()))
    money.gather(bill.asked(None, "1"))  # what is wrong with it is told before minutes of measuring
    if out is not None and (out / "size.json").exists():
        raise UsageError(f"{out} has an answer in it already.", next="Name another folder with --out, or remove it.")
    work = traffic(asked, seconds=3600.0)
    console = Console(stderr=as_json, highlight=False)
    target = target_of(url, model, api, api_key, True, max(30.0, *(o.limit_ms / 100 for o in objectives)))
    with tempfile.TemporaryDirectory() if out is None else nullcontext(str(out)) as folder:
        place = Path(folder)
        knee, samples = _knee(target, objectives, asked, quick, seconds, processes, place, console)
        capacity, known, instances = _instance(url, target.model, api_key, knee, samples, place)
        answer = _size(work, known, objectives, capacity, spare)
        told = _told(url, knee, capacity, known, instances, answer, running, work, objectives)
        _show(console, told, answer, objectives)
        told |= _money(place, capacity, answer, bill, console)
        money.keep(place, "size.json", told)
        _report(place, console, kept=out is not None)
    if as_json:
        print_json(money.plain(told))


def simulate(
    slo: Slo,
    replicas: Annotated[int, typer.Option("--replicas", "-n", min=1, help="Instances.")] = 1,
    profile: Annotated[str, typer.Option("--profile", help="Its name, or a profile.json.")] = "starter-openvino-2core",
    trace: Trace = None,
    trace_format: TraceFormat = "auto",
    rate: Rate = None,
    input_tokens: Input = None,
    output_tokens: Output = None,
    longest: Longest = None,
    growth: Growth = 1.0,
    seconds: Annotated[Text, typer.Option("--seconds", metavar="TIME", help="Without a trace: 1h.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Play traffic through a fleet of a profile in virtual time: it proposes, only a measurement certifies."""
    import time

    from rich.console import Console

    from freehold.cli.load_plan import seconds_of
    from freehold.profile import open_profile
    from freehold.sizing.cells import play_in_cells
    from freehold.sizing.rightsize import fares
    from freehold.sizing.simulate import Fleet
    from freehold.sizing.slo import parse

    objectives = parse(slo)
    span_s = seconds_of(seconds, "--seconds") if seconds else 3600.0
    asked = Asked(trace, trace_format, rate, input_tokens, output_tokens, longest, growth, seed)
    work = traffic(asked, seconds=span_s)
    begun_s = time.perf_counter()
    played = play_in_cells(work, Fleet(profile=open_profile(profile), replicas=replicas), seed=seed)
    took_s = time.perf_counter() - begun_s
    kept = fares(work, played, objectives)
    told = {"replicas": replicas, "profile": profile, "requests": len(work.arrival_s), **_figures(work, played)}
    told |= {"objectives": kept, "holds": all(each.holds for each in kept), "took_s": took_s}
    console = Console(stderr=as_json, highlight=False, soft_wrap=True)
    for each in kept:
        verdict = "kept" if each.holds else "broken"
        console.print(f"{each.objective}: {verdict}, {each.missed:.2%} missed of {each.allowed:.2%}", markup=False)
    console.print(_line(told), markup=False)
    if as_json:
        print_json(told)


# ---- traffic --------------------------------------------------------------------------------------


def traffic(asked: Asked, *, seconds: float) -> Work:
    """The trace times growth, or Poisson traffic. Raises `UsageError` where neither is told."""
    import numpy as np

    from freehold.cli.load_plan import INPUT_TOKENS, OUTPUT_TOKENS
    from freehold.loadtest.trace import read
    from freehold.sizing.traffic import grown, poisson

    if asked.trace is None:
        if asked.rate is None:
            raise UsageError("Nobody has said how much traffic.", next="Give --trace FILE, or --rate REQUESTS_PER_S.")
        inputs, outputs = asked.input_tokens or INPUT_TOKENS, asked.output_tokens or OUTPUT_TOKENS
        return poisson(asked.rate * asked.growth, seconds, inputs, outputs, asked.seed)
    if asked.rate or asked.input_tokens or asked.output_tokens:
        raise UsageError("--trace tells rate and lengths already.", next="Leave --rate and the lengths out.")
    found = read(asked.trace, asked.trace_format, seed=asked.seed)
    most = asked.longest or (1 << 40)
    inputs_, outputs_ = np.minimum(found.input_tokens, most), np.minimum(found.output_tokens, most)
    return grown(found.at_s, inputs_, outputs_, asked.growth, asked.seed)


# ---- one instance ---------------------------------------------------------------------------------


def _knee(
    target: Any, objectives: tuple[Objective, ...], asked: Asked, quick: bool, seconds: str | None, processes: int,
    folder: Path, console: Console,
) -> tuple[Knee, list[Sample]]:  # fmt: skip
    """The knee of what answers at the URL, and every sample of the search."""
    from freehold.cli import knee as command
    from freehold.cli.knee_show import Watcher, show
    from freehold.loadtest.probe import probe
    from freehold.sizing.answer import answer
    from freehold.sizing.knee import Search

    plan = command.plan_of(seconds or (None if quick else "4min"), quick)
    found = probe(target, seed=asked.seed)
    trace = command.traffic_of(asked.trace, asked.trace_format, asked.input_tokens, asked.output_tokens, asked.seed)
    lengths = (asked.input_tokens, asked.output_tokens, 0.0, asked.longest)
    live = command.live_of(found, trace, lengths, plan, processes, asked.seed, folder)
    with Watcher(console, plan.longest_s) as watcher:
        search = Search(live, objectives, plan, watcher)
        told = answer(search, search.run(asked.seed))
    show(console, told, objectives)
    if told.outcome == "none":
        raise UsageError(
            "No rate keeps this SLO on one of these instances, so no number of them does.",
            told.cause.words,
            "Ask for less, shorten the answers, or serve a faster model.",
        )
    return told, [sample for trial in search.trials for sample in trial.samples]


def _instance(
    url: str, model: str, api_key: str | None, knee: Knee, samples: list[Sample], folder: Path
) -> tuple[Capacity, Known, int]:
    """What one instance carries, its step law, and how many answered."""
    from freehold.cli import fleet_law
    from freehold.cli.knee import keep, told_of

    capacity = told_of(knee, samples)
    keep(folder, knee, capacity)
    instances = fleet_law.workers(url, api_key)
    if instances > 1:
        parts = {name: getattr(capacity, name) / instances for name in ("rate_per_s", "low", "high")}
        source = f"{capacity.source}; a {instances}th of what {instances} workers carry together"
        capacity = msgspec.structs.replace(capacity, **parts, source=source, basis="derived")
    return capacity, fleet_law.learn(url, model, api_key, samples, instances), instances


def _size(work: Work, known: Known, objectives: tuple[Objective, ...], capacity: Capacity, spare: int) -> Answer:
    from freehold.sizing.rightsize import size as rightsize
    from freehold.sizing.simulate import Fleet

    fleet = Fleet(profile=known.profile, replicas=1, gap_ms=known.gap_ms)
    return rightsize(work, fleet, objectives, capacity, spare)


def _told(
    url: str, knee: Knee, capacity: Capacity, known: Known, measured_with: int, answer: Answer, running: int | None,
    work: Work, objectives: tuple[Objective, ...],
) -> dict[str, Any]:  # fmt: skip
    error = answer.simulated_per_s / capacity.rate_per_s - 1.0
    told: dict[str, Any] = {
        "sentence": _sentence(answer, running),
        "knee": {
            "rate_per_s": knee.knee_per_s,
            "low": knee.low_per_s,
            "high": knee.high_per_s,
            "cause": knee.cause.words,
        },
        "slo": [str(each) for each in objectives],
        "instances": answer.instances,
        "instances_with_spare": answer.with_spare,
        "erlang_c_instances": answer.erlang_instances,
        "capacity_per_instance": capacity,
        "measured_with_workers": measured_with,
        "requests_played": len(work.arrival_s),
        "mean_requests_per_s": answer.mean_per_s,
        "peak_requests_per_s": answer.peak_per_s,
        "utilisation_mean": answer.utilisation_mean,
        "utilisation_peak": answer.utilisation_peak,
        "simulated_capacity_per_s": answer.simulated_per_s,
        "simulation_error": error,
        "slowed_by": answer.slowness,
        "law": known.profile.step,
        "law_error": known.error,
        "law_source": known.source,
        "url": url,
    }
    if running is not None:
        told["running"] = running
    return told


def _sentence(answer: Answer, running: int | None) -> str:
    many = "1 instance" if answer.instances == 1 else f"{answer.instances} instances"
    text = f"{many} would hold this SLO on this traffic"
    text += f", {answer.with_spare} with a spare." if answer.with_spare > answer.instances else "."
    if running is None:
        return text
    if running > answer.with_spare:
        return f"{text} You run {running}: scale down by {running - answer.with_spare}."
    if running < answer.instances:
        return f"{text} You run {running}: {answer.instances - running} too few."
    return f"{text} You run {running}: right."


# ---- the money and the report ---------------------------------------------------------------------


def _money(folder: Path, capacity: Capacity, answer: Answer, bill: _Bill, console: Console) -> dict[str, Any]:
    """The bill of the fleet, and the verdict where there is an API to compare with."""
    from freehold.cli import bills
    from freehold.cli.verdict import decided_of
    from freehold.sizing import cost, inputs
    from freehold.sizing.traffic import MONTH_S
    from freehold.sizing.verdict import per_answer

    fixed = (  # so that at this volume the bill is that of the fleet that was found
        f"peak_to_mean={max(1.0, answer.peak_per_s / answer.mean_per_s):.6g}",
        f"planned_share={answer.peak_per_s / (capacity.rate_per_s * answer.instances):.6g}",
        "headroom=0",
        f"spares={answer.with_spare - answer.instances}",
    )
    asked = bill.asked(folder, f"{answer.mean_per_s * MONTH_S * capacity.success_share:.0f}", fixed)
    found = money.gather(asked)
    each = per_answer(found.inputs, found.answers)
    told: dict[str, Any] = {
        "cost_per_successful_request_usd": each,
        "verdict": None,
        "answers_per_month": found.answers,
    }
    if bill.against or bill.prices:
        decided, whole = decided_of(asked, found)
        money.keep(folder, "verdict.json", whole)
        told |= {"verdict": decided.decision, "verdict_sentence": decided.sentence}
        console.print(f"\n{decided.sentence}", markup=False, soft_wrap=True)
    else:
        own = cost.own_bill(inputs.case(found.inputs), found.answers)
        console.print(bills.bill_table(f"\n{answer.with_spare} instances", own))
        console.print("No API to compare with: name its model with --against.", style="dim")
    return told


def _report(folder: Path, console: Console, *, kept: bool) -> None:
    if not kept:
        return
    from freehold.cli.report import made

    console.print(f"\nReport: {made(folder)}", markup=False, soft_wrap=True)


# ---- showing --------------------------------------------------------------------------------------


def _show(console: Console, told: dict[str, Any], answer: Answer, objectives: tuple[Objective, ...]) -> None:
    console.print(f"\n[bold]{told['sentence']}[/]", soft_wrap=True)
    for each in answer.kept:
        console.print(f"  {each.objective}: {each.missed:.2%} would miss of {each.allowed:.2%} allowed", markup=False)
    console.print(
        f"  traffic {answer.mean_per_s:.2f} requests/s, {answer.peak_per_s:.2f} in the busiest minute; an instance "
        f"would be used to {answer.utilisation_mean:.0%}, {answer.utilisation_peak:.0%} at the peak; Erlang C says "
        f"{answer.erlang_instances}",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    console.print(
        f"  the simulator's own error: {told['simulation_error']:+.1%} in requests/s at the SLO before it was fitted "
        f"(law from {told['law_source']}, off by {told['law_error']:.1%} in the median)",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    if any(each.metric == "itl" for each in objectives):
        console.print("  itl: simulated as each answer's mean; single gaps are only measured", style="dim")


def _figures(work: Work, played: Played) -> dict[str, Any]:
    import numpy as np

    done = ~np.isnan(played.first_s)
    span_s = float(np.nanmax(played.end_s) - work.arrival_s[0]) if len(work.arrival_s) else math.nan
    found: dict[str, Any] = {"utilisation": float(played.busy_s.sum() / (len(played.busy_s) * max(span_s, 1e-9)))}
    for name, seconds in (("ttft_ms", played.first_s - work.arrival_s), ("e2e_ms", played.end_s - work.arrival_s)):
        values = seconds[done] * 1000.0
        found[name] = {f"p{p}": float(np.percentile(values, p)) for p in (50, 95, 99)} if values.size else None
    return found


def _line(told: dict[str, Any]) -> str:
    e2e, ttft, instances = told["e2e_ms"], told["ttft_ms"], told["replicas"]
    return (
        f"{told['requests']:,} requests on {instances} {'instance' if instances == 1 else 'instances'}: "
        f"e2e p50 {e2e['p50']:.0f}, p99 {e2e['p99']:.0f} ms; ttft p50 {ttft['p50']:.0f}, p99 {ttft['p99']:.0f} ms; "
        f"busy {told['utilisation']:.0%}; played in {told['took_s']:.1f} s"
    )
