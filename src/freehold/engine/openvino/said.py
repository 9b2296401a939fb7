"""What OpenVINO says when it fails, fit for people: without the paths of its build machine."""

from __future__ import annotations

import re

LIBRARY_ERRORS = (RuntimeError, ValueError, IndexError, KeyError, TypeError)
"""What the library's C++ exceptions arrive as."""
_PLACE = re.compile(r"(\[\d\d:\d\d:\d\d\]\s*)?(at\s+)?[^\s'\"]*[^\s'\":]\.(?:cpp|cc|cxx|hpp|h|py)\b(:\d+)*:?\s*")


def said(error: BaseException) -> str:
    """The last line of the library's words that isn't just a place in its source."""
    lines = [_PLACE.sub("", line).strip(" :") for line in str(error).splitlines()]
    told = [line for line in lines if line and line != "Exception from"]
    return told[-1] if told else f"only {type(error).__name__}"
