"""One frozen tree of settings. A flag beats the environment, which beats the file, which beats the default.

Every setting is declared once, here, with its help text; `load` reads the three sources and remembers
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


def setting(default: Any, help: str) -> Any:
    """A dataclass field with a default and the sentence that explains it."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, slots=True)
class ServerConfig:
    host: str = setting("127.0.0.1", "Address to listen on. Anything but loopback requires API keys.")
    port: int = setting(8000, "Port to listen on; 0 picks a free one.")
    api_keys: Literal["auto", "on", "off"] = setting("auto", "auto: keys are required unless the host is loopback.")
    cors_origins: tuple[str, ...] = setting((), "Browser origins allowed to call the API; none by default.")
    max_body_bytes: int = setting(4 << 20, "Largest request body.")
    max_output_tokens: int = setting(32_768, "Largest max_tokens a request may ask for.")
    max_n: int = setting(16, "Most answers a request may ask for with n.")
    default_max_tokens: int = setting(
        10_000, "Longest answer of a request without max_tokens; 0 leaves it to the context."
    )
    admission: Literal["on", "off"] = setting(
        "on", "off: nothing is refused but for server.max_queue, and no deadline is forecast."
    )
    max_queue: int = setting(4096, "Requests that may wait; beyond it new ones get 429.")
    max_queued_tokens: int = setting(
        0, "Tokens that may wait, prompts and expected answers together; beyond it 429. 0: no limit."
    )
    max_queued_mb: int = setting(256, "Prompts that may wait; beyond it 429. 0: no limit.")
    max_unread_mb: int = setting(8, "What is kept for a client that reads too slowly; beyond it the client is left.")
    stall_s: float = setting(60.0, "A client that takes nothing of its answer for so long is disconnected. 0: never.")
    body_timeout_s: float = setting(20.0, "A client that takes longer to send its request is disconnected.")
    webhook_secret: str = setting("", "Signs webhooks that bring no secret of their own: whsec_ and base64.")
    webhook_private: Literal["off", "on"] = setting("off", "on: webhooks may go to private and loopback addresses.")
    drain_s: float = setting(120.0, "Longest wait for running answers after SIGTERM.")
    restart_most_s: float = setting(
        30.0, "Longest wait before a process that died again and again is started once more."
    )


@dataclass(frozen=True, slots=True)
class ModelConfig:
    model: str = setting(
        "starter", "starter, a GGUF file, a folder (safetensors or OpenVINO IR), a hub id, a URL, or sim."
    )
    name: str = setting("", "Name in the API; default: from the model.")
    revision: str = setting("", "Hub revision; resolved to a commit and pinned.")
    quantization: str = setting("q8_0", "Weights after conversion from safetensors: q8_0, f16, bf16 or f32.")
    chat_template: str = setting("", "A Jinja file used instead of the model's own chat template.")


@dataclass(frozen=True, slots=True)
class EngineConfig:
    engine: Literal["auto", "openvino", "llamacpp", "remote", "sim"] = setting("auto", "Which engine runs the model.")
    workers: int = setting(1, "Worker processes, each with its own copy of the model.")
    threads: int = setting(0, "Threads of each worker; 0 divides the cores among the workers.")
    context_tokens: int = setting(0, "Context length; 0 takes the model's, as far as the KV cache holds it.")
    max_batch: int = setting(
        0, "Most sequences at once in a worker; 0 takes that of engine.profile or of a fitting profile, else 32."
    )
    kv_cache_mb: int = setting(0, "KV cache of each worker; 0 sizes it for max_batch, within a quarter of memory.")
    memory_limit_mb: int = setting(
        0, "Near this much memory of its own a worker is drained and replaced; 0: its share of the machine's."
    )
    profile: str = setting("", "profile.json, or the name of a built-in one (sim).")
    remote_key: str = setting("", "API key for a remote engine; better given as FREEHOLD_ENGINE_REMOTE_KEY.")
    remote_timeout_s: float = setting(120.0, "Longest wait for the next byte of a remote engine.")
    remote_retries: int = setting(3, "Tries again after a refused or failed connection, with backoff.")
    sim_speed: float = setting(1.0, "Simulated time over real time; 0 is as fast as possible.")
    sim_faults: str = setting("", "Dials of the sim engine: slow=2,stuck_after=100,crash_after=50,leak_mb=1.")


@dataclass(frozen=True, slots=True)
class StoreConfig:
    url: str = setting(
        "", "redis://[USER:PASSWORD@]HOST:PORT/DB[?prefix=NAME] keeps the ledger in Redis or Valkey, for many machines."
    )
    redis_fsync: Literal["always", "everysec"] = setting(
        "always", "everysec accepts that a power cut of the Redis server loses the last second."
    )
    path: str = setting("", "Ledger file; default: state/ledger-PORT.sqlite in FREEHOLD_HOME.")
    keep_results_s: float = setting(86_400.0, "How long results that can be fetched by id are kept.")


@dataclass(frozen=True, slots=True)
class LogConfig:
    level: Literal["debug", "info", "warning", "error"] = setting("info", "Least severe event that is logged.")
    format: Literal["auto", "human", "json"] = setting("auto", "auto: human on a terminal, else json.")


@dataclass(frozen=True, slots=True)
class Config:
    """All settings. Sections are the tables of the file."""

    server: ServerConfig = ServerConfig()
    model: ModelConfig = ModelConfig()
    engine: EngineConfig = EngineConfig()
    store: StoreConfig = StoreConfig()
    log: LogConfig = LogConfig()
    home: Path = field(default_factory=lambda: home_dir())


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of `freehold config`."""

    name: str
    value: Any
    source: str
    help: str


SECTIONS: dict[str, type[Any]] = {
    "server": ServerConfig,
    "model": ModelConfig,
    "engine": EngineConfig,
    "store": StoreConfig,
    "log": LogConfig,
}


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
