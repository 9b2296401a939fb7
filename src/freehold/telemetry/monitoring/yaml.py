"""Plain data as YAML, as far as these files need it: each text in quotes, so that none is taken for something else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def dump(value: Any, heading: str = "") -> str:
    """`heading` becomes comments before it."""
    comments = "".join(f"# {line}\n" for line in heading.splitlines())
    return comments + "\n".join(_lines(value, 0)) + "\n"


def _lines(value: Any, depth: int) -> Iterator[str]:
    pad = "  " * depth
    if isinstance(value, dict) and value:
        for key, each in value.items():
            if _is_long(each):
                yield f"{pad}{key}:"
                yield from _lines(each, depth + 1)
            else:
                yield f"{pad}{key}: {json.dumps(each, ensure_ascii=False)}"
    elif isinstance(value, list) and value:
        for each in value:
            if _is_long(each):
                first, *more = _lines(each, depth + 1)
                yield f"{pad}- {first.lstrip()}"
                yield from more
            else:
                yield f"{pad}- {json.dumps(each, ensure_ascii=False)}"
    else:
        yield f"{pad}{json.dumps(value, ensure_ascii=False)}"


def _is_long(value: Any) -> bool:
    return isinstance(value, dict | list) and bool(value)
