"""`freehold serve`: settle what to run and on what, then hand over to the supervisor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from freehold.cli.output import ConfigFile, JsonFlag, gib
from freehold.errors import FreeholdError, UsageError, from_failure

if TYPE_CHECKING:
    from freehold.cli.startup import StartUp
    from freehold.config import Config
    from freehold.engine.base import EngineName, EngineSpec

Model = Annotated[
    str | None,
    typer.Argument(
        help="starter, a GGUF file, a folder (safetensors or OpenVINO IR), a hub id, a URL, or sim:PROFILE."
    ),
]


def serve(
    model: Model = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; not loopback requires API keys.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one.")] = None,
    engine: Annotated[str | None, typer.Option(help="auto, openvino, llamacpp, remote or sim.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes, each with its own copy of the model.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of each worker; default: the cores divided.")] = None,
    context: Annotated[int | None, typer.Option(help="Context length in tokens; default: the model's.")] = None,
    max_batch: Annotated[int | None, typer.Option(help="Most sequences at once in a worker.")] = None,
    name: Annotated[str | None, typer.Option(help="The model's name in the API.")] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of a hub model; resolved and pinned.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Any setting: section.key=value.")] = None,
    config_file: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Serve a model behind an OpenAI-compatible API, with a queue and warm workers."""
    from freehold import config as settings
    from freehold import log
    from freehold.cli.startup import StartUp

    flags: dict[str, Any] = {
        "model.model": model,
        "model.name": name,
        "model.revision": revision,
        "server.host": host,
        "server.port": port,
        "engine.engine": engine,
        "engine.workers": workers,
        "engine.threads": threads,
        "engine.context_tokens": context,
        "engine.max_batch": max_batch,
    }
    config, _ = settings.load(flags | _pairs(set_ or []), file=Path(config_file) if config_file else None)
    log.setup(config.log.level, config.log.format)
    start_up = StartUp(config, as_json=as_json)
    raise typer.Exit(_run(config, start_up))


def _run(config: Config, start_up: StartUp) -> int:
    from freehold.worker.supervisor import Supervisor

    if config.engine.workers < 1:
        raise UsageError("--workers must be at least 1.", next="One worker serves many requests at once.")
    with start_up:
        spec = settle(config, start_up)
        supervisor = Supervisor(config, spec, on_event=start_up.event)
        code = supervisor.run()
    if start_up.failure is not None:
        raise _as_exit(from_failure(start_up.failure), code)
    return code


def settle(config: Config, start_up: StartUp) -> EngineSpec:
    """Find the model's files (downloading if it must), choose the engine, divide the machine."""
    from freehold import machine
    from freehold.engine import choose
    from freehold.engine.base import EngineSpec
    from freehold.model.source import locate
    from freehold.profile import open_profile

    model, engine = config.model, config.engine
    source = locate(
        model.model, revision=model.revision, home=config.home, engine=engine.engine, report=start_up.progress
    )
    choice = choose.choose(engine.engine, source, quantization=model.quantization)
    max_batch = engine.max_batch
    if engine.profile and not max_batch:
        max_batch = open_profile(engine.profile).sweet_batch
        start_up.say(f"batch    {max_batch}: the sweet spot of the profile {engine.profile}")
    threads = engine.threads or max(1, machine.cores() // engine.workers)
    start_up.say(f"model    {source.label}")
    start_up.say(f"engine   {choice.reason}")
    start_up.say(
        f"machine  {machine.cores()} cores, {gib(machine.describe().memory_free_bytes)} memory free; "
        f"workers: {engine.workers}, threads of each: {threads}"
    )
    return EngineSpec(
        engine=cast("EngineName", choice.engine),
        source=source,
        name=model.name or source.name,
        cache_dir=str(config.home / "cache"),
        threads=threads,
        workers=engine.workers,
        context_tokens=engine.context_tokens,
        max_batch=max_batch,
        kv_cache_bytes=engine.kv_cache_mb << 20,
        quantization=model.quantization,
        chat_template=model.chat_template,
        profile=engine.profile,
        remote_key=engine.remote_key,
        remote_timeout_s=engine.remote_timeout_s,
        remote_retries=engine.remote_retries,
        sim_speed=engine.sim_speed,
        sim_faults=engine.sim_faults,
    )


def _pairs(given: list[str]) -> dict[str, str]:
    """`section.key=value` flags. Unknown keys are `config.load`'s to refuse."""
    from freehold import config as settings

    pairs = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text} has no value.", next="Write --set section.key=value.")
        pairs[name.strip()] = value
    settings.reject_unknown_flags(pairs)
    return pairs


def _as_exit(error: FreeholdError, code: int) -> FreeholdError:
    """The error that ended the supervisor, with the exit code it chose."""
    error.exit_code = code
    return error
