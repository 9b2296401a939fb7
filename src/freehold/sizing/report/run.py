"""One folder of measurements, read: whatever files are there, and the names of those that aren't.

`manifest.json` and `samples.jsonl` are of `freehold load`; `knee.json`, `sweep.json`, `size.json`, `scale.json`,
`cost.json` and `verdict.json` of the commands of those names. Plain data here: the report shows what it knows and
skips the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from freehold.core import Json, Record
from freehold.errors import ConfigError
from freehold.sample import Sample

FILES = {
    "manifest.json": "freehold load URL --out DIR",
    "knee.json": "freehold knee URL --slo ... --out DIR",
    "sweep.json": "freehold sweep --out DIR",
    "size.json": "freehold size URL ... --out DIR",
    "scale.json": "freehold scale URL URL ... --out DIR",
    "cost.json": "freehold cost DIR",
    "verdict.json": "freehold verdict DIR --api MODEL",
}
SAMPLES = "samples.jsonl"
Floats = npt.NDArray[np.float64]


class Requests(Record, frozen=True):
    """All requests of a run as columns, in the order they were meant to be sent; latency counts from then."""

    intended_s: Floats
    latency_ms: Floats
    """NaN for what wasn't answered."""
    first_ms: Floats
    ok: npt.NDArray[np.bool_]
    output_tokens: Floats
    outcomes: dict[str, int]


class Run(Record, frozen=True):
    name: str
    files: dict[str, Json]
    requests: Requests | None
    missing: tuple[str, ...]
    """Names of files that aren't there."""


def read_run(name: str, files: Mapping[str, bytes], lines: Iterable[bytes] | None) -> Run:
    """`files` by name, `lines` of the samples or None. Raises `ConfigError` that names a file that can't be read."""
    found: dict[str, Json] = {}
    for file, data in files.items():
        try:
            found[file] = msgspec.json.decode(data, type=Json)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{name}/{file} can't be read.", f"{error}.", "Run its command again.") from None
    requests = None if lines is None else _requests(name, lines)
    missing = [file for file in FILES if file not in found and not (file == "cost.json" and "verdict.json" in found)]
    if requests is None:
        missing.append(SAMPLES)
    return Run(name=name, files=found, requests=requests, missing=tuple(missing))


def _requests(name: str, lines: Iterable[bytes]) -> Requests | None:
    """Columns alone are kept, so a run of hours fits; a last line that a crash cut off is left out."""
    decode = msgspec.json.Decoder(Sample).decode
    rows: list[tuple[float, float, float, bool, int]] = []
    outcomes: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            continue
        try:
            one = decode(line)
        except msgspec.DecodeError as error:
            raise ConfigError(f"{name}/{SAMPLES}, line {number} is no sample.", f"{error}.") from None
        outcomes[one.outcome] = outcomes.get(one.outcome, 0) + 1
        if one.outcome == "unsent":
            continue
        ok = one.outcome == "ok"
        first = one.first_s - one.intended_s if one.first_s is not None else np.nan
        rows.append((one.intended_s, one.end_s - one.intended_s if ok else np.nan, first, ok, one.output_tokens))
    if not rows:
        return None
    table = np.array(sorted(rows, key=lambda row: row[0]), float)
    return Requests(
        intended_s=table[:, 0],
        latency_ms=table[:, 1] * 1e3,
        first_ms=table[:, 2] * 1e3,
        ok=table[:, 3].astype(bool),
        output_tokens=table[:, 4],
        outcomes=outcomes,
    )
