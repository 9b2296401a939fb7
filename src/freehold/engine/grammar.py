"""A JSON schema as a grammar (GBNF, which both engines' libraries read) of compact JSON.

The libraries' own converters allow any white space between JSON's parts, and a small model then writes blanks
until its context is full. Here at most one space follows a comma or a colon. Properties come in the schema's
order, and where it neither forbids nor describes others, none are added. What isn't converted here (patterns) is
left to the library: `grammar_of` returns None.
"""

from __future__ import annotations

import json
from itertools import groupby
from typing import Any

from freehold.core import Json
from freehold.engine.clash import integer_limits, kinds_of
from freehold.engine.digits import Ranges
from freehold.engine.pattern import within_json
from freehold.engine.schema import NOTES

_PLAIN = r"[\x20-\x21\x23-\x5B\x5D-\x7E\u00A0-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]"
"""A character of a text that needs no escape. Texts of limited length are made of these alone: asked to count a
rule with escapes in it, xgrammar lets control characters through and takes ten times as long."""
_BASE = r"""
value ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" (member (comma member)*)? "}"
member ::= string colon value
array ::= "[" (value (comma value)*)? "]"
string ::= "\"" char* "\""
char ::= PLAIN | "\\" (["\\/bfnrt] | "u" hex hex hex hex)
hex ::= [0-9a-fA-F]
number ::= integer ("." [0-9]{1,15})? ([eE] [-+]? [0-9]{1,2})?
integer ::= "-"? natural
natural ::= "0" | [1-9] [0-9]{0,15}
comma ::= "," " "?
colon ::= ":" " "?
date ::= [0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | "1" [0-9] | "2" [0-8])
time ::= ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})? zone
zone ::= "Z" | [-+] [01] [0-9] ":" [0-5] [0-9]
uuid ::= hex{8} "-" hex{4} "-" hex{4} "-" hex{4} "-" hex{12}
"""
_FORMATS = {"date": "date", "time": "time", "date-time": 'date "T" time', "uuid": "uuid"}
_WORDS = {"null": '"null"', "boolean": '("true" | "false")'}
_PARTS: dict[str, frozenset[str]] = {
    "string": frozenset(("minLength", "maxLength", "format")),
    "array": frozenset(("items", "prefixItems", "minItems", "maxItems")),
    "object": frozenset(("properties", "required", "additionalProperties")),
    "integer": frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")),
}


class _Beyond(Exception):
    """Not converted here."""


def grammar_of(schema: Json) -> str | None:
    """The grammar of a schema that `check_schema` let through; `{}` is any object. None: ask the library."""
    writer = _Writer(schema)
    try:
        root = writer.value(schema) if schema else "object"
    except _Beyond:
        return None
    rules = "".join(f"{name} ::= {body}\n" for name, body in writer.rules.items())
    return f"root ::= {root}\n{rules}{_BASE.lstrip().replace('PLAIN', _PLAIN)}"


