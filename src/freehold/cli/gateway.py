"""`freehold gateway`: the HTTP side alone, for workers on any host that share its store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli.output import ConfigFile, JsonFlag, PipeHost, PipePort, SetFlag, StoreFlag, overrides
from freehold.errors import UsageError

if TYPE_CHECKING:
    from freehold.config import Config, Setting

Internal = Annotated[int | None, typer.Option("--internal", hidden=True, help="The supervisor's socket, for a child.")]


def gateway(
    store: StoreFlag = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; not loopback requires API keys.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one.")] = None,
    pipe_host: PipeHost = None,
    pipe_port: PipePort = None,
    set_: SetFlag = None,
    config_file: ConfigFile = None,
    as_json: JsonFlag = False,
    internal: Internal = None,
) -> None:
    """Answer the API on this host; the work is done by `freehold work` or `freehold serve` with the same --store."""
    if internal is not None:
        from freehold.cli import internal as child

        child.gateway(internal)
    from freehold import config as settings
    from freehold import log
    from freehold.cli.serve import check_observing, supervise, warn_if_open
    from freehold.cli.startup import StartUp
    from freehold.gateway.auth import Guard
    from freehold.ledger.open import is_remote
    from freehold.worker.site import prepared, store_path

    flags = {
        "store.url": store, "server.host": host, "server.port": port, "pipe.host": pipe_host, "pipe.port": pipe_port,
    }  # fmt: skip

    def read() -> tuple[Config, list[Setting]]:
        return settings.load(flags | overrides(set_), file=Path(config_file) if config_file else None)

    config, told = read()
    log.setup(config.log.level, config.log.format)
    if not is_remote(store_path(config)):
        next = "Name a Redis or Valkey server: --store redis://HOST:6379/0. `freehold serve` needs none."
        raise UsageError("A gateway alone needs a store that workers can reach.", next=next)
    warn_if_open(config, {each.name: each.source for each in told})
    start_up = StartUp(config, as_json=as_json)
    with prepared(config, works=False) as site, start_up:
        Guard(config.home, config.server)
        check_observing(config)
        raise typer.Exit(supervise(config, site, (), start_up, lambda: read()[0]))
