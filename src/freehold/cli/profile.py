"""`freehold profile` and `freehold sweep`: what the engine gives at each batch size, measured on this machine.

Both measure the same levels in this process, through the engine's own protocol. `sweep` shows them; `profile` also fits
the step law and keeps all of it where `freehold serve` finds it.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from freehold.cli.output import ConfigFile, JsonFlag, SetFlag, gib, overrides, print_json
from freehold.core import Record
from freehold.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from freehold.config import Config
    from freehold.core import LoadPhase, ModelCard
    from freehold.engine.base import EngineSpec
    from freehold.engine.measure import Level, Measured
    from freehold.machine import Machine
    from freehold.profile import Profile
    from freehold.sizing.steplaw import Fit
    from freehold.sizing.sweetspot import SweetSpot

DEFAULT_BATCHES = "1,2,4,8,16,32,64"
Model = Annotated[str | None, typer.Argument(help="As in `freehold serve`; default: the starter.")]
Batches = Annotated[str, typer.Option("--batches", help="Batch sizes to measure, comma-separated.")]
Prompt = Annotated[int, typer.Option("--input-tokens", help="Prompt length of each stream.")]
Output = Annotated[int, typer.Option("--output-tokens", help="Answer length of each stream.")]
Quick = Annotated[bool, typer.Option("--quick", help="Two seconds at most for each batch size instead of ten.")]
EngineFlag = Annotated[str | None, typer.Option("--engine", help="auto, openvino, llamacpp or sim.")]
Threads = Annotated[int | None, typer.Option("--threads", help="Default: all cores.")]


class Taken(Record, frozen=True):
    """Everything one measurement gave; what is printed, and what `--json` and sweep.json hold."""

    model: str
    engine: str
    machine: str
    quantization: str
    phases: tuple[LoadPhase, ...]
    levels: tuple[Level, ...]
    sweet: SweetSpot
    bandwidth_bytes_per_s: float
    """Of plain copies: the ceiling of writing tokens."""
    peak_ops_per_s: float
    """Of matrices, the way the engine multiplies them; 0 where that isn't known."""
    fit: Fit
    bytes_per_step: tuple[float, ...]
    """Weights and contexts that a step of each level reads."""
    ops_per_step: tuple[float, ...]
    command: str


