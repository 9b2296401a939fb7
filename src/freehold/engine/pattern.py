"""Which regular expressions of a JSON schema can be followed inside of a JSON text.

The libraries' converters know a part of the syntax only: on some patterns one fails in the middle of a step, and
others give text that is no JSON (an alternative at the top, quotes, control characters). Those are named here.
"""

from __future__ import annotations

import re
from typing import Any

_LONGEST = 500
_MOST_REPEATS = 1_000
_HARD = re.compile(r"\(\?(?!:)|\\[bBAZzkpPgGKQE1-9]|[*+?}][+]")
"""Look-around, named groups, word boundaries, back references, possessive repeats: the compilers don't do these."""
_UNFIT = re.compile(r'["\x00-\x1f]|\\[\\tnrfva0"]|\\(x|u00)([01]|22|5[cC])')
_ATOM = re.compile(r"\\.|\[(\\.|[^\]\\])*\]|\{\d+(,\d*)?\}", re.DOTALL)
"""What brackets, bars and anchors are no syntax in: escapes and classes; and repeats that are understood."""
_ATOM_OR_DOT = re.compile(_ATOM.pattern + r"|\.", re.DOTALL)
_ESCAPED = r'"\\\x00-\x1F'
"""Of a class: what JSON writes as escapes."""
_ANY = r"[ !#-\[\]-~" + "\u00a1-\ud7ff\ue000-\ufffd]"
"""A character for `.`, listed: of a class that excludes, one library lets halves of characters through."""
_COUNTERPARTS = {r"\D": "0-9", r"\W": "0-9A-Za-z_", r"\S": " "}


def pattern_trouble(pattern: Any) -> str:
    """Why `pattern` can't be followed; empty if it can."""
    if not isinstance(pattern, str) or len(pattern) > _LONGEST:
        return f"it must be a text of up to {_LONGEST} characters"
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return f"the pattern doesn't parse, {error}"
    if _HARD.search(pattern):
        return "the pattern uses look-around, back references or word boundaries"
    if any(int(count) > _MOST_REPEATS for count in re.findall(r"\d+", pattern) if len(count) < 12):
        return f"the pattern repeats more than {_MOST_REPEATS} times"
    if _UNFIT.search(pattern):
        return "the pattern asks for quotes, backslashes or control characters, which JSON writes as escapes"
    return _odd_syntax(pattern)


def within_json(pattern: str) -> str:
    """The same, kept from quotes, backslashes and control characters where a class would let them through."""
    return _ATOM_OR_DOT.sub(lambda found: _narrowed(found[0]), pattern)


def _narrowed(atom: str) -> str:
    if atom.startswith("[^"):
        return f"[^{_ESCAPED}{atom[2:]}"
    return {".": _ANY, r"\s": "[ ]"}.get(atom) or (
        f"[^{_ESCAPED}{_COUNTERPARTS[atom]}]" if atom in _COUNTERPARTS else atom
    )


def _odd_syntax(pattern: str) -> str:
    if re.search(r"(?<!\\)\[\^?\]", pattern):
        return "a class in the pattern begins with ]; write \\]"
    classes = [found[0] for found in _ATOM.finditer(pattern) if found[0].startswith("[")]
    if any(re.search(r"\\[DWSs]", inside) for inside in classes):
        return "a class in the pattern has \\s, \\D, \\W or \\S in it; list the characters"
    bare = _ATOM.sub("x", pattern)
    if "{" in bare or "}" in bare:
        return "the pattern has a brace that isn't {n}, {n,} or {n,m}; write \\{ for the character"
    if "^" in bare[1:] or "$" in bare[:-1]:
        return "the pattern has ^ or $ in its middle"
    depth = 0
    for character in bare:
        depth += (character == "(") - (character == ")")
        if character == "|" and not depth:
            return "the pattern has alternatives outside of brackets; write (a|b)"
    return ""
