"""`freehold work`: workers alone, for gateways on any host that share their store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.cli.gateway import Internal
from freehold.cli.output import ConfigFile, JsonFlag, SetFlag, StoreFlag, overrides
from freehold.cli.serve import Model

if TYPE_CHECKING:
    from freehold.config import Config


def work(
    model: Model = None,
    store: StoreFlag = None,
    engine: Annotated[str | None, typer.Option(help="auto, openvino, llamacpp, remote or sim.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes, each with its own copy of the model.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of each worker; default: the cores divided.")] = None,
    context: Annotated[int | None, typer.Option(help="Context length in tokens; default: the model's.")] = None,
    max_batch: Annotated[int | None, typer.Option(help="Most sequences at once in a worker.")] = None,
    name: Annotated[str | None, typer.Option(help="The model's name in the API: the same on all hosts.")] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of a hub model; resolved and pinned.")] = None,
    set_: SetFlag = None,
    config_file: ConfigFile = None,
    as_json: JsonFlag = False,
    internal: Internal = None,
) -> None:
    """Work on this host for every gateway (`freehold gateway`, `freehold serve`) with the same --store."""
    if internal is not None:
        from freehold.cli import internal as child

        child.work(internal)
    from freehold import config as settings
    from freehold import log
    from freehold.cli.serve import check_workers, settle, supervise
    from freehold.cli.several import check_alone
    from freehold.cli.startup import StartUp
    from freehold.worker.site import prepared_to_work

    flags: dict[str, Any] = {
        "model.model": model, "model.name": name, "model.revision": revision, "store.url": store,
        "engine.engine": engine, "engine.workers": workers, "engine.threads": threads,
        "engine.context_tokens": context, "engine.max_batch": max_batch,
    }  # fmt: skip

    def read() -> Config:
        return settings.load(flags | overrides(set_), file=Path(config_file) if config_file else None)[0]

    config = read()
    log.setup(config.log.level, config.log.format)
    check_workers(config)
    check_alone(config)
    start_up = StartUp(config, as_json=as_json)
    with prepared_to_work(config) as site, start_up:
        raise typer.Exit(supervise(config, site, [settle(config, start_up)], start_up, read))
