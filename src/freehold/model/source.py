"""Where a model comes from: turns what a person typed into files on disk, or says why it can't.

First stop of `freehold serve MODEL`; `model/hub.py` downloads, `model/convert.py` makes a GGUF of safetensors.
"""

from __future__ import annotations

from typing import Literal

from freehold.core import Record

SourceKind = Literal["gguf", "safetensors", "ir", "remote", "sim"]


class Source(Record):
    """A model found. `path` is a file (gguf), a folder (safetensors, ir), a URL (remote) or a profile (sim)."""

    kind: SourceKind
    path: str
    label: str
    """Where it came from, for people: `the built-in starter`, `hub org/name at 1a2b3c4`."""
    name: str
    """Default name in the API."""
    revision: str = ""
