"""Mooncake: a JSON object a line with timestamp (milliseconds), input_length, output_length, hash_ids (blocks of 512).

Source: github.com/kvcache-ai/Mooncake (Qin et al., FAST 2025), Apache-2.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from freehold.loadtest.formats.row import Row, json_rows

COLUMNS = ("timestamp", "input_length", "output_length", "hash_ids")
BLOCK_TOKENS = 512


class Line(msgspec.Struct):
    timestamp: float
    input_length: int
    output_length: int
    hash_ids: tuple[int, ...] = ()


def read(path: Path) -> Iterator[Row]:
    for _, line in json_rows(path, Line):
        yield Row(
            at_s=line.timestamp / 1e3,
            input_tokens=line.input_length,
            output_tokens=line.output_length,
            blocks=line.hash_ids,
        )
