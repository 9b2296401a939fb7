"""BurstGPT: Timestamp (seconds), Model, Request tokens, Response tokens, ...; failed requests have no response tokens.

Source: github.com/HPMLL/BurstGPT (Wang et al., KDD 2025), CC-BY-4.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from freehold.loadtest.formats.row import Row, bad_line, csv_rows, whole

COLUMNS = ("Timestamp", "Request tokens", "Response tokens")


def read(path: Path) -> Iterator[Row]:
    for line, values in csv_rows(path, COLUMNS):
        try:
            at_s = float(values["Timestamp"])
        except ValueError as error:
            raise bad_line(path, line, f"Timestamp is {values['Timestamp']!r}, not seconds.") from error
        yield Row(
            at_s=at_s,
            input_tokens=whole(path, line, "Request tokens", values["Request tokens"]),
            output_tokens=whole(path, line, "Response tokens", values["Response tokens"]),
            group=(values.get("Session ID") or values.get("Model") or "").strip(),
        )
