"""Which JSON schemas an engine is asked to follow: checked before it sees them.

The grammar compilers of the libraries take a malformed schema badly: one raises in the middle of a step and
is lost for every other answer, the other quietly leaves the output free. So what isn't known to be followed
is refused here by name, and sizes are limited to what compiles in well under a second. `oneOf` is taken for
`anyOf`: that no second option fits too isn't looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from freehold.core import Json
from freehold.engine.clash import clash, integer_limits, kinds_of
from freehold.engine.pattern import pattern_trouble
from freehold.errors import InvalidRequest

_TYPES = frozenset(("null", "boolean", "integer", "number", "string", "array", "object"))
NOTES = frozenset(
    [
        "$schema",
        "$id",
        "$comment",
        "$anchor",
        "title",
        "description",
        "default",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
        "contentMediaType",
        "contentEncoding",
        "discriminator",
    ]
)
_COUNTS = frozenset(["minLength", "maxLength", "minItems", "maxItems"])
_NUMBERS = frozenset(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"])
_ONE = frozenset(["items", "additionalProperties"])
_MANY = frozenset(["anyOf", "oneOf", "allOf", "prefixItems"])
_NAMED = frozenset(["properties", "$defs", "definitions"])
_OTHER = frozenset(["type", "enum", "const", "required", "pattern", "format", "$ref"])
_SAYING = (_COUNTS | _NUMBERS | _ONE | _MANY | _NAMED | _OTHER) - {"$defs", "definitions"}
_KNOWN = NOTES | _COUNTS | _NUMBERS | _ONE | _MANY | _NAMED | _OTHER
_FORMATS = frozenset(["date", "time", "date-time", "uuid"])
_PAIRS = (("minLength", "maxLength"), ("minItems", "maxItems"))
_DEEPEST = 32
_MOST_NODES = 2_000
_MOST_CHOICES = 1_000
_LARGEST_COUNT = 1_000
_LONGEST_TEXT = 128
"""Of `maxLength`: at 300 one answer keeps xgrammar busy for seconds, and every other answer waits."""
_MOST_OPTIONAL = 100
"""Properties that may be left out, in one object: the same."""
_MOST_RANGES = 50
"""Different limits of integers: each may take some fifty rules, and thousands of rules end xgrammar's process."""
_LARGEST_CHARS = 100_000


def check_schema(schema: Json) -> None:
    """Raises `InvalidRequest` naming what in `schema` can't be followed. `{}` means any JSON object."""
    if not isinstance(schema, dict):
        raise _refuse("it isn't an object", "#")
    _Checker(schema).run()
    try:
        size = len(json.dumps(schema, allow_nan=False))
    except ValueError as error:
        raise _refuse("it has a number that isn't finite", "#") from error
    if size > _LARGEST_CHARS:
        raise _refuse(f"it has {size} characters, over {_LARGEST_CHARS}", "#")


def _refuse(why: str, path: str) -> InvalidRequest:
    return InvalidRequest("This JSON schema can't be followed.", f"At {path}: {why}.", param="json_schema")


