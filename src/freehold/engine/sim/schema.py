"""A small JSON value that satisfies a schema, for the `sim` engine's structured answers.

Deterministic. What it can't satisfy for certain (patterns, `not`, conditions) is refused with the
keyword's name; it never writes an answer that only might be valid.
"""

from __future__ import annotations

import math
from typing import Any

from freehold.core import Json
from freehold.errors import InvalidRequest

_DEEPEST = 24
_MOST_VALUES = 5_000
_LONGEST_TEXT = 10_000
_REFUSED = {"pattern", "patternProperties", "not", "if", "contains", "propertyNames", "minProperties", "$dynamicRef"}
_REFUSED |= {"dependencies", "dependentRequired", "dependentSchemas"}
_NOTES = ("$defs", "definitions", "title", "description", "$schema", "$id", "default", "examples", "discriminator")
_FORMATS = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "a@example.org",
    "hostname": "example.org",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.org",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_TYPES: dict[str, type | tuple[type, ...]] = {
    "null": type(None),
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "string": str,
    "array": list,
    "object": dict,
}


class _Endless(Exception):
    """This branch of a recursive schema has no end."""


def instance(schema: Json) -> Any:
    """A value that satisfies `schema`; `{}` gives an empty object. Raises `InvalidRequest`."""
    if not schema:
        return {}
    try:
        return _Writer(schema).value(schema, 0)
    except _Endless:
        raise _refuse("has no value that is small and fits") from None
    except (TypeError, ValueError, AttributeError, ArithmeticError):
        raise _refuse("is malformed") from None


def _refuse(why: str) -> InvalidRequest:
    next = "Use a simpler schema, or an engine with a model."
    return InvalidRequest("The sim engine can't honour this JSON schema.", f"It {why}.", next, param="json_schema")


class _Writer:
    """Walks one schema. Counts what it writes, for a schema can ask for more than memory holds."""

    def __init__(self, root: Json) -> None:
        self.root = root
        self.values = 0

    def value(self, schema: Any, depth: int) -> Any:
        self.values += 1
        if depth > _DEEPEST or self.values > _MOST_VALUES:
            raise _Endless
        if schema is True or schema == {}:
            return None
        if not isinstance(schema, dict):
            raise _refuse(f"has {schema!r} where a schema is expected")
        for keyword in sorted(_REFUSED & schema.keys()):
            raise _refuse(f"uses {keyword!r}")
        if "$ref" in schema:
            return self.value(_without(schema, "$ref") | self.resolve(schema["$ref"]), depth + 1)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self.fitting(schema, "enum", schema["enum"])
        if "allOf" in schema:
            return self.value(self.merged(schema), depth + 1)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return self.alternative(schema, keyword, depth)
        return self.typed(schema, depth)

    def fitting(self, schema: Json, keyword: str, options: list[Any]) -> Any:
        """The first of `options` that `schema` allows."""
        for option in options:
            if not self.excludes(schema, option):
                return option
        raise _refuse(f"has an {keyword!r} of which nothing fits")

    def resolve(self, ref: Any) -> Json:
        if not isinstance(ref, str) or not ref.startswith("#"):
            raise _refuse(f"refers to {ref!r}, which lies outside of it")
        found: Any = self.root
        for part in ref[1:].strip("/").split("/") if ref != "#" else []:
            part = part.replace("~1", "/").replace("~0", "~")
            found = found.get(part) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            raise _refuse(f"refers to {ref!r}, which isn't there")
        return found

    def merged(self, schema: Json) -> Json:
        """`allOf` as one schema: properties and required are joined, the rest must not clash."""
        whole = _without(schema, "allOf")
        for part in schema["allOf"]:
            if "$ref" in part:
                part = _without(part, "$ref") | self.resolve(part["$ref"])
            for key, value in part.items():
                if key == "properties":
                    whole[key] = {**whole.get(key, {}), **value}
                elif key == "required":
                    whole[key] = [*whole.get(key, []), *value]
                elif key not in _NOTES and whole.setdefault(key, value) != value:
                    raise _refuse(f"has an 'allOf' that gives {key!r} twice")
        return whole

    def alternative(self, schema: Json, keyword: str, depth: int) -> Any:
        """The simplest alternative that ends. What stands beside the keyword holds as well, and of a
        `oneOf` the others must not hold."""
        beside = _without(schema, keyword, *_NOTES)
        options = sorted(schema[keyword], key=lambda option: isinstance(option, dict) and option.get("type") != "null")
        for option in options:
            try:
                value = self.value(self.merged({**beside, "allOf": [option]}) if beside else option, depth + 1)
            except _Endless:
                continue
            if keyword == "anyOf" or all(other is option or self.excludes(other, value) for other in options):
                return value
        raise _Endless

    def excludes(self, schema: Any, value: Any) -> bool:
        """True if `value` certainly breaks `schema`; the check looks at types, constants and what is required."""
        if not isinstance(schema, dict):
            return schema is False
        if "$ref" in schema:
            schema = self.resolve(schema["$ref"])
        kinds = schema.get("type", [])
        if kinds and not any(_is(value, kind) for kind in (kinds if isinstance(kinds, list) else [kinds])):
            return True
        if value != schema.get("const", value) or value not in schema.get("enum", [value]):
            return True
        if not isinstance(value, dict):
            return False
        known = schema.get("properties", {})
        if schema.get("additionalProperties") is False and not value.keys() <= known.keys():
            return True
        return not value.keys() >= set(schema.get("required", [])) or any(
            self.excludes(known[name], value[name]) for name in known.keys() & value.keys()
        )

    def typed(self, schema: Json, depth: int) -> Any:
        kind = schema.get("type") or _guess(schema)
        if isinstance(kind, list):
            kind = "null" if "null" in kind else kind[0]
        match kind:
            case "null":
                return None
            case "boolean":
                return False
            case "integer" | "number":
                return _number(schema, whole=kind == "integer")
            case "string":
                return _string(schema)
            case "array":
                return self.array(schema, depth)
            case "object":
                return self.object(schema, depth)
        raise _refuse(f"has the unknown type {kind!r}")

    def array(self, schema: Json, depth: int) -> list[Any]:
        least = schema.get("minItems", 0)
        if schema.get("uniqueItems") and least > 1:
            raise _refuse("asks for several unique items")
        items = [self.value(item, depth + 1) for item in schema.get("prefixItems", [])[:least]]
        while len(items) < least:
            items.append(self.value(schema.get("items", True), depth + 1))
        return items

    def object(self, schema: Json, depth: int) -> Json:
        properties = schema.get("properties", {})
        extra = schema.get("additionalProperties", True)
        wanted = list(dict.fromkeys(schema.get("required", [])))
        for name in wanted:
            if name not in properties and extra is False:
                raise _refuse(f"requires {name!r}, which it doesn't allow")
        return {name: self.value(properties.get(name, extra), depth + 1) for name in wanted}


