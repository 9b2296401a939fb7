"""The rest of a grammar: what was given plus anything it accepts is something that the grammar accepts."""

from __future__ import annotations

import json
import random

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core import Json
from freehold.engine.gbnf import Literal, OneOf
from freehold.engine.grammar import grammar_of
from freehold.engine.rest import Reader, rest_of
from freehold.errors import CannotResume

SCHEMAS: list[Json] = [
    {},
    {"enum": ["value 1", "value 10", "value 2", 'quo"te', "ß\n", 3.5, None]},
    {"type": "array", "items": {"type": "string", "maxLength": 5}, "minItems": 2, "maxItems": 4},
    {
        "type": "object",
        "properties": {"name": {"type": "string"}, "nation": {"type": "null"}, "number": {"type": "boolean"}},
        "additionalProperties": {"type": "integer", "minimum": -12, "maximum": 1234},
    },
    {
        "type": "object",
        "properties": {"c": {"type": "array", "items": {"$ref": "#"}, "maxItems": 2}, "d": {"type": "number"}},
        "required": ["c"],
    },
    {"anyOf": [{"type": "string"}, {"type": "string", "maxLength": 3}, {"type": "integer"}, {"enum": ["abc", 12]}]},
    {"type": "object", "properties": {"at": {"type": "string", "format": "date-time"}}, "required": ["at"]},
    {"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(12)}},
]


def walk(reader: Reader, draw: random.Random, most: int) -> str:
    """A text of the grammar, by choosing one way at every place; the shortest way out after `most` characters."""
    text, chain = "", draw.choice(sorted(reader.start, key=id))
    while chain is not None:
        leaves = reader.leaves(chain)
        if None in leaves and (len(text) > most or draw.random() < 0.3):
            break
        leaf = draw.choice([leaf for leaf in leaves if leaf is not None])
        part = leaf.part
        if isinstance(part, OneOf):
            low, high = draw.choice(part.ranges)
            text += chr(draw.randint(ord(low), min(ord(high), ord(low) + 300)))
            chain = leaf.next
        else:
            assert isinstance(part, Literal)
            text += part.text
            chain = leaf.next
        if len(text) > 4 * most:
            return walk(reader, draw, most)  # recursion ran away: begin anew
    return text


@pytest.mark.parametrize("schema", SCHEMAS)
@given(seed=st.integers(0, 2**32), share=st.floats(0, 1))
def test_what_was_given_and_a_rest_make_a_whole(schema: Json, seed: int, share: float) -> None:
    grammar = grammar_of(schema)
    assert grammar is not None
    draw, whole = random.Random(seed), Reader(grammar)
    text = walk(whole, draw, 60)
    assert whole.accepts(text)
    cut = int(share * len(text))
    rest = rest_of(grammar, text[:cut])
    if rest is None:
        assert text[cut:] == ""
        return
    reader = Reader(rest)
    assert reader.accepts(text[cut:])
    other = text[:cut] + walk(reader, draw, 60)
    assert whole.accepts(other)
    value = json.loads(other)
    if "additionalProperties" not in schema:  # there an extra property may have the name of a described one
        jsonschema.validate(value, schema or {"type": "object"})


@pytest.mark.parametrize("schema", SCHEMAS)
@given(seed=st.integers(0, 2**32), cuts=st.tuples(st.integers(0, 80), st.integers(0, 80)))
def test_the_rest_of_a_rest_is_the_rest_of_both(schema: Json, seed: int, cuts: tuple[int, int]) -> None:
    grammar = grammar_of(schema)
    assert grammar is not None
    text = walk(Reader(grammar), random.Random(seed), 60)
    first, second = text[: cuts[0]], text[cuts[0] : sum(cuts)]
    rest = rest_of(grammar, first)
    at_once = rest_of(grammar, first + second)
    by_steps = None if rest is None else rest_of(rest, second)
    assert (at_once is None) == (by_steps is None)
    if at_once is not None and by_steps is not None:
        assert Reader(at_once).accepts(text[sum(cuts) :])
        assert Reader(by_steps).accepts(text[sum(cuts) :])


def test_a_complete_text_leaves_nothing() -> None:
    grammar = grammar_of({"enum": ["a", "ab"]})
    assert grammar is not None
    assert rest_of(grammar, '"ab"') is None
    assert rest_of(grammar, '"a') == 'root ::= ("\\"" | "b\\"")\n'


def test_a_text_that_does_not_follow_the_grammar_is_refused() -> None:
    grammar = grammar_of({"type": "object"})
    assert grammar is not None
    with pytest.raises(CannotResume):
        rest_of(grammar, '{"a": b')


def test_a_long_text_is_read_in_no_time() -> None:
    grammar = grammar_of({"type": "array", "items": {"type": "object"}})
    assert grammar is not None
    text = json.dumps([{"key": "some words " * 20, "n": [1, 2.5, None]}] * 200)[:-1]
    assert rest_of(grammar, text) is not None
