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

from freehold.cli.output import ConfigFile, JsonFlag, SetFlag, overrides, print_json
from freehold.errors import UsageError

if TYPE_CHECKING:
    from freehold.cli.profile_show import Taken
    from freehold.config import Config
    from freehold.core import LoadPhase, ModelCard
    from freehold.engine.base import Engine, EngineSpec
    from freehold.engine.measure import Measured
    from freehold.machine import Machine
    from freehold.profile import Profile

DEFAULT_BATCHES = "1,2,4,8,16,32,64"
Model = Annotated[str | None, typer.Argument(help="As in `freehold serve`; default: the starter.")]
Batches = Annotated[str, typer.Option("--batches", help="Batch sizes to measure, comma-separated.")]
Prompt = Annotated[int, typer.Option("--input-tokens", help="Prompt length of each stream.")]
Output = Annotated[int, typer.Option("--output-tokens", help="Answer length of each stream.")]
Quick = Annotated[bool, typer.Option("--quick", help="Two seconds at most for each batch size instead of ten.")]
EngineFlag = Annotated[str | None, typer.Option("--engine", help="auto, openvino, llamacpp or sim.")]
Threads = Annotated[int | None, typer.Option("--threads", help="Default: all cores.")]


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
    from freehold.cli.profile_show import console_of
    from freehold.engine.profiled import FOLDER
    from freehold.profile import save

    config = _config(model, engine, threads, set_, config_file)
    taken, made = _measure(config, _list(batches), input_tokens, output_tokens, quick=quick, as_json=as_json)
    path = Path(out) if out is not None else config.home / FOLDER / f"{made.name}.json"
    save(made, path)
    if as_json:
        print_json({"path": str(path), "profile": made, "measured": taken})
    else:
        console_of(as_json=False).print(
            f"\nkept in {path}: `freehold serve` takes its batch limit from it", markup=False
        )


# ---- measuring ------------------------------------------------------------------------------------


def _measure(
    config: Config, batches: list[int], input_tokens: int, output_tokens: int, *, quick: bool, as_json: bool
) -> tuple[Taken, Profile]:
    from contextlib import AbstractContextManager

    from freehold import machine
    from freehold.cli.profile_show import Live, conclude, console_of, head
    from freehold.cli.serve import settle
    from freehold.cli.startup import StartUp
    from freehold.core import Phase
    from freehold.engine.choose import build
    from freehold.engine.measure import sweep as measure
    from freehold.model.source import Report

    console = console_of(as_json=as_json)
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
        ceilings = _ceilings(spec, running, here, 0.3 if quick else 1.5)
        head(console, card, phases, ceilings)
        live = Live(console)
        try:
            measured = measure(
                running, batches, prompt_tokens=input_tokens, output_tokens=output_tokens,
                level_s=2.0 if quick else 10.0, heard=lambda level: live.heard(level, card, ceilings),
            )  # fmt: skip
        finally:
            running.close()
    taken, made = _understood(config, spec, card, here, tuple(phases), measured, ceilings)
    conclude(console, taken)
    return taken, made


def _understood(
    config: Config, spec: EngineSpec, card: ModelCard, here: Machine, phases: tuple[LoadPhase, ...],
    measured: Measured, ceilings: tuple[float, float],
) -> tuple[Taken, Profile]:  # fmt: skip
    """What the levels say: the law, the sweet spot, and the profile of both."""
    from freehold.cli.profile_show import Taken, bytes_of
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
    bytes_per_step = tuple(bytes_of(card, x.streams, x.context_tokens) for x in levels)
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


def _ceilings(spec: EngineSpec, running: Engine, here: Machine, seconds: float) -> tuple[float, float]:
    """(bytes a second of memory, matrix operations a second); 0 where it would mean nothing."""
    from freehold import machine
    from freehold.engine.measure import reading_rate

    card = running.card
    if spec.engine == "sim":
        return 0.0, 0.0
    threads = spec.threads or here.cores
    bandwidth = machine.memory_bandwidth_gb_s(threads, seconds) * 1e9
    if spec.engine != "openvino":
        return bandwidth, 2.0 * card.parameters * reading_rate(running, seconds)
    from freehold.engine.openvino.peak import matrix_peak_gops

    kind = "int8" if "8" in card.quantization else "bf16"
    return bandwidth, matrix_peak_gops(threads, "int8" if kind == "int8" else "bf16", seconds) * 1e9


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