def for_library(schema: Any) -> Any:
    """A schema that isn't converted here, its patterns such that what they match is JSON as it stands, and limits
    of integers whole and included."""
    if isinstance(schema, list):
        return [for_library(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: value if key in ("const", "enum") else for_library(value) for key, value in schema.items()}
    if isinstance(pattern := found.get("pattern"), str):
        found["pattern"] = within_json(pattern)
    if "integer" in kinds_of(found) and found.keys() & _PARTS["integer"]:
        low, high = integer_limits(found)
        found = {key: value for key, value in found.items() if key not in _PARTS["integer"]}
        found |= {} if low is None else {"minimum": low}
        found |= {} if high is None else {"maximum": high}
    return found


class _Writer:
    """Collects the rules that a schema needs beyond the common ones."""

    def __init__(self, root: Json) -> None:
        self.root = root
        self.rules: dict[str, str] = {}
        self.refs: dict[str, str] = {}
        self.ranges = Ranges(self.rule)

    def rule(self, body: str) -> str:
        name = f"r{len(self.rules)}"
        self.rules[name] = body
        return name

    def value(self, schema: Any) -> str:
        """An expression for one value."""
        if schema is True:
            return "value"
        said = {key: value for key, value in schema.items() if key not in NOTES and key not in ("$defs", "definitions")}
        if not said:
            return "value"
        for keyword, convert in (("$ref", self.ref), ("anyOf", self.any), ("oneOf", self.any), ("allOf", self.all)):
            if keyword in said:
                return convert(said[keyword])
        if "const" in said:
            return _literal(said["const"])
        if "enum" in said:
            return _one_of(_texts(said))
        kind = said.pop("type", None) or next(
            (kind for kind in ("object", "array") if said.keys() & _PARTS[kind]), None
        )
        if isinstance(kind, list):
            return "(" + " | ".join(self.typed(one, said) for one in kind) + ")"
        return self.typed(kind, said)

    def ref(self, ref: str) -> str:
        if ref not in self.refs:
            self.refs[ref] = name = self.rule("")
            found: Any = self.root
            for part in ref.split("/")[1:]:
                found = found[part.replace("~1", "/").replace("~0", "~")]
            self.rules[name] = self.value(found)
        return self.refs[ref]

    def any(self, options: list[Any]) -> str:
        """Options that list their values become one list."""
        listed = sorted({text for option in options for text in _texts(option)})
        others = [self.value(option) for option in options if not _texts(option)]
        return "(" + " | ".join([_one_of(listed), *others] if listed else others) + ")"

    def all(self, parts: list[Any]) -> str:
        return self.value(parts[0])  # `check_schema` lets no second one through

    def typed(self, kind: str | None, said: Json) -> str:
        """One type; keywords of other types in `said` say nothing about it."""
        mine = {key: value for key, value in said.items() if key in _PARTS.get(kind or "", ())}
        others = frozenset[str]().union(*(parts for other, parts in _PARTS.items() if other != kind))
        if said.keys() - mine.keys() - (others if kind != "number" else others - _PARTS["integer"]):
            raise _Beyond  # a pattern
        match kind:
            case "object":
                return self.object(mine) if mine else "object"
            case "array":
                return self.array(mine)
            case "string":
                return self.string(mine)
            case "integer":
                return self.integer(mine)
            case "number":
                return "number"
            case "null" | "boolean":
                return _WORDS[kind]
        raise _Beyond

    def object(self, said: Json) -> str:
        properties: Json = said.get("properties", {})
        extra = said.get("additionalProperties", not properties)
        required = said.get("required", [])
        members = [(name, properties.get(name, True), name in required) for name in properties]
        members += [(name, extra, True) for name in dict.fromkeys(required) if name not in properties]
        if any(schema is False for _, schema, _ in members):
            raise _Beyond
        more = f"string colon {self.value(extra)}" if extra is not False else ""
        # From the last property back: what may follow when nothing is written yet, and when something is.
        first, later = ("", "") if not more else (f"({more} (comma {more})*)?", f"(comma {more})*")
        for name, schema, needed in reversed(members):
            member = f"{_literal(name)} colon {self.value(schema)}"
            after = self.rule(later or '""')
            if needed:
                first, later = f"{member} {after}", f"comma {member} {after}"
            else:
                skipped = self.rule(first or '""')
                first, later = f"({member} {after} | {skipped})", f"(comma {member})? {after}"
        return f'"{{" {self.rule(first)} "}}"' if first else '"{" "}"'

    def array(self, said: Json) -> str:
        if places := said.get("prefixItems"):
            if said.get("maxItems") != len(places):
                raise _Beyond
            return '"[" ' + " comma ".join(self.value(place) for place in places) + ' "]"'
        item = self.rule(self.value(said.get("items", True)))
        least, most = said.get("minItems", 0), said.get("maxItems")
        if most == 0:
            return '"[" "]"'
        upper = "" if most is None else str(most - 1)
        inner = f"{item} (comma {item}){{{max(0, least - 1)},{upper}}}" if most != 1 else item
        return f'"[" {inner} "]"' if least else f'"[" ({inner})? "]"'

    def integer(self, said: Json) -> str:
        low, high = integer_limits(said)
        if high is None and low in (None, 0):
            return "integer" if low is None else "natural"
        return self.ranges.between(low, high)

    def string(self, said: Json) -> str:
        if shape := _FORMATS.get(said.get("format", "")):
            return f'"\\"" {shape} "\\""'
        if "minLength" not in said and "maxLength" not in said:
            return "string"
        return f'"\\"" {_PLAIN}{{{said.get("minLength", 0)},{said.get("maxLength", "")}}} "\\""'


def _texts(schema: Any) -> list[str]:
    """The values that a schema lists, as JSON writes them, sorted; empty if it lists none."""
    if not isinstance(schema, dict):
        return []
    values = [schema["const"]] if "const" in schema else schema.get("enum", [])
    return sorted({json.dumps(value, ensure_ascii=False) for value in values})


def _one_of(texts: list[str]) -> str:
    """Sorted texts as a tree that branches where they differ: of a list whose texts begin alike, xgrammar lets
    mixtures of them through ("22345" for 2234 and 12345)."""
    first, last = texts[0], texts[-1]
    start = first[
        : next((i for i, pair in enumerate(zip(first, last, strict=False)) if len(set(pair)) > 1), len(first))
    ]
    rests = [text[len(start) :] for text in texts]
    branches = []
    for _, group in groupby(filter(None, rests), key=lambda rest: rest[0]):
        branches.append(_one_of(list(group)))  # no comprehension: it would double the depth of hundreds of branches
    if not branches:
        return _quoted(start)
    if "" in rests:
        branches.append('""')
    return (f"{_quoted(start)} " if start else "") + "(" + " | ".join(branches) + ")"


def _literal(value: Any) -> str:
    """A JSON value's own text as a grammar literal."""
    return _quoted(json.dumps(value, ensure_ascii=False))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
