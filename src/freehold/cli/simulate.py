"""`freehold simulate`: one fleet of a profile on your traffic in virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.cli.output import JsonFlag, print_json
from freehold.cli.traffic import Growth, Input, Longest, Output, Rate, Slo, Trace, TraceFormat

if TYPE_CHECKING:
    from freehold.sizing.work import Played, Work

Text = str | None


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

    from freehold.cli import traffic
    from freehold.cli.load_plan import seconds_of
    from freehold.profile import open_profile
    from freehold.sizing.cells import play_in_cells
    from freehold.sizing.rightsize import fares
    from freehold.sizing.work import Fleet
    from freehold.slo import parse

    objectives = parse(slo)
    span_s = seconds_of(seconds, "--seconds") if seconds else 3600.0
    asked = traffic.Traffic(trace, trace_format, rate, input_tokens, output_tokens, longest, growth, seed)
    told_profile = open_profile(profile)
    fit = traffic.fitted(traffic.read(asked), asked, told_profile.context_tokens)
    work = traffic.work_of(asked, fit.trace if fit else None, seconds=span_s)
    begun_s = time.perf_counter()
    played = play_in_cells(work, Fleet(profile=told_profile, replicas=replicas), seed=seed)
    took_s = time.perf_counter() - begun_s
    kept = fares(work, played, objectives)
    told = {"replicas": replicas, "profile": profile, "requests": len(work.arrival_s), **_figures(work, played)}
    told |= {"objectives": kept, "holds": all(each.holds for each in kept), "took_s": took_s}
    told |= {"cut_share": fit.cut_share if fit else 0.0}
    console = Console(stderr=as_json, highlight=False, soft_wrap=True)
    if fit and fit.words:
        console.print(fit.words, markup=False)
    for each in kept:
        verdict = "kept" if each.holds else "broken"
        console.print(f"{each.objective}: {verdict}, {each.missed:.2%} missed of {each.allowed:.2%}", markup=False)
    console.print(_line(told), markup=False)
    if as_json:
        print_json(told)


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