def _without(schema: Json, *keys: str) -> Json:
    return {key: value for key, value in schema.items() if key not in keys}


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool) and kind in ("integer", "number"):
        return False
    whole = kind == "integer" and isinstance(value, float) and value.is_integer()
    return whole or isinstance(value, _TYPES.get(kind, ()))


def _guess(schema: Json) -> str:
    if schema.keys() & {"items", "prefixItems", "minItems"}:
        return "array"
    if schema.keys() & {"minLength", "format", "maxLength"}:
        return "string"
    return "number" if schema.keys() & {"minimum", "maximum", "multipleOf"} else "object"


def _number(schema: Json, *, whole: bool) -> int | float:
    """0 if the limits allow it, else a number at or near one of them."""
    low, above = schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf)
    high, below = schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf)
    edges = [edge for edge in (low, above, high, below) if math.isfinite(edge)]
    step = schema.get("multipleOf", 1 if whole else 0)
    tries: list[float] = [0]
    if step < 0 or (step == 0 and "multipleOf" in schema):
        raise ValueError("multipleOf")
    if step != int(step):
        edges = []  # a sum of such steps is a multiple only nearly
    for edge in edges:
        near = math.floor(edge / step) * step if step else edge
        tries += [near, near + (step or 1), near - (step or 1)]
    if not step and edges:
        tries.append((max(low, above, -1e9) + min(high, below, 1e9)) / 2)
    for value in tries:
        value = int(value) if float(value).is_integer() else value
        if low <= value <= high and above < value < below and not (whole and isinstance(value, float)):
            return value
    raise _refuse("has number limits that leave nothing simple")


def _string(schema: Json) -> str:
    least, most = schema.get("minLength", 0), schema.get("maxLength", math.inf)
    text = _FORMATS.get(schema.get("format", ""))
    if text is None:
        text = "text" if most >= 4 else "text"[: int(most)]
        text += "." * (min(least, _LONGEST_TEXT) - len(text))
    if not least <= len(text) <= most:
        raise _refuse("has limits on a text that leave nothing simple")
    return text