def sweep(
    model: Model = None,
    batches: Batches = DEFAULT_BATCHES,
    input_tokens: Prompt = 64,
    output_tokens: Output = 64,
    engine: EngineFlag = None,
    threads: Threads = None,
    quick: Quick = False,
    out: Annotated[str | None, typer.Option("--out", help="Folder for sweep.json, for `freehold report`.")] = None,
    set_: SetFlag = None,
    config_file: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure tokens/s, latency and memory at each batch size, and mark the one that pays."""
    config = _config(model, engine, threads, set_, config_file)
    taken, _ = _measure(config, _list(batches), input_tokens, output_tokens, quick=quick, as_json=as_json)
    if out is not None:
        path = Path(out) / "sweep.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(taken), indent=2))
    if as_json:
        print_json(taken)


def profile(
    model: Model = None,
    batches: Batches = DEFAULT_BATCHES,
    input_tokens: Prompt = 64,
    output_tokens: Output = 64,
    engine: EngineFlag = None,
    threads: Threads = None,
    quick: Quick = False,
    out: Annotated[
        str | None, typer.Option("--out", help="File; default: where `freehold serve` finds it by itself.")
    ] = None,
    set_: SetFlag = None,
    config_file: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure this model on this machine and keep its profile: load times, step law, sweet spot, memory."""
    from freehold.engine.profiled import FOLDER
    from freehold.profile import save

    config = _config(model, engine, threads, set_, config_file)
    taken, made = _measure(config, _list(batches), input_tokens, output_tokens, quick=quick, as_json=as_json)
    path = Path(out) if out is not None else config.home / FOLDER / f"{made.name}.json"
    save(made, path)
    if as_json:
        print_json({"path": str(path), "profile": made, "measured": taken})
    else:
        _console(as_json=False).print(f"\nkept in {path}: `freehold serve` takes its batch limit from it", markup=False)


# ---- measuring ------------------------------------------------------------------------------------


def _measure(
    config: Config, batches: list[int], input_tokens: int, output_tokens: int, *, quick: bool, as_json: bool
) -> tuple[Taken, Profile]:
    from contextlib import AbstractContextManager

    from freehold import machine
    from freehold.cli.serve import settle
    from freehold.cli.startup import StartUp
    from freehold.core import Phase
    from freehold.engine.choose import build
    from freehold.engine.measure import sweep as measure
    from freehold.model.source import Report

    console = _console(as_json=as_json)
    with StartUp(config, as_json=as_json) as start_up:
        spec = msgspec.structs.replace(settle(config, start_up), max_batch=max(batches), max_batch_from="")
        if spec.engine == "remote":
            raise UsageError(
                "A remote can't be profiled.", "Its steps are on another machine.", "Measure it: `freehold knee URL`."
            )
        phases: list[LoadPhase] = []

        def timed(name: Phase, detail: str) -> AbstractContextManager[Report | None]:
            return _timed(phases, name, detail)

        running = build(spec)
        card = running.load(timed)
        _check_room(card, batches, input_tokens, output_tokens)
        here = machine.describe()
        ceilings = _ceilings(spec, card, here, 0.3 if quick else 1.5)
        _head(console, card, phases, ceilings)
        live = _Live(console)
        try:
            measured = measure(
                running, batches, prompt_tokens=input_tokens, output_tokens=output_tokens,
                level_s=2.0 if quick else 10.0, heard=lambda level: live.heard(level, card, ceilings),
            )  # fmt: skip
        finally:
            running.close()
    taken, made = _understood(config, spec, card, here, tuple(phases), measured, ceilings)
    _conclude(console, taken)
    return taken, made


def _understood(
    config: Config, spec: EngineSpec, card: ModelCard, here: Machine, phases: tuple[LoadPhase, ...],
    measured: Measured, ceilings: tuple[float, float],
) -> tuple[Taken, Profile]:  # fmt: skip
    """What the levels say: the law, the sweet spot, and the profile of both."""
    from freehold.engine.profiled import key_of
    from freehold.profile import Profile
    from freehold.sizing.steplaw import fit_levels, fit_steps
    from freehold.sizing.sweetspot import Point, sweet_spot

    levels = measured.levels
    points = [
        Point(streams=x.streams, tokens_per_s=x.tokens_per_s, context_tokens=x.context_tokens, kv_usage=x.kv_usage)
        for x in levels
    ]
    hidden = any(step.prefill_tokens is None for step in measured.steps)
    firsts = [(x.streams, x.step_ms_p50, x.first_token_ms, x.context_tokens) for x in levels]
    fit = fit_levels(firsts) if hidden else fit_steps(measured.steps)
    sweet = sweet_spot(points, fit.law)
    key = key_of(spec.source, spec.engine, config.model.quantization, here)
    command = f"freehold profile {config.model.model} --batches {','.join(str(x.streams) for x in levels)}"
    bytes_per_step = tuple(_bytes(card, x.streams, x.context_tokens) for x in levels)
    ops = tuple(2.0 * card.parameters * x.streams for x in levels)
    taken = Taken(
        model=key.model, engine=key.engine, machine=key.machine, quantization=card.quantization, phases=phases,
        levels=levels, sweet=sweet, bandwidth_bytes_per_s=ceilings[0], peak_ops_per_s=ceilings[1], fit=fit,
        bytes_per_step=bytes_per_step, ops_per_step=ops, command=command,
    )  # fmt: skip
    how = f"`{command}`: {len(measured.steps)} steps, of {fit.seen} the law's median error is {fit.error:.1%}."
    made = Profile(
        name=f"{spec.name}-{spec.engine}", model=key.model, engine=key.engine, machine=key.machine,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(), source=how, step=fit.law,
        sweet_batch=sweet.streams, max_batch=card.max_batch, context_tokens=card.context_tokens,
        kv_bytes_per_token=card.kv_bytes_per_token, weight_bytes=card.weight_bytes, parameters=card.parameters,
        bandwidth_bytes_per_s=ceilings[0], load=phases, versions=card.versions,
        basis={
            "step": "derived", "sweet_batch": "measured", "load": "measured", "bandwidth_bytes_per_s": "measured",
            "max_batched_tokens": "assumed",
        },
    )  # fmt: skip
    return taken, made


class _timed:
    """Times one phase of loading."""

    def __init__(self, phases: list[LoadPhase], name: Any, detail: str) -> None:
        self._phases, self._name, self._detail = phases, name, detail

    def __enter__(self) -> None:
        import time

        self._start_s = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        import time

        from freehold.core import LoadPhase

        seconds = time.perf_counter() - self._start_s
        self._phases.append(LoadPhase(name=self._name, seconds=seconds, detail=self._detail))


def _ceilings(spec: EngineSpec, card: ModelCard, here: Machine, seconds: float) -> tuple[float, float]:
    """(bytes a second of memory, matrix operations a second); 0 where it would mean nothing."""
    from freehold import machine

    if spec.engine == "sim":
        return 0.0, 0.0
    threads = spec.threads or here.cores
    bandwidth = machine.memory_bandwidth_gb_s(threads, seconds) * 1e9
    if spec.engine != "openvino":
        return bandwidth, 0.0
    from freehold.engine.openvino.peak import matrix_peak_gops

    kind = "int8" if "8" in card.quantization else "bf16"
    return bandwidth, matrix_peak_gops(threads, "int8" if kind == "int8" else "bf16", seconds) * 1e9


def _bytes(card: ModelCard, streams: int, context_tokens: float) -> float:
    return card.weight_bytes + card.kv_bytes_per_token * streams * context_tokens


def _check_room(card: ModelCard, batches: list[int], input_tokens: int, output_tokens: int) -> None:
    if card.context_tokens and input_tokens + output_tokens > card.context_tokens:
        raise UsageError(
            f"{input_tokens} and {output_tokens} tokens are more than the context of {card.context_tokens}.",
            next="Ask for less with --input-tokens and --output-tokens.",
        )
    if max(batches) > card.max_batch:
        raise UsageError(
            f"A batch of {max(batches)} doesn't fit: the engine holds {card.max_batch}.",
            "Its KV cache is sized for that many.",
            "Give --batches up to that, or more memory with --set engine.kv_cache_mb=N.",
        )


def _config(
    model: str | None, engine: str | None, threads: int | None, set_: list[str] | None, config_file: str | None
) -> Config:
    from freehold import config as settings
    from freehold import log

    flags: dict[str, Any] = {"model.model": model, "engine.engine": engine, "engine.threads": threads}
    found, _ = settings.load(flags | overrides(set_), file=Path(config_file) if config_file else None)
    log.setup(found.log.level, found.log.format)
    return found


def _list(text: str) -> list[int]:
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or found[0] < 1:
        raise UsageError(f"--batches {text} is no list of batch sizes.", next="Write it as 1,2,4,8.")
    return found


# ---- showing --------------------------------------------------------------------------------------


def _console(*, as_json: bool) -> Console:
    import sys

    from rich.console import Console

    return Console(file=sys.stderr if as_json else sys.stdout, highlight=False, soft_wrap=True)


def _head(console: Console, card: ModelCard, phases: list[LoadPhase], ceilings: tuple[float, float]) -> None:
    loaded = ", ".join(f"{phase.name} {phase.seconds:.2f} s" for phase in phases)
    console.print(f"loaded   {loaded or 'at once'}; {gib(card.memory_bytes)} in memory", markup=False)
    if ceilings[0]:
        top = f"ceiling  memory {ceilings[0] / 1e9:.1f} GB/s"
        top += f", matrices {ceilings[1] / 1e9:.0f} GOPS" if ceilings[1] else ""
        console.print(top, markup=False)
    columns = ("batch", "tokens/s", "+-", "each", "step p50", "p99", "all first", "memory", "MBU", "compute")
    console.print("".join(f"{name:>10}" for name in columns), style="bold")


class _Live:
    """A line for each level as it is done."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def heard(self, level: Level, card: ModelCard, ceilings: tuple[float, float]) -> None:
        step_s = level.step_ms_p50 / 1000.0
        moved = _bytes(card, level.streams, level.context_tokens)
        mbu = f"{moved / step_s / ceilings[0]:.0%}" if ceilings[0] and step_s else "-"
        ops = f"{2 * card.parameters * level.streams / step_s / ceilings[1]:.0%}" if ceilings[1] and step_s else "-"
        spread = f"{level.spread:.0%}" + ("" if level.trusted else "?")
        cells = (
            f"{level.streams}", f"{level.tokens_per_s:,.0f}", spread, f"{level.tokens_per_s / level.streams:,.1f}",
            f"{level.step_ms_p50:.2f} ms", f"{level.step_ms_p99:.2f} ms", f"{level.first_token_ms:.0f} ms",
            gib(level.memory_bytes), mbu, ops,
        )  # fmt: skip
        self._console.print("".join(f"{cell:>10}" for cell in cells), markup=False)


def _conclude(console: Console, taken: Taken) -> None:
    law, fit = taken.fit.law, taken.fit
    if law.batch_points:
        terms = "by batch: " + ", ".join(f"{n}: {ms:.2f}" for n, ms in law.batch_points)
    else:
        terms = f"{law.base_ms:.3f} + {law.sequence_ms:.4f} a sequence + {law.context_ms_per_token:.6f} a context token"
    console.print(
        f"\nstep ms  {terms} + {law.prefill_ms_per_token:.4f} a prompt token; median error {fit.error:.1%} over "
        f"{fit.seen} observations",
        markup=False,
    )
    sweet = taken.sweet
    console.print(
        f"pays     up to {sweet.streams} streams: {sweet.tokens_per_s:,.0f} tokens/s, {sweet.share:.0%} of the best. "
        f"{sweet.reason}",
        markup=False,
    )
    if any(not level.trusted for level in taken.levels):
        console.print("?        the rounds of that batch size don't agree: the machine was busy, or the time too short")
    over = taken.bandwidth_bytes_per_s and any(
        moved / (x.step_ms_p50 / 1000) > taken.bandwidth_bytes_per_s
        for x, moved in zip(taken.levels, taken.bytes_per_step, strict=True)
    )
    if over:
        console.print("MBU      over 100 %: the weights lie in the processor's cache, memory is not the limit")
