"""JSON schemas as grammars: what is converted, what is left to the library, and that nothing is left open."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from freehold.engine.digits import Ranges
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
        {"type": "number", "minimum": 3},
        {"type": "array", "prefixItems": [{"type": "integer"}]},
        {"minimum": 3},
    ],
)
def test_what_is_left_to_the_library(schema: dict[str, Any]) -> None:
    assert grammar_of(schema) is None


def test_listed_values_branch_where_they_differ() -> None:
    assert rules({"enum": [12, 1, 123, 2]})["root"] == '("1" ("2" ("3" | "") | "") | "2")'
    assert rules({"enum": ["only"]})["root"] == r'"\"only\""'
    options = rules({"anyOf": [{"const": "ab"}, {"type": "null"}, {"enum": ["ac"]}]})["root"]
    assert options == r"""("\"a" ("b\"" | "c\"") | "null")"""


def test_limits_of_integers_are_followed_here() -> None:
    found = rules({"type": "integer", "minimum": -1, "maximum": 1.5})
    assert found[found["root"]] == '[0-1] | "-" r0'
    assert found["r0"] == '"1"'
    assert rules({"type": "integer", "minimum": 0})["root"] == "natural"


limits = st.one_of(st.none(), st.integers(-1200, 1200), st.integers(-(10**15), 10**15))


@given(limits, limits, st.lists(st.integers(-(10**15), 10**15), max_size=4))
def test_exactly_the_integers_between_the_limits_are_written(
    low: int | None, high: int | None, more: list[int]
) -> None:
    assume(low is None or high is None or low <= high)
    written: dict[str, str] = {}

    def rule(body: str) -> str:
        ways = [re.match(r"[^ ]*", way) for way in body.split(" | ")]
        firsts = "".join(str(digit) * sum(bool(re.match(way[0].strip('"') or "$", str(digit))) for way in ways if way)
                         for digit in range(10))  # fmt: skip
        assert len(firsts) == len(set(firsts)), "alternatives that begin alike"
        name = f"r{len(written)}"
        written[name] = "(" + re.sub(r"r\d+", lambda named: written[named[0]], body) + ")"
        return name

    root = re.sub(r"r\d+", lambda named: written[named[0]], Ranges(rule).between(low, high))
    digits = re.compile(root.replace('"', "").replace(" ", ""))
    near = [edge + step for edge in (low, high) if edge is not None for step in (-10, -1, 0, 1, 9)]
    for number in (*near, *more, 0, -1, 7, 99, 100, 1000):
        inside = (low is None or number >= low) and (high is None or number <= high)
        assert bool(digits.fullmatch(str(number))) == inside, number
    for odd in ("-0", "", "-", "00", "007", "+1", "1.0"):
        assert not digits.fullmatch(odd)


def test_limits_of_integers_reach_the_library_whole() -> None:
    given = {"type": ["integer", "null"], "exclusiveMinimum": 0.5, "maximum": 9.9}
    assert for_library({"items": given})["items"] == {"type": ["integer", "null"], "minimum": 1, "maximum": 9}


def test_patterns_for_the_library_match_no_quote_or_control_character() -> None:
    told = for_library({"anyOf": [{"pattern": r".\.[^a]\S"}, {"const": {"pattern": "."}}]})["anyOf"]
    safe = told[0]["pattern"]
    assert re.fullmatch(safe, "b.bc")
    for wrong in ('".bc', 'b."c', "b.b\n", "b.\\c", "b.ac"):
        assert not re.fullmatch(safe, wrong)
    assert told[1] == {"const": {"pattern": "."}}
