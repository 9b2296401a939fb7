"""`freehold serve`: settle what to run and on what, then hand over to the supervisor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, cast

import typer

from freehold.cli.output import ConfigFile, JsonFlag, PipeHost, PipePort, SetFlag, StoreFlag, gib, overrides
from freehold.errors import FreeholdError, UsageError, from_failure

if TYPE_CHECKING:
    from freehold.cli.startup import StartUp
    from freehold.config import Config, Setting
    from freehold.engine.base import EngineName, EngineSpec
    from freehold.worker.site import Site

Budget = Annotated[
    str | None, typer.Option(help="Memory for several models together, as 8GiB; default: 0.9 of the machine's.")
]
Idle = Annotated[
    str | None, typer.Option(help="A model that nobody asks for leaves the memory after this time, as 10m.")
]
FORMS = "starter, a GGUF file, a folder (safetensors or OpenVINO IR), a hub id, a URL, or sim:PROFILE."
Model = Annotated[str | None, typer.Argument(help=FORMS)]
Models = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODEL]...",
        help=f"{FORMS} Several, each as MODEL or NAME=MODEL, share the memory: they are loaded when somebody asks for "
        "them.",
    ),
]


def serve(
    models: Models = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; not loopback requires API keys.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one.")] = None,
    engine: Annotated[str | None, typer.Option(help="auto, openvino, llamacpp, remote or sim.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes, each with its own copy of the model.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of each worker; default: the cores divided.")] = None,
    context: Annotated[int | None, typer.Option(help="Context length in tokens; default: the model's.")] = None,
    max_batch: Annotated[int | None, typer.Option(help="Most sequences at once in a worker.")] = None,
    memory_budget: Budget = None,
    idle_unload: Idle = None,
    name: Annotated[str | None, typer.Option(help="The model's name in the API.")] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of a hub model; resolved and pinned.")] = None,
    mode: Annotated[str | None, typer.Option(help="hybrid, stateful or stateless.")] = None,
    store: StoreFlag = None,
    pipe_host: PipeHost = None,
    pipe_port: PipePort = None,
    set_: SetFlag = None,
    config_file: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Serve a model, or several, behind an OpenAI-compatible API, with a queue and warm workers."""
    from freehold import config as settings
    from freehold import log
    from freehold.cli.startup import StartUp
    from freehold.cli.units import mebibytes, seconds

    flags: dict[str, Any] = {
        "model.model": models[0] if models else None, "model.more": tuple(models[1:]) if models else None,
        "model.name": name, "model.revision": revision, "server.host": host, "server.port": port, "server.mode": mode,
        "engine.engine": engine, "engine.workers": workers, "engine.threads": threads,
        "engine.context_tokens": context, "engine.max_batch": max_batch,
        "engine.memory_budget_mb": None if memory_budget is None else mebibytes("--memory-budget", memory_budget),
        "engine.idle_unload_s": None if idle_unload is None else seconds("--idle-unload", idle_unload),
        "store.url": store, "pipe.host": pipe_host, "pipe.port": pipe_port,
    }  # fmt: skip

    def read() -> tuple[Config, list[Setting]]:
        return settings.load(flags | overrides(set_), file=Path(config_file) if config_file else None)

    config, told = read()
    log.setup(config.log.level, config.log.format)
    warn_if_open(config, {each.name: each.source for each in told})
    start_up = StartUp(config, as_json=as_json)
    raise typer.Exit(_run(config, start_up, lambda: read()[0]))


def _run(config: Config, start_up: StartUp, reread: Callable[[], Config]) -> int:
    from freehold.cli.several import settle_all
    from freehold.gateway.auth import Guard
    from freehold.worker.site import prepared

    check_workers(config)
    # What can be wrong here is told before a model is looked for, downloaded or converted.
    with prepared(config) as site, start_up:
        Guard(config.home, config.server)
        check_observing(config)
        return supervise(config, site, settle_all(config, start_up), start_up, reread)


