"""Prompts from a file: a text a line, or a JSON object a line with `prompt` or `messages`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from freehold.errors import UsageError

if TYPE_CHECKING:
    from freehold.loadtest.target import Ask


def read_asks(path: Path, output_tokens: int | None) -> list[Ask]:
    """Raises `UsageError` that names the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} can't be read.", f"{error}.") from error
    asks = [_ask(path, number, line, output_tokens) for number, line in enumerate(lines, 1) if line.strip()]
    if not asks:
        raise UsageError(f"{path} has no prompt in it.", next="Write one a line.")
    return asks


def _ask(path: Path, number: int, line: str, output_tokens: int | None) -> Ask:
    from freehold.loadtest.target import Ask

    if path.suffix not in (".json", ".jsonl", ".ndjson"):
        return Ask(text=line, output_tokens=output_tokens)
    try:
        told = json.loads(line)
    except ValueError as error:
        raise UsageError(f"{path}, line {number}: {error}.", next="Write a JSON object a line.") from error
    messages = told.get("messages") if isinstance(told, dict) else None
    prompt = told.get("prompt") if isinstance(told, dict) else told
    limit = (told.get("max_tokens") if isinstance(told, dict) else None) or output_tokens
    if isinstance(messages, list) and messages:
        return Ask(messages=tuple(messages), output_tokens=limit)
    if isinstance(prompt, str) and prompt:
        return Ask(text=prompt, output_tokens=limit)
    raise UsageError(f"{path}, line {number}: there is no `prompt` and no `messages` in it.")
