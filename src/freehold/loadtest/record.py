"""The folder of a run: raw samples and a manifest, from which every table can be computed again.

`samples.jsonl` has one `core.Sample` a line, appended as they come, so memory stays flat however long a run is and
what was measured survives a crash. `manifest.json` says what was asked of whom, with which seed and versions.
"""

from __future__ import annotations

import array
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, get_args

import msgspec
import numpy as np
import numpy.typing as npt

import freehold
from freehold import machine
from freehold.core import Json, Record
from freehold.errors import UsageError
from freehold.sample import Outcome, Sample

SAMPLES = "samples.jsonl"
MANIFEST = "manifest.json"
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
Floats = npt.NDArray[np.float64]


class Manifest(Record, frozen=True):
    """What a run was. `load` and `vitals` are plain data for people and for the tables."""

    kind: str
    """`load`, `knee`, `versus`."""
    command: str
    url: str
    model: str
    seed: int
    load: Json
    """What was asked: arrivals, trace, lengths, limits."""
    machine: machine.Machine
    versions: dict[str, str]
    started_unix_s: float
    seconds: float | None = None
    """None while it goes on, or if the command was killed."""
    interrupted: bool = False
    vitals: Json = {}
    """Of the client itself: its ceiling, processor share, lateness."""


def manifest(
    kind: str, command: str, *, url: str, model: str, seed: int, load: Json, started_unix_s: float
) -> Manifest:
    """With this machine and the versions filled in."""
    versions = {"freehold": freehold.__version__, **machine.versions()}
    return Manifest(
        kind=kind, command=command, url=url, model=model, seed=seed, load=load, machine=machine.describe(),
        versions=versions, started_unix_s=started_unix_s,
    )  # fmt: skip


class Recorder:
    """`with Recorder(folder, manifest) as recorder:` writes samples as they come, and the manifest at both ends."""

    def __init__(self, folder: Path, told: Manifest) -> None:
        if (folder / SAMPLES).exists():
            raise UsageError(f"{folder} has a run in it already.", next="Name another folder with --out, or remove it.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / SAMPLES).open("xb", buffering=1 << 20)
        except OSError as error:
            raise UsageError(f"A run can't be written to {folder}.", f"{error.strerror}.") from error
        self.folder = folder
        self.manifest = told
        self._encode = msgspec.json.Encoder().encode
        self._save()

    def add(self, samples: Iterable[Sample]) -> None:
        for sample in samples:
            self._file.write(self._encode(sample) + b"\n")
        self._file.flush()  # four times a second: a crash loses no more than that

    def finish(self, seconds: float, *, interrupted: bool = False, vitals: Json | None = None) -> None:
        """The run is over: say how it went."""
        self.manifest = msgspec.structs.replace(
            self.manifest, seconds=seconds, interrupted=interrupted, vitals=vitals or {}
        )
        self._save()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _save(self) -> None:
        fresh = self.folder / f"{MANIFEST}.new"
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(self.manifest)) + b"\n")
        os.replace(fresh, self.folder / MANIFEST)


class Recorded:
    """A run read back."""

    def __init__(self, folder: Path, told: Manifest) -> None:
        self.folder = folder
        self.manifest = told

    def samples(self) -> Iterator[Sample]:
        """In the order they ended. A last line cut off by a crash is left out."""
        decode = msgspec.json.Decoder(Sample).decode
        with (self.folder / SAMPLES).open("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    yield decode(line)

    def columns(self) -> Columns:
        return columns(self.samples())


def open_run(folder: Path) -> Recorded:
    """The run in `folder`. Raises `UsageError` where there is none."""
    try:
        told = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError) as error:
        raise UsageError(
            f"There is no run in {folder}.", f"{MANIFEST}: {error}", "Name a folder that `freehold load --out` wrote."
        ) from error
    return Recorded(folder, told)


class Columns(Record, frozen=True):
    """Samples as arrays, one value a request and in the same order; seconds as in `core.Sample`, NaN for None."""

    number: npt.NDArray[np.int64]
    intended_s: Floats
    sent_s: Floats
    first_s: Floats
    end_s: Floats
    outcome: npt.NDArray[np.int8]
    """Index into `OUTCOMES`."""
    status: npt.NDArray[np.int64]
    input_tokens: npt.NDArray[np.int64]
    cached_tokens: npt.NDArray[np.int64]
    output_tokens: npt.NDArray[np.int64]
    queue_ms: Floats
    gaps_ms: Floats
    """Those of all requests, one after another."""
    gaps_until: npt.NDArray[np.int64]
    """Where each request's end in `gaps_ms`."""

    def gaps_of(self, row: int) -> Floats:
        return self.gaps_ms[self.gaps_until[row - 1] if row else 0 : self.gaps_until[row]]

    def were(self, *outcomes: Outcome) -> npt.NDArray[np.bool_]:
        """True where a request ended so."""
        return np.isin(self.outcome, [OUTCOMES.index(each) for each in outcomes])


FLOAT_FIELDS = ("intended_s", "sent_s", "first_s", "end_s", "queue_ms")
WHOLE_FIELDS = ("number", "status", "input_tokens", "cached_tokens", "output_tokens")


def columns(samples: Iterable[Sample]) -> Columns:
    """`samples` as arrays."""
    floats = {name: array.array("d") for name in FLOAT_FIELDS}
    wholes = {name: array.array("q") for name in WHOLE_FIELDS}
    outcome, gaps, gaps_until = array.array("b"), array.array("d"), array.array("q")
    nan = float("nan")
    for sample in samples:
        for name, column in floats.items():
            value = getattr(sample, name)
            column.append(nan if value is None else value)
        for name, whole in wholes.items():
            whole.append(getattr(sample, name))
        outcome.append(OUTCOMES.index(sample.outcome))
        gaps.extend(sample.gaps_ms)
        gaps_until.append(len(gaps))
    return Columns(
        **{name: np.array(column) for name, column in {**floats, **wholes}.items()},
        outcome=np.array(outcome),
        gaps_ms=np.array(gaps),
        gaps_until=np.array(gaps_until),
    )
