"""A trace: when requests came and how long they and their answers were. Read from any known format, then cut to size.

Only arrivals and lengths are kept, never texts; prompts of the same length are made anew (`prompts.py`). Operations
give a new trace and change nothing: `cut`, `within`, `faster`, `thin`, `loop`, `synthesise`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from freehold.core import Record
from freehold.errors import UsageError
from freehold.loadtest.arrivals import Times, dice, gamma
from freehold.loadtest.formats import azure, burstgpt, mooncake, request_log, servegen
from freehold.loadtest.formats.row import Row, wrong_columns

Wholes = npt.NDArray[np.int64]
KNOWN = {"azure": azure, "burstgpt": burstgpt, "mooncake": mooncake, "freehold": request_log}
MARGIN = 0.1
EXPECTED = "; ".join(f"{name}: {', '.join(each.COLUMNS)}" for name, each in KNOWN.items())


class Trace(Record, frozen=True):
    """Rows as columns, in order of time, the first at 0."""

    name: str
    at_s: Times
    input_tokens: Wholes
    output_tokens: Wholes
    groups: tuple[str, ...] = ()
    """Empty, or one a row."""
    blocks: tuple[tuple[int, ...], ...] = ()
    """Empty, or one a row: hashes of the prompt's blocks."""
    priorities: tuple[int, ...] = ()
    deadlines_s: tuple[float | None, ...] = ()

    def __len__(self) -> int:
        return int(self.at_s.size)

    @property
    def seconds(self) -> float:
        """From the first arrival to the last, and one mean gap."""
        last_s = float(self.at_s[-1])
        return last_s * len(self) / (len(self) - 1) if len(self) > 1 else 1.0

    @property
    def per_s(self) -> float:
        return len(self) / self.seconds if self.seconds else 0.0

    def cut(self, from_s: float = 0.0, seconds: float = float("inf"), requests: int | None = None) -> Trace:
        """What came between; the first request then is at its distance from `from_s`."""
        keep = np.flatnonzero((self.at_s >= from_s) & (self.at_s < from_s + seconds))[:requests]
        if not keep.size:
            raise UsageError(
                f"Nothing of {self.name} is left between {from_s:g} and {from_s + seconds:g} s.",
                f"It has {len(self)} requests in {self.seconds:.0f} s.",
            )
        return self._pick(keep, self.at_s[keep] - from_s)

    def within(self, context_tokens: int) -> tuple[Trace, float]:
        """(the trace with every request made to fit a context, the share of requests that had to be cut). An answer
        keeps up to half of it, the prompt what is left, less `MARGIN`: lengths are met within some percent only."""
        room = int(context_tokens * (1 - MARGIN))
        outputs = np.clip(self.output_tokens, 1, max(1, room // 2))
        inputs = np.clip(self.input_tokens, 1, np.maximum(1, room - outputs))
        changed = (inputs != self.input_tokens) | (outputs != np.maximum(1, self.output_tokens))
        return msgspec.structs.replace(self, input_tokens=inputs, output_tokens=outputs), float(changed.mean())

    def stretch(self, first: int, rate_per_s: float, seconds: float) -> Times:
        """Arrivals in `seconds` at that mean rate: those of consecutive requests from row `first` on, past the end
        from the beginning again, in the time that this rate asks for. Bursts stay as sharp as they are."""
        count = max(1, round(rate_per_s * seconds))
        rows = first + np.arange(count + 1)
        at_s = self.at_s[rows % len(self)] + rows // len(self) * self.seconds
        span_s = float(at_s[-1] - at_s[0])
        if span_s <= 0:
            return np.arange(count) / rate_per_s
        return np.asarray((at_s[:-1] - at_s[0]) * (count / rate_per_s / span_s))

    def faster(self, factor: float) -> Trace:
        """The same requests in less time: the rate times `factor`, bursts and lulls shorter by it."""
        if not 0 < factor < float("inf"):
            raise UsageError(f"A trace can't be {factor:g} times as fast.", next="Give a factor above 0.")
        return msgspec.structs.replace(self, at_s=self.at_s / factor)

    def thin(self, share: float, seed: int = 0) -> Trace:
        """A random part of the requests, each at its own time: fewer users who behave the same."""
        if not 0 < share <= 1:
            raise UsageError(f"A share of {share:g} is none.", next="Give one above 0 and up to 1.")
        keep = np.flatnonzero(dice(seed, "lengths", 1).random(len(self)) < share)
        if not keep.size:
            raise UsageError(f"A share of {share:g} leaves nothing of {self.name}.")
        return self._pick(keep, self.at_s[keep])

    def loop(self, seconds: float) -> Trace:
        """Again and again until `seconds`."""
        times = max(1, int(np.ceil(seconds / self.seconds)))
        rows = np.tile(np.arange(len(self)), times)
        at_s = np.tile(self.at_s, times) + np.repeat(np.arange(times) * self.seconds, len(self))
        return self._pick(rows[at_s < seconds], at_s[at_s < seconds])

    def synthesise(self, seconds: float, per_s: float | None = None, seed: int = 0) -> Trace:
        """New traffic like this one's: gamma gaps of its rate and variation, lengths drawn together from its rows."""
        gaps = np.diff(self.at_s)
        variation = float(gaps.std() / gaps.mean()) if gaps.size > 1 and gaps.mean() > 0 else 1.0
        at_s = gamma(per_s or self.per_s, seconds, 1.0 / max(variation, 1e-3) ** 2, seed)
        if not at_s.size:
            raise UsageError(f"{seconds:g} s are too short for one request of {self.name}.")
        return self._pick(dice(seed, "lengths").integers(len(self), size=at_s.size), at_s)

    def _pick(self, rows: npt.NDArray[np.intp], at_s: Times) -> Trace:
        def of(values: tuple) -> tuple:  # type: ignore[type-arg]
            return tuple(values[row] for row in rows.tolist()) if values else ()

        return Trace(
            name=self.name,
            at_s=at_s,
            input_tokens=self.input_tokens[rows],
            output_tokens=self.output_tokens[rows],
            groups=of(self.groups),
            blocks=of(self.blocks),
            priorities=of(self.priorities),
            deadlines_s=of(self.deadlines_s),
        )


def read(path: Path, kind: str = "auto", *, requests: int | None = None, seed: int = 0) -> Trace:
    """The trace at `path`, or its first `requests` rows. Raises `UsageError` that says what is expected."""
    if not path.exists():
        raise UsageError(f"There is no trace at {path}.")
    if kind == "auto":
        kind = _sniff(path)
    rows: Iterable[Row] = servegen.read(path, seed) if kind == "servegen" else KNOWN[kind].read(path)
    try:
        return of_rows(path.name, islice(rows, requests))
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not a text file.") from error


def of_rows(name: str, rows: Iterable[Row]) -> Trace:
    found = sorted(rows, key=lambda row: row.at_s)
    if not found:
        raise UsageError(f"The trace {name} is empty.", next="Give one with at least one request.")
    first_s = found[0].at_s
    return Trace(
        name=name,
        at_s=np.array([row.at_s - first_s for row in found]),
        input_tokens=np.array([row.input_tokens for row in found], dtype=np.int64),
        output_tokens=np.array([row.output_tokens for row in found], dtype=np.int64),
        groups=_unless_empty(row.group for row in found),
        blocks=_unless_empty(row.blocks for row in found),
        priorities=_unless_empty(row.priority for row in found),
        deadlines_s=_unless_empty(row.deadline_s for row in found),
    )


def _unless_empty(values: Iterable) -> tuple:  # type: ignore[type-arg]
    whole = tuple(values)
    return whole if any(whole) else ()


def _sniff(path: Path) -> str:
    """Which format it is, from its first line."""
    if path.is_dir():
        return "servegen"
    with path.open("rb") as file:
        first = next((line for line in _some(file) if line.strip()), b"")
    if not first:
        raise UsageError(f"The trace {path.name} is empty.", next="Give one with at least one request.")
    if first.lstrip().startswith(b"{"):
        try:
            found = list(json.loads(first))
        except ValueError as error:
            raise UsageError(f"{path}, line 1: {error}.", next="A JSON object a line is expected.") from error
    else:
        text = first.decode("utf-8-sig", errors="replace")
        found = [name.strip() for name in text.split(",")]
    for kind, known in KNOWN.items():
        if set(known.COLUMNS[:3]) <= set(found):
            return kind
    raise wrong_columns(path, found[:12], EXPECTED)


def _some(lines: Iterable[bytes]) -> Iterator[bytes]:
    return islice(lines, 100)