class _Checker:
    """Walks one schema, each part once; `path` is a JSON pointer for the message."""

    def __init__(self, root: Json) -> None:
        self.root = root
        self.nodes = 0
        self.ranges: set[tuple[int | None, int | None]] = set()
        self.ending: set[str] = set()
        """References whose values are known to end."""
        self.direct: set[str] = set()
        """References known not to lead to themselves before a value begins."""

    def run(self) -> None:
        self.node(self.root, "#", 0)
        self.ends(self.root, "#", frozenset())

    def node(self, schema: Any, path: str, depth: int) -> None:
        self.nodes += 1
        if schema is True:
            return
        if not isinstance(schema, dict):
            raise _refuse("here must be a schema that allows something", path)
        if depth > _DEEPEST or self.nodes > _MOST_NODES:
            raise _refuse(f"it is over {_DEEPEST} levels deep or has over {_MOST_NODES} parts", path)
        for keyword, value in sorted(schema.items(), key=lambda item: item[0] != "required"):
            if keyword not in _KNOWN and not (keyword.startswith("x-") or keyword == "strict"):
                raise _refuse(f"the keyword {keyword!r} isn't supported", path)
            self.keyword(schema, keyword, value, f"{path}/{keyword}")
        for low, high in _PAIRS:
            if schema.get(low, 0) > schema.get(high, float("inf")):
                raise _refuse(f"{low} is larger than {high}", path)
        said = frozenset(keyword for keyword in schema if keyword in _SAYING)
        if why := clash(schema, said, lambda ref: self.resolve(ref, path)):
            raise _refuse(why, path)
        if "integer" in kinds_of(schema):
            self.ranges.add(integer_limits(schema))
            if len(self.ranges) > _MOST_RANGES:
                raise _refuse(f"it has over {_MOST_RANGES} different limits of integers", path)
        self.begins(schema, path, frozenset())
        for child, where in _children(schema, path):
            self.node(child, where, depth + 1)

    def keyword(self, schema: Json, keyword: str, value: Any, path: str) -> None:
        """One keyword with its value, children aside."""
        match keyword:
            case "type":
                kinds = value if isinstance(value, list) else [value]
                if not kinds or not all(isinstance(kind, str) and kind in _TYPES for kind in kinds):
                    raise _refuse(f"{value!r} is no type", path)
            case "enum":
                if not isinstance(value, list) or not 1 <= len(value) <= _MOST_CHOICES:
                    raise _refuse(f"it must list 1 to {_MOST_CHOICES} values", path)
            case "required":
                if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
                    raise _refuse("it must list names", path)
            case "pattern":
                if why := pattern_trouble(value):
                    raise _refuse(why, path)
            case "format":
                if value not in _FORMATS and "string" in kinds_of(schema):
                    raise _refuse(f"{value!r} isn't among {', '.join(sorted(_FORMATS))}", path)
            case "$ref":
                self.resolve(value, path)
            case _ if keyword in _COUNTS:
                most = _LONGEST_TEXT if keyword == "maxLength" else _LARGEST_COUNT
                if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
                    raise _refuse(f"it must be a whole number up to {most}", path)
            case _ if keyword in _NUMBERS:
                if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= 1e15:
                    raise _refuse("it must be a number up to 1e15", path)
            case _ if keyword in _NAMED:
                if not isinstance(value, dict):
                    raise _refuse("it must be an object", path)
                if keyword == "properties" and len(value.keys() - set(schema.get("required", ()))) > _MOST_OPTIONAL:
                    raise _refuse(f"over {_MOST_OPTIONAL} properties may be left out", path)
            case _ if keyword in _MANY:
                if not isinstance(value, list) or not value:
                    raise _refuse("it must be a list of schemas", path)

    def resolve(self, ref: Any, path: str) -> Any:
        """What a `$ref` points at; only places within this schema are known."""
        if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
            raise _refuse(f"{ref!r} lies outside of the schema", path)
        found: Any = self.root
        for part in ref.split("/")[1:]:
            part = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or part not in found:
                raise _refuse(f"there is nothing at {ref!r}", path)
            found = found[part]
        return found

    def ends(self, schema: Any, path: str, through: frozenset[str]) -> None:
        """A value must be able to end: no `$ref` may lead back to itself by way of required parts alone."""
        if not isinstance(schema, dict):
            return
        if (ref := schema.get("$ref")) is not None:
            if ref in through:
                raise _refuse(f"{ref!r} requires itself, so no value could ever end", path)
            if ref not in self.ending:
                self.ends(self.resolve(ref, path), path, through | {ref})
                self.ending.add(ref)
        properties = schema.get("properties", {})
        for name in schema.get("required", []):
            self.ends(properties.get(name), f"{path}/properties/{name}", through)
        for part in schema.get("allOf", []):
            self.ends(part, path, through)

    def begins(self, schema: Any, path: str, through: frozenset[str]) -> None:
        """A `$ref` must not lead back to itself by way of `anyOf` and its like alone: nothing is written on the way."""
        if not isinstance(schema, dict):
            return
        if (ref := schema.get("$ref")) is not None:
            if ref in through:
                raise _refuse(f"{ref!r} may stand for itself", path)
            if ref not in self.direct:
                self.begins(self.resolve(ref, path), path, through | {ref})
                self.direct.add(ref)
        for keyword in ("anyOf", "oneOf", "allOf"):
            options = schema.get(keyword)
            for part in options if isinstance(options, list) else []:
                self.begins(part, path, through)


def _children(schema: Json, path: str) -> Iterator[tuple[Any, str]]:
    for keyword, value in schema.items():
        if keyword in _MANY:
            yield from ((child, f"{path}/{keyword}/{index}") for index, child in enumerate(value))
        elif keyword in _NAMED:
            yield from ((child, f"{path}/{keyword}/{name}") for name, child in value.items())
        elif keyword == "items" or (keyword == "additionalProperties" and value is not False):
            yield value, f"{path}/{keyword}"
