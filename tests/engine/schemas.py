"""JSON schemas that an engine with a real model must follow, some large, some odd."""

from __future__ import annotations

from typing import Any

SCHEMAS: dict[str, dict[str, Any]] = {
    "any": {},
    "choices": {"enum": [f"value {i}" for i in range(1000)]},
    "values": {"enum": ['quo"te', "back\\slash", 3.5, None, {"a": [1, "ß\n"]}]},
    "repeats": {"type": "array", "items": {"type": "string", "maxLength": 128}, "minItems": 2, "maxItems": 1000},
    "few": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 3},
    "one": {"type": "array", "items": {"type": "boolean"}, "maxItems": 1},
    "none": {"type": "array", "maxItems": 0},
    "all optional": {"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(100)}},
    "some optional": {
        "type": "object",
        "properties": {"a": {"type": "null"}, "b": {"type": "boolean"}, "c": {"const": 1}, "d": {"const": 'a "d"'}},
        "required": ["b", "d", "more"],
        "additionalProperties": {"type": "integer", "minimum": 1, "maximum": 12},
    },
    "recursive": {
        "type": "object",
        "properties": {"c": {"type": "array", "items": {"$ref": "#"}, "maxItems": 2}},
        "required": ["c"],
    },
    "references": {
        "$defs": {
            "a/b": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/a~1b"}, {"type": "null"}]}}}
        },
        "$ref": "#/$defs/a~1b",
    },
    "pattern": {"type": "string", "pattern": "^[a-z]{2,5}( [0-9]+)?$"},
    "any characters": {"type": "string", "pattern": "^.{3}(a|.)$"},
    "all below": {"type": "integer", "maximum": -5},
    "format": {"type": "string", "format": "date-time"},
    "all of": {"allOf": [{"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}]},
    "types": {"type": ["integer", "null"], "minimum": -5, "maximum": 5},
    "far apart": {"type": "integer", "minimum": -50_000, "maximum": 70_000},
    "between": {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 6},
    "above": {"type": "integer", "exclusiveMinimum": 12},
    "half": {"type": "integer", "exclusiveMinimum": 0.5, "exclusiveMaximum": 2.5},
    "large": {"type": "integer", "minimum": 999_999_999_990, "maximum": 1_000_000_000_010},
    "beside a pattern": {
        "type": "object",
        "properties": {
            "age": {"type": "integer", "minimum": 17.5, "maximum": 120},
            "b": {"type": "string", "pattern": "^a{2}$"},
        },
        "required": ["age", "b"],
        "additionalProperties": False,
    },
    "place by place": {"type": "array", "prefixItems": [{"const": 1}, {"enum": ["a"]}], "minItems": 2, "maxItems": 2},
    "length": {"type": "string", "minLength": 3, "maxLength": 5},
    "number": {"type": "number"},
}
