"""W3C Trace Context: which trace a request belongs to, and the id of its own span in it.

The span's id follows from the request's, so that a worker can pass it on to a remote, and the gateway end the span
under it later, without telling each other. Source: w3.org/TR/trace-context.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

_HEADER = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_NONE = frozenset({"0" * 32, "0" * 16})


class Parent(NamedTuple):
    """What a `traceparent` header says; hexadecimal."""

    trace_id: str
    span_id: str
    sampled: bool


def parse(header: str) -> Parent | None:
    """None for what is no header of version 00 or later: it is to be ignored."""
    found = _HEADER.fullmatch(header)
    if found is None or header.startswith("ff") or not _NONE.isdisjoint(found.groups()):
        return None
    return Parent(found[1], found[2], bool(int(found[3], 16) & 1))


def span_of(request_id: str) -> str:
    """The id of a request's own span: 16 hexadecimal digits."""
    return hashlib.blake2b(request_id.encode(), digest_size=8, person=b"span").hexdigest()


def trace_of(request_id: str) -> str:
    """The id of the trace that begins with a request: 32 digits."""
    return hashlib.blake2b(request_id.encode(), digest_size=16, person=b"trace").hexdigest()


def onward(header: str, request_id: str) -> str:
    """The header for whoever works on the request next; empty where its client named no trace."""
    parent = parse(header)
    return "" if parent is None else f"00-{parent.trace_id}-{span_of(request_id)}-{int(parent.sampled):02x}"