def check_observing(config: Config) -> None:
    """The SLO and the alert rules can be read. Raises the error that says where they can't."""
    from freehold import slo
    from freehold.gateway.alert_setup import check

    if config.observe.slo:
        slo.parse(config.observe.slo)
    check(config)


def check_workers(config: Config) -> None:
    """Raises `UsageError`."""
    if config.engine.workers < 1:
        raise UsageError("--workers must be at least 1.", next="One worker serves many requests at once.")


def supervise(
    config: Config, site: Site, specs: Sequence[EngineSpec], start_up: StartUp, reread: Callable[[], Config]
) -> int:
    """Run until it ends; the exit code. Raises the error that ended it."""
    from freehold.cli.several import named
    from freehold.worker.supervisor import Supervisor

    def one(config: Config, listener: Listener) -> EngineSpec:
        return settle(named(config, config.model.model), listener)

    code = Supervisor(config, *specs, on_event=start_up.event, site=site, settle=one, reread=reread).run()
    if start_up.failure is not None:
        raise _as_exit(from_failure(start_up.failure), code)
    return code


def warn_if_open(config: Config, sources: Mapping[str, str]) -> None:
    """Everybody on the network may use a server without keys: that must not happen unnoticed."""
    from rich.console import Console

    from freehold.gateway.auth import is_loopback

    server = config.server
    if server.api_keys != "off" or is_loopback(server.host):
        return
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(
        f"WARNING: anybody who can reach {server.host or 'any address of this machine'} on port {server.port} can use "
        f"this server.\n"
        f"  The host is not loopback, and server.api_keys is off (from {sources['server.api_keys']}), so nobody is "
        f"asked for a key.\n"
        f"  To ask: make a key with `freehold keys add NAME` and leave server.api_keys at auto; "
        f"or listen on 127.0.0.1 only.",
        style="bold yellow", markup=False,
    )  # fmt: skip


class Listener(Protocol):
    """Who hears how the model is found."""

    def progress(self, what: str, done: int, total: int) -> None: ...
    def say(self, text: str) -> None: ...


def settle(config: Config, start_up: Listener) -> EngineSpec:
    """Find the model's files (downloading if it must), choose the engine, divide the machine."""
    from freehold import machine
    from freehold.engine import choose, profiled
    from freehold.engine.base import EngineSpec
    from freehold.model.source import locate

    model, engine = config.model, config.engine
    source = locate(
        model.model, revision=model.revision, home=config.home, engine=engine.engine, report=start_up.progress
    )
    choice = choose.choose(engine.engine, source, quantization=model.quantization)
    here = machine.describe()
    key = profiled.key_of(source, choice.engine, model.quantization, here)
    batch = profiled.batch_limit(engine.max_batch, engine.profile, key, config.home)
    threads = engine.threads or max(1, here.cores // engine.workers)
    start_up.say(f"model    {source.label}")
    start_up.say(f"engine   {choice.reason}")
    for text in batch.remarks:
        start_up.say(f"profile  {text}")
    if batch.max_batch:
        start_up.say(f"batch    {batch.max_batch}: {batch.reason}")
    start_up.say(
        f"machine  {here.cores} cores, {gib(here.memory_free_bytes)} memory free; "
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
        max_batch=batch.max_batch,
        max_batch_from=batch.reason,
        kv_cache_bytes=engine.kv_cache_mb << 20,
        quantization=model.quantization,
        chat_template=model.chat_template,
        profile=engine.profile or batch.profile,
        remote_key=engine.remote_key,
        remote_timeout_s=engine.remote_timeout_s,
        remote_retries=engine.remote_retries,
        sim_speed=engine.sim_speed,
        sim_faults=engine.sim_faults,
    )


def _as_exit(error: FreeholdError, code: int) -> FreeholdError:
    """The error that ended the supervisor, with the exit code it chose."""
    error.exit_code = code
    return error
