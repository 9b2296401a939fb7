"""Mooncake: a JSON object a line with timestamp (milliseconds), input_length, output_length, hash_ids (blocks of 512).

Source: github.com/kvcache-ai/Mooncake (Qin et al., FAST 2025), Apache-2.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from freehold.loadtest.formats.row import Row, bad_line

COLUMNS = ("timestamp", "input_length", "output_length", "hash_ids")
BLOCK_TOKENS = 512


class Line(msgspec.Struct):
    timestamp: float
    input_length: int
    output_length: int
    hash_ids: tuple[int, ...] = ()


def read(path: Path) -> Iterator[Row]:
    decode = msgspec.json.Decoder(Line).decode
    with path.open("rb") as lines:
        for number, text in enumerate(lines, 1):
            if not text.strip():
                continue
            try:
                line = decode(text)
            except msgspec.DecodeError as error:
                raise bad_line(path, number, f"{error}.") from error
            yield Row(
                at_s=line.timestamp / 1e3,
                input_tokens=line.input_length,
                output_tokens=line.output_length,
                blocks=line.hash_ids,
            )
