"""JSON schemas of function calls: the one that an answer is held to, and whether a call keeps its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import cast

from freehold.core import Json, Record
from freehold.errors import InvalidRequest

MAX_SCHEMA_DEPTH = 32


class Function(Record, frozen=True):
    """One function the client offers."""

    name: str
    description: str = ""
    parameters: Json = {}
    strict: bool = False


def check_depth(value: object, path: str, depth: int = MAX_SCHEMA_DEPTH) -> None:
    """Raise `InvalidRequest` for a schema nested deeper than any grammar compiler likes."""
    if not isinstance(value, dict | list):
        return
    if depth == 0:
        raise InvalidRequest("The JSON schema is nested too deep.", f"At most {MAX_SCHEMA_DEPTH} levels.", param=path)
    for inner in value.values() if isinstance(value, dict) else value:
        check_depth(inner, path, depth - 1)


def call_schema(functions: Sequence[Function]) -> Json:
    """The JSON schema of one call of one of `functions`: `{"name": ..., "arguments": {...}}`. Definitions of
    each function's schema are lifted to the root under a name of their own, where the references find them."""
    definitions: Json = {}
    calls: list[Json] = []
    for i, function in enumerate(functions):
        prefix = f"f{i}_"
        parameters: Json = {"type": "object"} | cast(Json, _relocate(function.parameters, prefix))
        for keyword in ("$defs", "definitions"):
            lifted: object = parameters.pop(keyword, None)
            definitions |= {prefix + name: inner for name, inner in lifted.items()} if isinstance(lifted, dict) else {}
        if _refers_to_root(function.parameters):
            definitions[prefix] = parameters
            parameters = {"$ref": f"#/$defs/{prefix}"}
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"type": "string", "const": function.name}, "arguments": parameters},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    schema: Json = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return schema | ({"$defs": definitions} if definitions else {})


def _relocate(schema: object, prefix: str) -> object:
    if isinstance(schema, list):
        return [_relocate(item, prefix) for item in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {key: _relocate(value, prefix) for key, value in schema.items()}
    reference = moved.get("$ref")
    if isinstance(reference, str):
        moved["$ref"] = _DEFINITION.sub(f"#/$defs/{prefix}", reference)
    return moved


def _refers_to_root(schema: object) -> bool:
    if isinstance(schema, dict):
        return schema.get("$ref") == "#" or any(_refers_to_root(inner) for inner in schema.values())
    return isinstance(schema, list) and any(_refers_to_root(item) for item in schema)


_DEFINITION = re.compile(r"^#(/(\$defs|definitions)/|$)")
_KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def satisfies(value: object, schema: object, root: Json) -> bool:
    """Whether `value` keeps the schema, as far as strict function schemas go: types, enum, const, required and
    additional properties, items, anyOf, oneOf, allOf, references within `root`. Other keywords aren't looked at."""
    if isinstance(schema, bool):
        return schema
    if not isinstance(schema, dict):
        return True
    if isinstance(reference := schema.get("$ref"), str) and not satisfies(value, _find(reference, root), root):
        return False
    if "enum" in schema and not any(_same(value, allowed) for allowed in _list(schema["enum"])):
        return False
    if "const" in schema and not _same(value, schema["const"]):
        return False
    for keyword, enough in (("anyOf", any), ("oneOf", any), ("allOf", all)):
        if keyword in schema and not enough(satisfies(value, inner, root) for inner in _list(schema[keyword])):
            return False
    kinds = schema.get("type")
    if kinds and not any(_is_kind(value, kind) for kind in ([kinds] if isinstance(kinds, str) else _list(kinds))):
        return False
    if isinstance(value, list):
        return all(satisfies(item, schema.get("items", True), root) for item in value)
    return not isinstance(value, dict) or _properties_satisfy(value, schema, root)


def _properties_satisfy(value: Json, schema: Json, root: Json) -> bool:
    if any(name not in value for name in _list(schema.get("required"))):
        return False
    properties = schema.get("properties")
    known = properties if isinstance(properties, dict) else {}
    other = schema.get("additionalProperties", True)
    return all(satisfies(inner, known.get(name, other), root) for name, inner in value.items())


def _same(a: object, b: object) -> bool:
    """Equal in JSON's sense, where true isn't 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    return a == b


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _is_kind(value: object, kind: object) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _KINDS.get(kind, (object,)) if isinstance(kind, str) else object)


def _find(reference: str, root: Json) -> object:
    """The schema at a JSON pointer within `root`; anything else allows everything."""
    found: object = root
    for part in reference.removeprefix("#").split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        found = found.get(name, True) if isinstance(found, dict) else True
    return found
