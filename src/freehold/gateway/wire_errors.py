"""Reads a request body, and says in plain words, naming the field, what is wrong with one that can't be taken."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from freehold.errors import InvalidRequest, UnsupportedParameter

Body = TypeVar("Body", bound=BaseModel)


def parse(kind: type[Body], body: bytes) -> Body:
    """`body` as `kind`. Raises `InvalidRequest` that names the field and says what is expected."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error, kind, body) from None


_TAG_ERRORS = ("union_tag_not_found", "union_tag_invalid")


def invalid(error: ValidationError, kind: type[BaseModel], body: bytes) -> InvalidRequest:
    """The most telling one of pydantic's complaints, in words."""
    details = error.errors(include_url=False, include_context=True)
    if details[0]["type"] == "json_invalid":
        reason = str(details[0].get("ctx", {}).get("error", ""))
        return InvalidRequest(
            "The request body is not valid JSON.", reason[:1].upper() + reason[1:] + ".", "Send UTF-8 encoded JSON."
        )
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError):
        sent = None
    worst = max(details, key=lambda detail: _telling(detail, sent))
    loc = worst["loc"]
    if worst["type"] in _TAG_ERRORS:
        loc = (*loc, worst.get("ctx", {}).get("discriminator", "type").strip("'"))
    path, steps = _path(loc, sent)
    if worst["type"] == "none_required":
        name = str(steps[-1]) if steps else ""
        return UnsupportedParameter(f"The parameter {name!r} is not supported here.", next="Leave it out.", param=path)
    if worst["type"] == "extra_forbidden":
        return InvalidRequest(f"Unknown parameter {path!r}.", next=_nearest(steps, kind), param=path)
    what = f"{path}: {_plain(worst)}" if path else "The request body must be a JSON object."
    return InvalidRequest(what, param=path or None)


def _telling(detail: ErrorDetails, sent: object) -> tuple[bool, int, int]:
    """Of a union's alternatives the one that wanted a list of another length was meant: it took the entries as they
    are. Then deeper complaints first: that alternative matched furthest."""
    depth = len(_path(detail["loc"], sent)[1])
    weight = {"literal_error": 2, "none_required": 2, "extra_forbidden": -1, "model_type": -1}
    return detail["type"] in ("too_long", "too_short"), depth, weight.get(detail["type"], 0)


def _path(loc: Sequence[int | str], sent: object) -> tuple[str, list[int | str]]:
    """pydantic's location without the names of union branches, as `messages[0].content`."""
    steps: list[int | str] = []
    at = sent
    for i, step in enumerate(loc):
        inner, there = _inside(at, step)
        if there:
            at = inner
        elif not isinstance(at, dict) or i < len(loc) - 1:
            continue
        steps.append(step)
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return text.lstrip("."), steps


def _inside(value: object, step: int | str) -> tuple[object, bool]:
    """What lies at `step` of `value`, and whether anything does."""
    if isinstance(value, dict) and step in value:
        return value[step], True
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return value[step], True
    return None, False


def _plain(detail: ErrorDetails) -> str:
    kind = detail["type"]
    if kind == "string_too_short" and detail.get("input") == "":
        return "expected text, not an empty string."
    if kind == "missing":
        return "this field is required."
    if kind in _TAG_ERRORS:
        return f"expected one of {detail.get('ctx', {}).get('expected_tags', 'the known kinds')}."
    given = detail.get("input")
    if kind in ("too_long", "too_short"):
        return _length(kind, detail.get("ctx", {}), given)
    if kind == "literal_error" and isinstance(given, bool):
        return f"it can't be {json.dumps(given)} here."
    words = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    words = words.replace("a valid list", "a list").replace("a valid dictionary", "an object")
    known = isinstance(given, int | float | str) and len(repr(given)) < 60
    shown = f" (it is {json.dumps(given) if isinstance(given, bool) else repr(given)})" if known else ""
    return ("expected " + words if "Input should be" in detail["msg"] else words[:1].lower() + words[1:]) + shown + "."


def _length(kind: str, limits: dict[str, Any], given: object) -> str:
    limit = limits.get("max_length" if kind == "too_long" else "min_length", 0)
    entries = "entry" if limit == 1 else "entries"
    has = f" (it has {len(given)})" if isinstance(given, list | dict) else ""
    return f"expected at {'most' if kind == 'too_long' else 'least'} {limit} {entries}{has}."


def _nearest(steps: Sequence[int | str], kind: type[BaseModel]) -> str:
    name = str(steps[-1]) if steps else ""
    close = difflib.get_close_matches(name, kind.model_fields, n=1, cutoff=0.6) if len(steps) == 1 else []
    return f"Did you mean {close[0]!r}?" if close else "Leave it out; no parameter is accepted and ignored."
