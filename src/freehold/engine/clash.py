"""What within one part of a JSON schema contradicts itself, or can't be promised together.

A grammar follows one thing at a time: what `grammar.py` would leave out, and the libraries follow in part or
take badly (a limit that no number meets ends the pipeline of one of them), is named here instead.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor
from typing import Any

from freehold.core import Json

_COMBINATIONS = ("$ref", "anyOf", "oneOf", "allOf")
_LIMITS = frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"))
_OF_TEXTS = frozenset(("minLength", "maxLength", "pattern", "format"))
_IS: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def clash(schema: Json, said: frozenset[str], resolve: Callable[[str], Any]) -> str:
    """Why `schema`, whose keywords are well-formed each by itself, can't be followed; empty if it can.

    `said` are its keywords that mean something: no notes, no definitions; `resolve` gives what a `$ref` points at.
    """
    kinds = kinds_of(schema)
    return (
        _combination(schema, said, resolve)
        or _values(schema, said, kinds)
        or _numbers(schema, kinds)
        or _texts(said, kinds)
        or _parts(schema, said)
    )


def kinds_of(schema: Json) -> list[str]:
    """The types that a schema names; empty where it names none."""
    kind = schema.get("type", [])
    return kind if isinstance(kind, list) else [kind]


def integer_limits(said: Json) -> tuple[int | None, int | None]:
    """Smallest and largest integer allowed, with the limits that exclude counted in."""
    lows = [ceil(said["minimum"])] if "minimum" in said else []
    lows += [floor(said["exclusiveMinimum"]) + 1] if "exclusiveMinimum" in said else []
    highs = [floor(said["maximum"])] if "maximum" in said else []
    highs += [ceil(said["exclusiveMaximum"]) - 1] if "exclusiveMaximum" in said else []
    return max(lows, default=None), min(highs, default=None)


def _combination(schema: Json, said: frozenset[str], resolve: Callable[[str], Any]) -> str:
    for keyword in _COMBINATIONS:
        if keyword not in said:
            continue
        beside = said - {keyword}
        options = [{"$ref": schema["$ref"]}] if keyword == "$ref" else schema[keyword]
        found = [
            resolve(option["$ref"]) if isinstance(option, dict) and isinstance(option.get("$ref"), str) else option
            for option in options
        ]
        same_type = all(isinstance(option, dict) and option.get("type") == schema.get("type") for option in found)
        if beside and not (beside == {"type"} and same_type):
            return f"{sorted(beside)[0]!r} beside {keyword!r} can't be followed; write both into one schema"
        if keyword == "allOf" and len(schema[keyword]) > 1:
            return "allOf of several schemas can't be followed; write them as one"
    return ""


def _values(schema: Json, said: frozenset[str], kinds: list[str]) -> str:
    if not said & {"const", "enum"}:
        return ""
    if beside := said - {"const", "enum", "type"}:
        return f"{sorted(beside)[0]!r} beside a list of values can't be followed; list what it allows"
    values = [schema["const"]] if "const" in said else schema["enum"]
    if "const" in said and "enum" in said and schema["const"] not in schema["enum"]:
        return "const isn't among the values of enum"
    wrong = [value for value in values if kinds and not any(_IS[kind](value) for kind in kinds)]
    return f"{wrong[0]!r} isn't of type {' or '.join(kinds)}" if wrong else ""


def _numbers(schema: Json, kinds: list[str]) -> str:
    limits = sorted(_LIMITS & schema.keys())
    if not limits or (kinds and not {"integer", "number"} & set(kinds)):
        return ""
    if "integer" not in kinds or "number" in kinds:
        return f"{limits[0]} can be followed for the type integer only"
    low, high = integer_limits(schema)
    return "no integer lies within its limits" if low is not None and high is not None and low > high else ""


def _texts(said: frozenset[str], kinds: list[str]) -> str:
    mine = sorted(said & _OF_TEXTS)
    if not mine or (kinds and "string" not in kinds):
        return ""
    if not kinds:
        return f"{mine[0]} needs the type string beside it"
    if {"pattern", "format"} & set(mine) and set(mine) - {"pattern"} and set(mine) - {"format"}:
        return f"{' and '.join(mine)} can't be followed together"
    return ""


def _parts(schema: Json, said: frozenset[str]) -> str:
    properties = schema.get("properties", {})
    missing = [name for name in schema.get("required", ()) if name not in properties]
    if missing and schema.get("additionalProperties") is False:
        return f"it requires {missing[0]!r} and forbids it"
    if "prefixItems" in said and said & {"minItems", "maxItems"}:
        count = len(schema["prefixItems"])
        if (schema.get("minItems"), schema.get("maxItems")) != (count, count) or "items" in said:
            return f"prefixItems goes only with a minItems and maxItems of {count}"
    return ""
