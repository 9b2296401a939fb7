"""The profile: what is known of one model on one engine on one machine, and how each figure was got.

Measured once, refined by a running server, and read by everything that predicts: admission, the `sim`
engine, the planner, cost. Its heart is the step law, the milliseconds of one engine step as a function
of the tokens read, the sequences running and the context they hold. Kept as `profile.json`; the
built-in ones lie in `freehold/profiles/` and are named for what they imitate.
"""

from __future__ import annotations

import bisect
import datetime
import difflib
import math
import os
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec

from freehold.core import CardPace, LoadPhase, Record
from freehold.errors import ConfigError

Basis = Literal["measured", "derived", "assumed"]

FORMAT = 1
PAYING_SHARE = 0.9
"""A batch is worth growing until it reaches this share of the best throughput."""


class StepLaw(Record, frozen=True, forbid_unknown_fields=True):
    """Milliseconds of one step: `base + prefill * tokens read + sequence * sequences + context * context tokens`.

    Where the cost of a batch is no straight line, `batch_points` gives (sequences, ms) pairs, rising in
    sequences; between them it is interpolated, and `base_ms` and `sequence_ms` must then be 0.
    """

    base_ms: float = 0.0
    prefill_ms_per_token: float = 0.0
    sequence_ms: float = 0.0
    context_ms_per_token: float = 0.0
    batch_points: tuple[tuple[int, float], ...] = ()


class Profile(Record, frozen=True, forbid_unknown_fields=True):
    """One profile.json. Units are in the names; `basis` says of each figure how it was got."""

    name: str
    model: str
    engine: str
    machine: str
    date: str
    """ISO date of the measurement."""
    source: str
    """URL or command that gave the figures, and how derived ones were derived."""
    step: StepLaw
    sweet_batch: int
    """Sequences past which throughput stops paying."""
    max_batch: int
    context_tokens: int
    kv_bytes_per_token: int = 0
    kv_cache_bytes: int = 0
    """0: enough for `max_batch` full contexts."""
    max_batched_tokens: int = 2048
    """Most tokens one step reads, prompts and running answers together."""
    weight_bytes: int = 0
    parameters: int = 0
    bandwidth_bytes_per_s: float = 0.0
    """Memory bandwidth ceiling of the machine; 0 is unknown."""
    load: tuple[LoadPhase, ...] = ()
    versions: dict[str, str] = {}
    basis: dict[str, Basis] = {}
    """Figure name (`load`, `step.base_ms`, ...) -> measured, derived or assumed."""
    format: int = FORMAT

    @property
    def kv_cache_tokens(self) -> int:
        """Tokens the KV cache holds."""
        if self.kv_cache_bytes and self.kv_bytes_per_token:
            return self.kv_cache_bytes // self.kv_bytes_per_token
        return self.max_batch * self.context_tokens


def step_ms(law: StepLaw, prefill_tokens: int, sequences: int, context_tokens: int) -> float:
    """Milliseconds of one step. `sequences` takes part, prompts being read included; 0 sequences cost nothing."""
    if not sequences:
        return 0.0
    batch = _interpolate(law.batch_points, sequences) if law.batch_points else law.base_ms + law.sequence_ms * sequences
    return batch + law.prefill_ms_per_token * prefill_tokens + law.context_ms_per_token * context_tokens


def sweet_spot(law: StepLaw, max_batch: int, context_tokens: int) -> int:
    """The smallest batch that gives `PAYING_SHARE` of the best decode throughput up to `max_batch`,
    each sequence holding `context_tokens`."""
    rates = []
    for n in range(1, max_batch + 1):
        ms = step_ms(law, 0, n, n * context_tokens)
        rates.append(n / ms if ms else math.inf)
    best = max(rates)
    return max_batch if best == math.inf else 1 + next(i for i, rate in enumerate(rates) if rate >= PAYING_SHARE * best)


def card_pace(profile: Profile, max_batch: int) -> CardPace:
    """The pace of a worker with `max_batch` places whose sequences hold a quarter of the context (assumed)."""
    context_tokens = profile.context_tokens // 4
    return CardPace(
        step_ms=step_ms(profile.step, 0, max_batch, max_batch * context_tokens),
        lone_step_ms=step_ms(profile.step, 0, 1, context_tokens),
        prefill_ms_per_token=profile.step.prefill_ms_per_token,
    )


def _interpolate(points: tuple[tuple[int, float], ...], sequences: int) -> float:
    """Piecewise linear; below the first point its value, past the last one the last slope goes on."""
    right = min(bisect.bisect_left(points, (sequences, -math.inf)), len(points) - 1)
    if right == 0:
        return points[0][1]
    (n0, ms0), (n1, ms1) = points[right - 1], points[right]
    return ms0 + (ms1 - ms0) * (sequences - n0) / (n1 - n0)


# ---- reading and writing ------------------------------------------------------------------------


def built_in_names() -> list[str]:
    """Names that `open_profile` knows without a file."""
    folder = resources.files("freehold") / "profiles"
    return sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))


def open_profile(name_or_path: str) -> Profile:
    """A built-in profile by name, else the profile.json at that path. Raises `ConfigError`."""
    if _looks_like_path(name_or_path):
        return load(Path(name_or_path).expanduser())
    return _built_in(name_or_path)


