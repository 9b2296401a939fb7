"""One frozen tree of settings. A flag beats the environment, which beats the file, which beats the default.

Every setting is declared once, in `settings`, with its help text; `load` reads the three sources and remembers
where each value came from, which `freehold config` prints. An unknown key is an error that names the
nearest one. Environment names are `FREEHOLD_<SECTION>_<KEY>`; the file is `freehold.toml` in the current
directory, else in `FREEHOLD_HOME`, else the one given with `--config`.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import platformdirs

from freehold.errors import ConfigError
from freehold.settings import (
    SECTIONS,
    AlertsConfig,
    EngineConfig,
    LogConfig,
    ModelConfig,
    ObserveConfig,
    PipeConfig,
    ServerConfig,
    StoreConfig,
)


@dataclass(frozen=True, slots=True)
class Config:
    """All settings. Sections are the tables of the file."""

    server: ServerConfig = field(default_factory=ServerConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    pipe: PipeConfig = field(default_factory=PipeConfig)
    observe: ObserveConfig = field(default_factory=ObserveConfig)
    alerts: AlertsConfig = field(default_factory=AlertsConfig)
    log: LogConfig = field(default_factory=LogConfig)
    home: Path = field(default_factory=lambda: home_dir())


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of `freehold config`."""

    name: str
    value: Any
    source: str
    help: str


def home_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """FREEHOLD_HOME, else the platform's user data folder. Holds state, cache and downloads."""
    given = environ.get("FREEHOLD_HOME")
    return (
        Path(given).expanduser().absolute() if given else Path(platformdirs.user_data_dir("freehold", appauthor=False))
    )


def load(
    flags: Mapping[str, Any] | None = None,
    *,
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> tuple[Config, list[Setting]]:
    """The settings in force and where each came from.

    `flags` maps `section.key` to a value; None values are flags not given. Raises `ConfigError` for an
    unknown key, a value of the wrong type, or a file that can't be read.
    """
    home = home_dir(environ)
    path, table = _read_file(file, home)
    known = {f"{section}.{f.name}" for section, kind in SECTIONS.items() for f in fields(kind)}
    _reject_unknown(table, known, path)
    _reject_unknown_environ(environ, known)
    sections: dict[str, Any] = {}
    settings: list[Setting] = []
    for section, kind in SECTIONS.items():
        hints = get_type_hints(kind)
        values = {}
        for f in fields(kind):
            name = f"{section}.{f.name}"
            value, source = _pick(name, f.default, flags or {}, environ, table, path)
            values[f.name] = _convert(name, value, hints[f.name], source)
            settings.append(Setting(name, values[f.name], source, f.metadata["help"]))
        sections[section] = kind(**values)
    return Config(**sections, home=home), settings


def reject_unknown_flags(flags: Mapping[str, Any]) -> None:
    """Raises `ConfigError` for a `section.key` that is no setting, naming the nearest."""
    known = {f"{section}.{f.name}" for section, kind in SECTIONS.items() for f in fields(kind)}
    for name in flags:
        if name not in known:
            raise ConfigError(f"Unknown setting {name!r}.", next=_nearest(name, known))


def env_name(name: str) -> str:
    """`server.port` -> `FREEHOLD_SERVER_PORT`."""
    return "FREEHOLD_" + name.replace(".", "_").upper()


def _read_file(file: Path | None, home: Path) -> tuple[Path | None, dict[str, Any]]:
    candidates = [file] if file else [Path("freehold.toml"), home / "freehold.toml"]
    for path in candidates:
        if not path.exists():
            if file:
                raise ConfigError(f"No configuration file at {path}.", next="Check the path given with --config.")
            continue
        try:
            nested = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"Can't read {path}.", str(error), "Correct the file; it is TOML.") from error
        flat = {}
        for section, keys in nested.items():
            for key, value in keys.items() if isinstance(keys, dict) else [("", keys)]:
                flat[f"{section}.{key}".rstrip(".")] = value
        return path, flat
    return None, {}


def _reject_unknown(table: Mapping[str, Any], known: set[str], path: Path | None) -> None:
    for name in table:
        if name not in known:
            raise ConfigError(f"Unknown setting {name!r} in {path}.", next=_nearest(name, known))


def _reject_unknown_environ(environ: Mapping[str, str], known: set[str]) -> None:
    by_env = {env_name(name): name for name in known}
    sections = tuple(f"FREEHOLD_{section.upper()}_" for section in SECTIONS)
    for name in environ:
        if name.startswith(sections) and name not in by_env:
            raise ConfigError(f"Unknown setting {name} in the environment.", next=_nearest(name, set(by_env)))


def _nearest(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"Did you mean {close[0]!r}?" if close else "`freehold config` lists the known ones."


def _pick(
    name: str,
    default: Any,
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    table: Mapping[str, Any],
    path: Path | None,
) -> tuple[Any, str]:
    if flags.get(name) is not None:
        return flags[name], "flag"
    if env_name(name) in environ:
        return environ[env_name(name)], f"environment {env_name(name)}"
    if name in table:
        return table[name], f"file {path}"
    return default, "default"


def _convert(name: str, value: Any, kind: Any, source: str) -> Any:
    """`value` as `kind`. Strings (environment, flags) are parsed; anything else must already fit."""
    try:
        return _cast(value, kind)
    except ValueError as error:
        raise ConfigError(
            f"Wrong value for {name}: {value!r}.",
            f"{error} (from {source}).",
            "`freehold config` shows what is in force.",
        ) from None


def _cast(value: Any, kind: Any) -> Any:
    origin = get_origin(kind)
    if origin is Literal:
        if value not in get_args(kind):
            raise ValueError("Expected one of " + ", ".join(map(str, get_args(kind))))
        return value
    if origin is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
            raise ValueError("Expected a list of texts")
        return tuple(str(part).strip() for part in parts if str(part).strip())
    if origin is UnionType:
        return None if value in (None, "") else _cast(value, next(k for k in get_args(kind) if k is not NoneType))
    if kind in (int, float):
        return _number(value, kind)
    if not isinstance(value, str):
        raise ValueError("Expected text")  # noqa: TRY004  what a stranger wrote, not a bug
    return value


def _number(value: Any, kind: type[int] | type[float]) -> int | float:
    wanted = "a whole number" if kind is int else "a number"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"Expected {wanted}")  # noqa: TRY004  as above
    try:
        number = kind(value)
    except ValueError:
        raise ValueError(f"Expected {wanted}") from None
    if isinstance(value, float) and number != value:
        raise ValueError(f"Expected {wanted}")
    if number < 0 or number != number or number == float("inf"):
        raise ValueError("Must be finite and not negative")
    return number
