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
    {"type": "object", "anyOf": [{"type": "object", "required": ["a"]}, {"type": "object"}]},
    {"$defs": {"a": {"type": "object"}}, "type": "object", "$ref": "#/$defs/a"},
    {"$defs": {"a": {"type": "object"}}, "type": "object", "allOf": [{"$ref": "#/$defs/a"}]},
    {"type": "array", "prefixItems": [{"type": "integer"}, {}], "minItems": 2, "maxItems": 2},
    {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 2},
    {"type": ["string", "null"], "enum": ["a", None]},
    {"type": "integer", "format": "int32"},
    {"type": "integer", "maximum": -5},
    {"type": "integer", "minimum": 0.5},
    {"type": ["integer", "null"], "exclusiveMinimum": -1e15, "maximum": 1e15},
    *({"type": "string", "pattern": good} for good in ("^(a|b)$", "[|^$]{2,}", r"\$\|\{", "(?:ab)+", r"^\d{3}-[^@]+$")),
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
    **{
        f"pattern {bad}": {"type": "string", "pattern": bad}
        for bad in (
            "a{,3}",
            "[]a]",
            "{a}",
            "a{",
            "a|b",
            "^a|b$",
            "a^b",
            "$a",
            '"',
            r"\\\\",
            r"\n",
            r"[\t]",
            r"\x22",
            r"\0",
        )
    },
    "not": {"not": {"type": "string"}},
    "if": {"if": {"type": "string"}, "then": {"minLength": 3}},
    "format": {"type": "string", "format": "klingon"},
    "crossed numbers": {"type": "integer", "minimum": 10, "maximum": 3},
    "too many limits": {
        "prefixItems": [{"type": "integer", "minimum": i} for i in range(51)],
        "minItems": 51,
        "maxItems": 51,
    },
    "crossed counts": {"type": "array", "minItems": 5, "maxItems": 2},
    "a million": {"type": "string", "maxLength": 1_000_000},
    "a paragraph": {"type": "string", "maxLength": 500},
    "all optional": {"type": "object", "properties": {f"p{i}": {} for i in range(101)}},
    "fraction": {"type": "string", "maxLength": 1.5},
    "text for a number": {"type": "integer", "minimum": "3"},
    "no integer between": {"type": "integer", "minimum": 5.5, "maximum": 5.7},
    "nothing between": {"type": "integer", "exclusiveMinimum": 4, "exclusiveMaximum": 5},
    "fractions": {"type": "number", "minimum": 0, "maximum": 1},
    "maybe fractions": {"type": ["number", "null"], "maximum": 1},
    "limits of anything": {"minimum": 3},
    "not a number": {"type": "integer", "minimum": float("nan")},
    "endless enum": {"enum": [float("inf")]},
    "several": {"allOf": [{"type": "object"}, {"type": "object", "required": ["a"]}]},
    "beside a reference": {"$defs": {"a": {"type": "string"}}, "$ref": "#/$defs/a", "minLength": 3},
    "type beside another": {"$defs": {"a": {"type": "string"}}, "type": "object", "$ref": "#/$defs/a"},
    "beside options": {"type": "object", "anyOf": [{"type": "string"}, {"type": "object"}]},
    "const of another type": {"type": "string", "const": 3},
    "enum of another type": {"type": ["integer", "null"], "enum": [1, None, "x"]},
    "a bool is no integer": {"type": "integer", "const": True},
    "const outside of enum": {"enum": [1, 2], "const": 3},
    "enum with a length": {"enum": ["a", "bcd"], "maxLength": 1},
    "pattern and length": {"type": "string", "pattern": "a+", "maxLength": 3},
    "pattern and format": {"type": "string", "pattern": "a+", "format": "date"},
    "format and length": {"type": "string", "format": "date", "maxLength": 3},
    "length of anything": {"minLength": 3},
    "odd format": {"type": ["string", "null"], "format": "klingon"},
    "required and forbidden": {"type": "object", "required": ["a"], "additionalProperties": False},
    "a tuple of other length": {"type": "array", "prefixItems": [{}, {}], "minItems": 1},
    "one option is itself": {"anyOf": [{"type": "null"}, {"$ref": "#"}]},
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
