"""JSON schemas as grammars: what is converted, what is left to the library, and that nothing is left open."""

from __future__ import annotations

import re
from typing import Any

import pytest

from freehold.engine.grammar import for_library, grammar_of


def rules(schema: dict[str, Any]) -> dict[str, str]:
    grammar = grammar_of(schema)
    assert grammar is not None
    return dict(line.split(" ::= ", 1) for line in grammar.splitlines())


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object", "properties": {"a": {"type": "string"}, "b": {"$ref": "#"}}, "required": ["a"]},
        {"enum": ["a", 1, None, {"b": 'with "quotes" and \\'}]},
        {"type": ["string", "null"], "description": "words"},
        {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "array", "items": {}}]},
    ],
)
def test_every_rule_that_is_named_is_there(schema: dict[str, Any]) -> None:
    found = rules(schema)
    for body in found.values():
        bare = re.sub(r'"(\\.|[^"\\])*"|\[(\\.|[^\]\\])*\]|\{[\d,]*\}', " ", body)
        assert set(re.findall(r"[a-z]\w*", bare)) <= found.keys()


def test_no_more_than_one_space() -> None:
    found = rules({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "number"}}}})
    assert found["comma"] == '"," " "?'
    assert found["colon"] == '":" " "?'
    assert not any("[ \\t" in body or '" "*' in body for body in found.values())


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^a+$"},
        {"type": "integer", "minimum": -1, "maximum": 1_000_000},
        {"type": "integer", "exclusiveMinimum": 3},
        {"type": "number", "minimum": 3},
        {"type": "array", "prefixItems": [{"type": "integer"}]},
        {"minimum": 3},
    ],
)
def test_what_is_left_to_the_library(schema: dict[str, Any]) -> None:
    assert grammar_of(schema) is None


def test_small_ranges_are_listed() -> None:
    assert rules({"type": "integer", "minimum": -1, "maximum": 1.5})["root"] == '("-1" | "0" | "1")'
    assert rules({"type": "integer", "exclusiveMinimum": 3, "maximum": 5})["root"] == '("4" | "5")'


def test_patterns_for_the_library_match_no_quote_or_control_character() -> None:
    told = for_library({"anyOf": [{"pattern": r".\.[^a]\S"}, {"const": {"pattern": "."}}]})["anyOf"]
    safe = told[0]["pattern"]
    assert re.fullmatch(safe, "b.bc")
    for wrong in ('".bc', 'b."c', "b.b\n", "b.\\c", "b.ac"):
        assert not re.fullmatch(safe, wrong)
    assert told[1] == {"const": {"pattern": "."}}
