"""The models that `freehold serve` was given, each settled: MODEL or NAME=MODEL, several of them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from freehold.cli.output import gib
from freehold.errors import ConfigError

if TYPE_CHECKING:
    from freehold.cli.startup import StartUp
    from freehold.config import Config
    from freehold.engine.base import EngineSpec

_NAMED = re.compile(r"([A-Za-z0-9][\w.:/-]*)=(.+)")
_ONE_ONLY = ("name", "revision", "chat_template")


def settle_all(config: Config, start_up: StartUp) -> list[EngineSpec]:
    """What to run, in the order it was named. Raises `ConfigError` or `ModelError`."""
    from freehold.cli.serve import settle

    texts = (config.model.model, *config.model.more)
    if config.server.mode != "hybrid" and (len(texts) > 1 or config.engine.idle_unload_s):
        next = "Leave out --mode, or serve one model without --idle-unload."
        raise ConfigError(f"Only the mode hybrid loads models on demand, not {config.server.mode}.", next=next)
    if len(texts) > 1:
        _check_one_only(config)
    share = config.engine.workers * len(texts)
    specs = [msgspec.structs.replace(settle(named(config, text), start_up), workers=share) for text in texts]
    start_up.names = [spec.name for spec in specs]
    if len(specs) > 1:
        _check_names(start_up.names)
        start_up.say(f"memory   {_budget(config)} for {len(specs)} models; what doesn't fit is loaded when asked for")
    return specs


def check_alone(config: Config) -> None:
    """Raises `ConfigError` if models were to come and go: gateways of other hosts could not ask for them."""
    if config.model.more or config.engine.idle_unload_s:
        next = "Run `freehold work` once for each model, or `freehold serve` with all of them."
        raise ConfigError("`freehold work` serves one model, which stays.", next=next)


def named(config: Config, text: str) -> Config:
    """The settings of one model: `text` is MODEL or NAME=MODEL. An existing file is a file, whatever its name."""
    match = None if Path(text).expanduser().exists() else _NAMED.fullmatch(text)
    if match is None or "://" in match[1]:
        return replace(config, model=replace(config.model, model=text, more=()))
    return replace(config, model=replace(config.model, model=match[2], name=match[1], more=()))


def _check_one_only(config: Config) -> None:
    for setting in _ONE_ONLY:
        if getattr(config.model, setting):
            next = "Write NAME=MODEL for each." if setting == "name" else "Serve that model alone."
            raise ConfigError(f"model.{setting} can't be for several models.", next=next)
    if config.engine.profile:
        raise ConfigError("engine.profile can't be for several models.", next="Kept profiles are found by themselves.")


def _check_names(names: list[str]) -> None:
    if "" in names:
        raise ConfigError("A remote that names no model needs a name here.", next="Write NAME=URL.")
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"Two models are called {name!r}.", next="Write NAME=MODEL to tell them apart.")


def _budget(config: Config) -> str:
    from freehold.machine import memory_limit_bytes
    from freehold.worker.memory import budget_bytes

    return gib(budget_bytes(config.engine.memory_budget_mb, memory_limit_bytes()))
