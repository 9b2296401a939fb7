"""Which profile kept in FREEHOLD_HOME belongs to this model, engine and machine, and the batch limit it gives.

A profile measured here is used without being named: `home/profiles/*.json` is searched for one whose `model`,
`engine` and `machine` are those of what is about to be served. What an explicit setting says goes first; a file
that can't be used is told in one sentence and left out.
"""

from __future__ import annotations

from pathlib import Path

from freehold.core import Record
from freehold.errors import ConfigError
from freehold.machine import Machine
from freehold.model.source import Source
from freehold.profile import Profile, load, open_profile

FOLDER = "profiles"
_STEPPED = ("openvino", "llamacpp")
"""Engines whose batch is this machine's. A remote has a limit of its own, and `sim` plays its profile anyway."""


class Key(Record, frozen=True):
    """What a profile belongs to, written as it must stand in its fields of these names."""

    model: str
    engine: str
    machine: str


class BatchLimit(Record, frozen=True):
    """Most answers at once. `max_batch` 0 leaves it to the engine; `reason` is a sentence for people."""

    max_batch: int
    reason: str = ""
    profile: str = ""
    """The profile it is from, if it is from one."""
    remarks: tuple[str, ...] = ()
    """Kept profiles that were not used, and why."""


def key_of(source: Source, engine: str, quantization: str, here: Machine) -> Key:
    """The key of a model on this machine. Safetensors are converted, so what they become is part of the model."""
    model = f"{source.name}, {quantization}" if source.kind == "safetensors" else source.name
    return Key(model=model, engine=engine, machine=f"{here.cores} cores, {here.cpu}")


def batch_limit(max_batch: int, profile: str, key: Key, home: Path) -> BatchLimit:
    """From the setting, else the named profile, else a kept one. Raises `ConfigError` for a named one that is wrong."""
    if max_batch:
        return BatchLimit(max_batch=max_batch, reason="as engine.max_batch says")
    if profile:
        named = open_profile(profile)
        return BatchLimit(
            max_batch=named.sweet_batch, reason=f"the sweet spot of the profile {profile}", profile=profile
        )
    if key.engine not in _STEPPED:
        return BatchLimit(max_batch=0)
    kept, remarks = kept_profiles(home)
    fitting = [(path, one) for path, one in kept if (one.model, one.engine, one.machine) == _texts(key)]
    if not fitting:
        if kept:
            remarks.append(_none_fits(kept, key, home))
        return BatchLimit(max_batch=0, remarks=tuple(remarks))
    path, newest = max(fitting, key=lambda each: (each[1].date, each[0].name))
    reason = f"the sweet spot of {path}, measured {newest.date}"
    return BatchLimit(max_batch=newest.sweet_batch, reason=reason, profile=str(path), remarks=tuple(remarks))


def kept_profiles(home: Path) -> tuple[list[tuple[Path, Profile]], list[str]]:
    """The profiles in `home`, by name of file, and a remark on each file that is none."""
    kept, remarks = [], []
    for path in sorted((home / FOLDER).glob("*.json")):
        try:
            kept.append((path, load(path)))
        except ConfigError as error:
            remarks.append(f"{path} is left out. {error}")
    return kept, remarks


def _none_fits(kept: list[tuple[Path, Profile]], key: Key, home: Path) -> str:
    count = "The profile" if len(kept) == 1 else f"None of the {len(kept)} profiles"
    verb = "isn't" if len(kept) == 1 else "is"
    wanted = f"model {key.model!r}, engine {key.engine!r} and machine {key.machine!r}"
    return f"{count} in {home / FOLDER} {verb} for {wanted}."


def _texts(key: Key) -> tuple[str, str, str]:
    return key.model, key.engine, key.machine
