"""One request of a trace, and the errors that all formats share."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from freehold.core import Record
from freehold.errors import UsageError

Line = TypeVar("Line", bound=msgspec.Struct)


class Row(Record, frozen=True):
    at_s: float
    """From any zero; only differences count."""
    input_tokens: int
    output_tokens: int
    group: str = ""
    """Tenant, client or conversation."""
    blocks: tuple[int, ...] = ()
    """Hashes of the prompt's blocks of tokens: equal beginnings are shared prefixes."""
    priority: int = 0
    deadline_s: float | None = None
    """After arrival."""


def bad_line(path: Path, line: int, why: str) -> UsageError:
    return UsageError(f"{path}, line {line}: {why}", next="Correct the line, or remove it.")


def wrong_columns(path: Path, found: Sequence[str], expected: str) -> UsageError:
    return UsageError(
        f"{path} has not the columns of a trace that is known here.",
        f"It has {', '.join(found) or 'none'}.",
        f"Expected: {expected}.",
    )


def csv_rows(path: Path, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, values by column) of a CSV file. Raises `UsageError` where a needed column is missing."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.DictReader(file, skipinitialspace=True)
        found = [name.strip() for name in lines.fieldnames or ()]
        lines.fieldnames = found
        if missing := [name for name in needed if name not in found]:
            raise UsageError(
                f"{path} lacks the column {missing[0]!r}.",
                f"It has {', '.join(found) or 'none'}.",
                f"Expected: {', '.join(needed)}.",
            )
        for values in lines:
            yield lines.line_num, values


def json_rows(path: Path, kind: type[Line]) -> Iterator[tuple[int, Line]]:
    """(line number, object) of a file with a JSON object a line; empty lines are passed over."""
    decode = msgspec.json.Decoder(kind).decode
    with path.open("rb") as lines:
        for number, text in enumerate(lines, 1):
            if not text.strip():
                continue
            try:
                yield number, decode(text)
            except msgspec.DecodeError as error:
                raise bad_line(path, number, f"{error}.") from error


def whole(path: Path, line: int, name: str, text: str | None) -> int:
    """A count of tokens."""
    try:
        value = int(float(text or ""))
    except ValueError:
        value = -1
    if value < 0:
        raise bad_line(path, line, f"{name} is {text!r}, not a number of tokens.")
    return value
