"""`freehold simulate`: one fleet of a profile on your traffic in virtual time; and what traffic is, for `size` too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.cli.knee import FORMATS, SLO_HELP
from freehold.cli.output import JsonFlag, print_json
from freehold.core import Record
from freehold.errors import UsageError

if TYPE_CHECKING:
    from freehold.sizing.work import Played, Work

Text = str | None
FLEET = "Fleet"
Trace = Annotated[Path | None, typer.Option("--trace", help="Your traffic: arrivals and lengths.")]
TraceFormat = Annotated[str, typer.Option("--trace-format", help=FORMATS)]
Rate = Annotated[float | None, typer.Option("--rate", help="Without a trace: requests/s of Poisson traffic.")]
Input = Annotated[int | None, typer.Option("--input-tokens", min=1, help="128 unless told.")]
Output = Annotated[int | None, typer.Option("--output-tokens", min=1, help="64 unless told.")]
Longest = Annotated[int | None, typer.Option("--longest", min=1, help="Cut prompts and answers of a trace to this.")]
Growth = Annotated[float, typer.Option("--growth", help="So many times the traffic.", rich_help_panel=FLEET)]
Slo = Annotated[list[str], typer.Option("--slo", help=SLO_HELP)]


class Traffic(Record, frozen=True):
    """Traffic as it was asked for."""

    trace: Path | None
    trace_format: str
    rate: float | None
    input_tokens: int | None
    output_tokens: int | None
    longest: int | None
    growth: float
    seed: int


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
    from freehold.sizing.work import Fleet
    from freehold.slo import parse

    objectives = parse(slo)
    span_s = seconds_of(seconds, "--seconds") if seconds else 3600.0
    asked = Traffic(trace, trace_format, rate, input_tokens, output_tokens, longest, growth, seed)
    work = work_of(asked, seconds=span_s)
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


def work_of(asked: Traffic, *, seconds: float) -> Work:
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


def _figures(work: Work, played: Played) -> dict[str, Any]:
    import numpy as np

    done = ~np.isnan(played.first_s)
    span_s = float(np.nanmax(played.end_s) - work.arrival_s[0])
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
