"""How families of models write a tool call, read from their chat templates."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

Style = Literal["hermes", "llama3", "mistral"]


class Markup(msgspec.Struct, frozen=True):
    """How one family of models writes calls."""

    marker: str
    closing: str
    head: re.Pattern[str]
    """Between marker and JSON; group 1, if any, is the function's name."""
    bare: str = ""
    """A call may also stand without the marker at the start of the answer, beginning with this."""
    named: bool = False
    """The name may stand before the JSON."""


_BEFORE_OBJECT = re.compile(r"\s{0,16}(?=\{)()")
_BEFORE_LIST = re.compile(r"\s{0,16}(?:([\w.-]{1,64})(?:\[CALL_ID\]\w{1,64})?\[ARGS\]\s{0,16}(?=\{)|(?=\[\s*\{))")
MARKUPS: dict[Style, Markup] = {
    "hermes": Markup("<tool_call>", "</tool_call>", _BEFORE_OBJECT),
    "llama3": Markup("<|python_tag|>", ";", _BEFORE_OBJECT, bare="{"),
    "mistral": Markup("[TOOL_CALLS]", "", _BEFORE_LIST, bare="[", named=True),
}
LONGEST_HEAD = 256
