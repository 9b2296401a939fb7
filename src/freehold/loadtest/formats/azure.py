"""Azure's public LLM traces of 2023: TIMESTAMP, ContextTokens, GeneratedTokens.

Source: github.com/Azure/AzurePublicDataset (Patel et al., Splitwise, ISCA 2024), CC-BY-4.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from freehold.loadtest.formats.row import Row, bad_line, csv_rows, whole

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


def read(path: Path) -> Iterator[Row]:
    for line, values in csv_rows(path, COLUMNS):
        told = (values["TIMESTAMP"] or "").strip()
        seconds, _, fraction = told.partition(".")
        try:
            moment = datetime.fromisoformat(seconds).replace(tzinfo=UTC).timestamp()
            moment += float(f"0.{fraction}") if fraction else 0.0  # seven digits: more than datetime takes
        except ValueError as error:
            raise bad_line(path, line, f"TIMESTAMP is {told!r}, not a date and time.") from error
        yield Row(
            at_s=moment,
            input_tokens=whole(path, line, "ContextTokens", values["ContextTokens"]),
            output_tokens=whole(path, line, "GeneratedTokens", values["GeneratedTokens"]),
        )
