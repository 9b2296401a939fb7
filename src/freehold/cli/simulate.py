"""`freehold simulate`: one fleet of a profile on your traffic in virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.cli.output import JsonFlag, print_json
from freehold.cli.traffic import Growth, Input, Longest, Output, Rate, Slo, Trace, TraceFormat

if TYPE_CHECKING:
    from rich.console import Console

    from freehold.profile import Profile
    from freehold.sizing.work import Played, Work

Text = str | None
STRETCH_S = 300.0
"""Of a trace, as a knee's trials see it."""


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
    measured: Annotated[
        Path | None, typer.Option("--measured", metavar="DIR", help="Folder of `freehold knee` on one such instance.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Play traffic through a fleet of a profile in virtual time: it proposes, only a measurement certifies."""
    from rich.console import Console

    from freehold.cli import traffic
    from freehold.cli.load_plan import seconds_of
    from freehold.profile import open_profile

    asked = traffic.Traffic(trace, trace_format, rate, input_tokens, output_tokens, longest, growth, seed)
    known = open_profile(profile)
    fit = traffic.fitted(traffic.read(asked), asked, known.context_tokens)
    work = traffic.work_of(asked, fit.trace if fit else None, seconds=seconds_of(seconds or "1h", "--seconds"))
    told = {"replicas": replicas, "profile": profile, "cut_share": fit.cut_share if fit else 0.0}
    told |= _played(work, known, replicas, slo, seed)
    if measured:
        told |= _error(measured, work, known, stretched=fit is not None)
    console = Console(stderr=as_json, highlight=False, soft_wrap=True)
    if fit and fit.words:
        console.print(fit.words, markup=False)
    _show(console, told)
    if as_json:
        print_json(told)


def _played(work: Work, profile: Profile, replicas: int, slo: list[str], seed: int) -> dict[str, Any]:
    import time

    from freehold.sizing.cells import play_in_cells
    from freehold.sizing.rightsize import fares
    from freehold.sizing.work import Fleet
    from freehold.slo import parse

    objectives = parse(slo)
    begun_s = time.perf_counter()
    played = play_in_cells(work, Fleet(profile=profile, replicas=replicas), seed=seed)
    took_s = time.perf_counter() - begun_s
    kept = fares(work, played, objectives)
    told = {"requests": len(work.arrival_s), **_figures(work, played), "objectives": kept}
    return told | {"holds": all(each.holds for each in kept), "took_s": took_s}


def _show(console: Console, told: dict[str, Any]) -> None:
    for each in told["objectives"]:
        verdict = "kept" if each.holds else "broken"
        console.print(f"{each.objective}: {verdict}, {each.missed:.2%} missed of {each.allowed:.2%}", markup=False)
    console.print(_line(told), markup=False)
    if "simulation_error" not in told:
        console.print("nothing measured to compare with (--measured DIR): how far off this is isn't known", style="dim")
        return
    where = "within" if told["simulation_within_interval"] else "outside"
    console.print(
        f"one simulated instance carries {told['simulated_capacity_per_s']:.2f} requests/s at the measured SLO, the "
        f"measured one {told['measured_capacity_per_s']:.2f}: {told['simulation_error']:+.1%}, {where} its interval",
        markup=False,
    )


def _error(folder: Path, work: Work, profile: Profile, *, stretched: bool) -> dict[str, Any]:
    """How far one simulated instance is off from the measured one, in requests/s at the SLO of that measurement."""
    from freehold.cli.money import read
    from freehold.sizing.capacity import from_knee
    from freehold.sizing.rightsize import simulated_capacity
    from freehold.sizing.work import Fleet
    from freehold.slo import parse

    found = from_knee(read(folder / "knee.json"), str(folder / "knee.json"))
    stretch = round(found.rate_per_s * STRETCH_S) if stretched else 0
    simulated = simulated_capacity(work, Fleet(profile=profile, replicas=1), parse([found.slo]), stretch)
    return {
        "measured_capacity_per_s": found.rate_per_s,
        "simulated_capacity_per_s": simulated,
        "simulation_error": simulated / found.rate_per_s - 1.0,
        "simulation_within_interval": found.low <= simulated <= found.high,
    }


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
