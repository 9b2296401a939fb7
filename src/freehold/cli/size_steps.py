"""The steps of `freehold size`: the knee of one instance and its law, the fleet that holds, the money, the report."""

from __future__ import annotations

import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from freehold.cli import money
from freehold.core import Record
from freehold.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from freehold.cli.fleet_law import Known
    from freehold.cli.traffic import Fitted, Traffic
    from freehold.sample import Sample
    from freehold.sizing.answer import Answer as Knee
    from freehold.sizing.capacity import Capacity
    from freehold.sizing.found import Plan
    from freehold.sizing.rightsize import Answer
    from freehold.sizing.work import Work
    from freehold.slo import Objective


ON_PROCESSORS = ("openvino", "llamacpp")
VIRTUAL = "cloud-2vcpu"


class Bill(Record, frozen=True):
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


def on_hardware(bill: Bill, url: str, model: str, api_key: str | None, console: Console) -> Bill:
    """The bill with what an instance runs on. Where nobody says it and the server runs on a processor, a rented virtual
    machine with as many threads is assumed; of any other server `money.gather` asks for it."""
    from freehold.cli import fleet_law

    if bill.hardware or money.says_hardware(bill.assume):
        return bill
    engine, threads = fleet_law.engine_of(url, model, api_key)
    if engine not in ON_PROCESSORS:
        return bill
    count = max(1, math.ceil(threads / 2))
    name = VIRTUAL if count == 1 else f"{count}x {VIRTUAL}"
    console.print(
        f"Nobody has said what an instance runs on: {name}, rented, is assumed (--hardware NAME says better).",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    return msgspec.structs.replace(bill, hardware=name, rent=True)


def measure(
    target: Any, objectives: tuple[Objective, ...], asked: Traffic, fit: Fitted | None,
    plan: Plan, processes: int, folder: Path, console: Console,
) -> tuple[Knee, list[Sample]]:  # fmt: skip
    """The knee of what answers at the URL, and every sample of the search."""
    from freehold.cli import knee as command
    from freehold.cli.knee_show import Watcher, alone, show
    from freehold.loadtest.probe import probe
    from freehold.sizing.answer import answer
    from freehold.sizing.knee import Search

    found = probe(target, seed=asked.seed)
    live = command.live_of(found, fit.trace if fit else None, asked, plan, processes=processes, out=folder)
    with Watcher(console, plan.longest_s) as watcher:
        search = Search(live, objectives, plan, watcher)
        told = answer(search, search.run(asked.seed))
    show(console, told, objectives)
    if told.outcome == "none":
        raise UsageError(
            f"No rate keeps {told.binding} on one of these instances, so no number of them does.",
            alone(told),
            "Ask for less, shorten the answers, or serve a faster model.",
        )
    return told, [sample for trial in search.trials for sample in trial.samples]


def instance(
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


def rightsized(
    work: Work, known: Known, objectives: tuple[Objective, ...], capacity: Capacity, spare: int, stretch: int
) -> Answer:
    from freehold.sizing.rightsize import size as rightsize
    from freehold.sizing.work import Fleet

    fleet = Fleet(profile=known.profile, replicas=1, gap_ms=known.gap_ms)
    return rightsize(work, fleet, objectives, capacity, spare, stretch)


def told_of(
    url: str, knee: Knee, capacity: Capacity, known: Known, measured_with: int, answer: Answer, running: int | None,
    work: Work, objectives: tuple[Objective, ...],
) -> dict[str, Any]:  # fmt: skip
    from freehold.sizing.traffic import per_minute

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
        "simulation_within_interval": capacity.low <= answer.simulated_per_s <= capacity.high,
        "slowed_by": answer.slowness,
        "law": known.profile.step,
        "law_error": known.error,
        "law_source": known.source,
        "url": url,
        "tried": answer.tried,
        "per_minute": per_minute(work.arrival_s),
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


def bill_of(folder: Path, capacity: Capacity, answer: Answer, bill: Bill, console: Console) -> dict[str, Any]:
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
    found = _derived(money.gather(asked), fixed)
    each = per_answer(found.inputs, found.answers)
    told: dict[str, Any] = {
        "cost_per_successful_request_usd": each,
        "verdict": None,
        "answers_per_month": found.answers,
    }
    if bill.against or bill.prices:
        decided, whole = decided_of(asked, found)
        money.keep(folder, "verdict.json", {**whole, "command": shlex.join(["freehold", *sys.argv[1:]])})
        told |= {"verdict": decided.decision, "verdict_sentence": decided.sentence}
        console.print(f"\n{decided.sentence}", markup=False, soft_wrap=True)
    else:
        own = cost.own_bill(inputs.case(found.inputs), found.answers)
        console.print(bills.bill_table(f"\n{answer.with_spare} instances", own))
        console.print("No API to compare with: name its model with --against.", style="dim")
    return told


def _derived(found: money.Gathered, fixed: tuple[str, ...]) -> money.Gathered:
    """What was fixed was not said by anybody: it follows from the fleet."""
    from freehold.sizing.figure import parse

    inputs = dict(found.inputs)
    for text in fixed:
        name, _, value = text.partition("=")
        if inputs[name].value == parse(name, value).value:
            source = "so that the bill is that of the fleet that holds the SLO on this traffic"
            inputs[name] = msgspec.structs.replace(inputs[name], basis="derived", source=source)
    return msgspec.structs.replace(found, inputs=inputs)


def report(folder: Path, console: Console, *, kept: bool) -> None:
    if not kept:
        return
    from freehold.cli.report import made

    console.print(f"\nReport: {made(folder)}", markup=False, soft_wrap=True)
