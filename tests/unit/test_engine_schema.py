"""Which JSON schemas are let through to an engine: what it can follow, and nothing that could break it."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.engine.schema import check_schema
from freehold.errors import InvalidRequest

STEP = {"type": "object", "properties": {"next": {"$ref": "#/$defs/step"}}}
GOOD: list[Any] = [
    {},
    {"type": "object"},
    {"type": ["string", "null"]},
    {"properties": {f"p{i}": {} for i in range(101)}, "required": ["p1"]},
    {"enum": ["a", 1, None]},
    {"const": {"any": "value"}},
    {"type": "array", "items": {"type": "integer", "minimum": -3}, "minItems": 1, "maxItems": 4},
    {"type": "object", "properties": {"a": {"type": "string", "pattern": "^[a-z]{2,5}$"}}, "required": ["a"]},
    {"$defs": {"step": STEP}, "$ref": "#/$defs/step"},
    {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}, "required": ["children"]},
    {"anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": False}], "title": "T", "default": 1},
    {"type": "object", "properties": {"when": {"type": "string", "format": "date-time"}}, "x-order": 1},
]
BAD: dict[str, Any] = {
    "unknown type": {"type": "bogus"},
    "no type at all": {"type": []},
    "not a schema": {"properties": {"a": 3}},
    "nothing allowed": {"properties": {"a": False}},
    "properties": {"properties": 3},
    "required": {"required": "name"},
    "empty enum": {"enum": []},
    "huge enum": {"enum": [f"value {i}" for i in range(20_000)]},
    "fat enum": {"enum": ["v" * 5000 + str(i) for i in range(100)]},
    "missing ref": {"$ref": "#/$defs/nope"},
    "outside ref": {"$ref": "http://example.org/schema"},
    "itself": {"$ref": "#"},
    "each other": {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    "endless": {"type": "object", "properties": {"c": {"$ref": "#"}}, "required": ["c"]},
    "bad pattern": {"type": "string", "pattern": "(["},
    "lookahead": {"type": "string", "pattern": "(?=a)b"},
    "word boundary": {"type": "string", "pattern": r"\bword\b"},
    "endless pattern": {"type": "string", "pattern": "a{100000}"},
    "not": {"not": {"type": "string"}},
    "if": {"if": {"type": "string"}, "then": {"minLength": 3}},
    "format": {"type": "string", "format": "klingon"},
    "crossed numbers": {"type": "integer", "minimum": 10, "maximum": 3},
    "crossed counts": {"type": "array", "minItems": 5, "maxItems": 2},
    "a million": {"type": "string", "maxLength": 1_000_000},
    "a paragraph": {"type": "string", "maxLength": 500},
    "all optional": {"type": "object", "properties": {f"p{i}": {} for i in range(101)}},
    "fraction": {"type": "string", "maxLength": 1.5},
    "text for a number": {"type": "integer", "minimum": "3"},
    "crossed texts": {"type": "integer", "minimum": "3", "maximum": 2},
}


@pytest.mark.parametrize("schema", GOOD)
def test_let_through(schema: Any) -> None:
    check_schema(schema)


@pytest.mark.parametrize("schema", BAD.values(), ids=BAD.keys())
def test_refused_by_name(schema: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_schema(schema)
    assert caught.value.param == "json_schema"


def test_too_deep() -> None:
    schema: dict[str, Any] = {}
    for _ in range(5000):
        schema = {"type": "object", "properties": {"a": schema}}
    with pytest.raises(InvalidRequest):
        check_schema(schema)


def test_references_are_followed_once_each() -> None:
    twice = [{"$ref": f"#/$defs/{i + 1}"} for i in range(60)]
    steps = {str(i): {"properties": {"a": ref, "b": ref}, "required": ["a", "b"]} for i, ref in enumerate(twice)}
    check_schema({"$ref": "#/$defs/0", "$defs": {**steps, "60": {"type": "null"}}})


KEYWORDS = st.sampled_from(
    ["type", "properties", "required", "items", "$ref", "$defs", "enum", "allOf", "pattern", "minimum", "maximum"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["object", "#", "#/$defs/a", "(", "a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYWORDS, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(KEYWORDS, VALUES, max_size=4))
def test_anything_is_let_through_or_refused_and_never_crashes(schema: dict[str, Any]) -> None:
    with contextlib.suppress(InvalidRequest):
        check_schema(schema)