@lru_cache
def _built_in(name: str) -> Profile:
    names = built_in_names()
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.3)
        hint = f"Did you mean {close[0]!r}?" if close else "Give the path of a profile.json."
        raise ConfigError(f"No profile named {name!r}.", f"Built in are: {', '.join(names)}.", hint)
    return parse((resources.files("freehold") / "profiles" / f"{name}.json").read_bytes(), f"built-in profile {name}")


def load(path: Path) -> Profile:
    """Read and check a profile.json. Raises `ConfigError` that names the file and the field."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"Can't read the profile {path}.", str(error.strerror or error), "Check the path.") from error
    return parse(data, str(path))


def parse(data: bytes, where: str) -> Profile:
    """`data` as a checked profile; `where` is named in errors."""
    try:
        profile = msgspec.json.decode(data, type=Profile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"Wrong profile in {where}.", f"{error}.", _nearest_field(str(error))) from None
    problems = check(profile)
    if problems:
        raise ConfigError(f"Wrong profile in {where}.", " ".join(problems), "Correct the file or measure it again.")
    return profile


def save(profile: Profile, path: Path) -> None:
    """Write `profile` so that a reader sees the old file or the new one, never half of one."""
    problems = check(profile)
    if problems:
        raise ConfigError(f"Won't write a wrong profile to {path}.", " ".join(problems))
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_bytes(msgspec.json.format(msgspec.json.encode(profile), indent=2) + b"\n")
        scratch.replace(path)
    except OSError as error:
        raise ConfigError(
            f"Can't write the profile {path}.", str(error.strerror or error), "Check the folder."
        ) from error


# ---- checking -----------------------------------------------------------------------------------


def check(profile: Profile) -> list[str]:
    """What is wrong with `profile`, in words; empty when all is well."""
    return [*_check_law(profile.step), *_check_sizes(profile), *_check_provenance(profile)]


def _check_law(law: StepLaw) -> list[str]:
    problems = []
    for name in ("base_ms", "prefill_ms_per_token", "sequence_ms", "context_ms_per_token"):
        value = getattr(law, name)
        if not (math.isfinite(value) and value >= 0):
            problems.append(f"step.{name} must be finite and not negative, not {value}.")
    counts = [n for n, _ in law.batch_points]
    if any(n < 1 for n in counts) or counts != sorted(set(counts)):
        problems.append("step.batch_points must rise in sequences, from 1 on.")
    if not all(math.isfinite(ms) and ms > 0 for _, ms in law.batch_points):
        problems.append("step.batch_points must have finite milliseconds over 0.")
    if counts and law.batch_points[-2:][0][1] > law.batch_points[-1][1]:
        problems.append("The last of step.batch_points must not cost less than the one before it: its slope goes on.")
    if counts and (law.base_ms or law.sequence_ms):
        problems.append("step.batch_points stands for step.base_ms and step.sequence_ms, which must be 0 beside it.")
    return problems


def _check_sizes(profile: Profile) -> list[str]:
    problems = []
    for name in ("sweet_batch", "max_batch", "context_tokens", "max_batched_tokens"):
        if getattr(profile, name) < 1:
            problems.append(f"{name} must be at least 1.")
    for name in ("kv_bytes_per_token", "kv_cache_bytes", "weight_bytes", "parameters", "bandwidth_bytes_per_s"):
        value = getattr(profile, name)
        if not (math.isfinite(value) and value >= 0):
            problems.append(f"{name} must be finite and not negative, not {value}.")
    if profile.sweet_batch > profile.max_batch:
        problems.append(f"sweet_batch {profile.sweet_batch} is over max_batch {profile.max_batch}.")
    if any(not (math.isfinite(phase.seconds) and phase.seconds >= 0) for phase in profile.load):
        problems.append("load seconds must be finite and not negative.")
    return problems


def _check_provenance(profile: Profile) -> list[str]:
    named = ("name", "model", "engine", "machine", "source")
    problems = [f"{name} must not be empty." for name in named if not getattr(profile, name)]
    if profile.format != FORMAT:
        problems.append(f"format {profile.format} is not the known one, {FORMAT}.")
    try:
        datetime.date.fromisoformat(profile.date)
    except ValueError:
        problems.append(f"date {profile.date!r} is not an ISO date.")
    figures = _figures()
    for figure in profile.basis:
        if figure not in figures:
            close = difflib.get_close_matches(figure, figures, n=1, cutoff=0.3)
            problems.append(f"basis names no figure {figure!r}" + (f"; did you mean {close[0]!r}?" if close else "."))
    return problems


def _figures() -> list[str]:
    top = [f for f in Profile.__struct_fields__ if f not in ("name", "format", "basis", "source", "step")]
    return [*top, "step", *(f"step.{f}" for f in StepLaw.__struct_fields__)]


def _nearest_field(message: str) -> str:
    """msgspec says which field is unknown; add the one that was probably meant."""
    if "unknown field" not in message:
        return "Correct the file or measure it again."
    given = message.split("`")[1]
    known = [*Profile.__struct_fields__, *StepLaw.__struct_fields__]
    close = difflib.get_close_matches(given, known, n=1, cutoff=0.4)
    return f"Did you mean {close[0]!r}?" if close else "Remove the field."


def _looks_like_path(text: str) -> bool:
    return text.endswith(".json") or "/" in text or os.sep in text or text.startswith("~")
