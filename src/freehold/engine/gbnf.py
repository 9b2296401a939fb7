"""Grammars in GBNF, as `grammar.py` writes them: parsed into parts, and parts written again."""

from __future__ import annotations

import re
from collections.abc import Iterable

_PIECE = re.compile(r'\s*("(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|\{\d+(?:,\d*)?\}|[A-Za-z][\w-]*|[()|*+?])')
_CHARACTER = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))|([^\\])", re.DOTALL)


class Part:
    """What a chain is made of: equal by identity."""

    __slots__ = ()


class Literal(Part):
    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class OneOf(Part):
    """A class of characters, such as [0-9a-f]. `text` is how it was written."""

    __slots__ = ("excludes", "ranges", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        body = text[1:-1]
        self.excludes = body.startswith("^")
        self.ranges = _ranges(body.removeprefix("^"))

    def has(self, character: str) -> bool:
        return any(low <= character <= high for low, high in self.ranges) != self.excludes


class Rule(Part):
    """The name of a rule."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Sequence(Part):
    __slots__ = ("parts",)

    def __init__(self, parts: list[Part]) -> None:
        self.parts = parts


class Choice(Part):
    __slots__ = ("options",)

    def __init__(self, options: list[Part]) -> None:
        self.options = options


class Repeat(Part):
    """`part` from `least` to `most` times; None is no limit."""

    __slots__ = ("least", "most", "part")

    def __init__(self, part: Part, least: int, most: int | None) -> None:
        self.part = part
        self.least = least
        self.most = most


def lines(grammar: str) -> Iterable[tuple[str, str]]:
    for line in grammar.splitlines():
        name, separator, body = line.partition(" ::= ")
        if separator:
            yield name.strip(), body


def parse(body: str) -> Part:
    pieces = [found[1] for found in _PIECE.finditer(body)]
    part, end = _choice(pieces, 0)
    assert end == len(pieces), f"not a rule: {body}"
    return part


def _choice(pieces: list[str], at: int) -> tuple[Part, int]:
    options: list[Part] = []
    parts: list[Part] = []
    while at < len(pieces) and pieces[at] != ")":
        piece = pieces[at]
        at += 1
        if piece == "|":
            options.append(_joined(parts))
            parts = []
        elif piece == "(":
            part, at = _choice(pieces, at)
            parts.append(part)
            at += 1  # the closing one
        elif piece[0] in "*+?{":
            parts.append(Repeat(parts.pop(), *_times(piece)))
        else:
            parts.append(_atom(piece))
    options.append(_joined(parts))
    return options[0] if len(options) == 1 else Choice(options), at


def _joined(parts: list[Part]) -> Part:
    return parts[0] if len(parts) == 1 else Sequence(parts)


def _times(piece: str) -> tuple[int, int | None]:
    if piece[0] != "{":
        return int(piece == "+"), 1 if piece == "?" else None
    low, comma, high = piece[1:-1].partition(",")
    return int(low), int(high) if high else None if comma else int(low)


def _atom(piece: str) -> Part:
    if piece[0] == '"':
        return Literal("".join(_characters(piece[1:-1])))
    return OneOf(piece) if piece[0] == "[" else Rule(piece)


def _characters(text: str) -> list[str]:
    found = []
    for match in _CHARACTER.finditer(text):
        code = match[1] or match[2] or match[3]
        found.append(chr(int(code, 16)) if code else match[4] or match[5])
    return found


def _ranges(body: str) -> list[tuple[str, str]]:
    """Of a class, without its brackets. A dash at its start or end is itself."""
    whole = [match[0] for match in _CHARACTER.finditer(body)]
    plain = _characters(body)
    found = []
    at = 0
    while at < len(plain):
        if at + 2 < len(plain) and whole[at + 1] == "-":
            found.append((plain[at], plain[at + 2]))
            at += 3
        else:
            found.append((plain[at], plain[at]))
            at += 1
    return found


def inside(part: Part) -> list[Part]:
    if isinstance(part, Sequence):
        return part.parts
    if isinstance(part, Choice):
        return part.options
    return [part.part] if isinstance(part, Repeat) else []


def written(part: Part) -> str:
    if isinstance(part, Literal):
        return '"' + part.text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(part, OneOf):
        return part.text
    if isinstance(part, Rule):
        return part.name
    if isinstance(part, Sequence):
        return "(" + " ".join(map(written, part.parts)) + ")" if part.parts else '""'
    if isinstance(part, Choice):
        return "(" + " | ".join(map(written, part.options)) + ")"
    assert isinstance(part, Repeat)
    return written(part.part) + _written_times(part)


def _written_times(repeat: Repeat) -> str:
    match repeat.least, repeat.most:
        case (0, None):
            return "*"
        case (1, None):
            return "+"
        case (0, 1):
            return "?"
    return f"{{{repeat.least},{'' if repeat.most is None else repeat.most}}}"
