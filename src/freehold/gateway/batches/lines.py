"""The lines of a batch's input file: cut from pieces as they come, read, and complained about by number. Pure.

A line is a request: custom_id, method, url and body. The body stays as it was sent; the route it is for reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec

from freehold.core import Record
from freehold.errors import InvalidRequest

MOST_COMPLAINTS = 100
LONGEST_ID = 512


class Line(msgspec.Struct, frozen=True):
    """One request, as it stands in the file."""

    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class Complaint(Record, frozen=True):
    """What is wrong with an input file, and in which line (from 1; None: with all of it)."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Cutter:
    """Cuts pieces of a file into lines, whatever their borders. A line over the limit is told as None, and its bytes
    are not kept; blank ones are passed over but counted."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._parts: list[bytes] = []
        self._size = 0
        self._number = 0

    def feed(self, piece: bytes) -> Iterator[tuple[int, bytes | None]]:
        """Number and text of each line that ends in `piece`."""
        *whole, rest = piece.split(b"\n")
        for text in whole:
            self._add(text)
            yield from self.end()
        self._add(rest)

    def end(self) -> Iterator[tuple[int, bytes | None]]:
        """The line that was begun: its newline came, or the file's end."""
        self._number += 1
        text = None if self._size > self._most_bytes else b"".join(self._parts).strip()
        self._parts, self._size = [], 0
        if self._number == 1 and text is not None:
            text = text.removeprefix(b"\xef\xbb\xbf")
        if text is None or text:
            yield self._number, text

    def _add(self, text: bytes) -> None:
        self._size += len(text)
        if self._size > self._most_bytes:
            self._parts.clear()
        elif text:
            self._parts.append(text)


_decoder = msgspec.json.Decoder(Line)
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_KNOWN = frozenset(Line.__struct_fields__)


def read_line(text: bytes) -> Line:
    """A line that was checked before."""
    return _decoder.decode(text)


class Checker:
    """Looks at every line of a file once: `complaints` is empty if a batch may go on with it."""

    def __init__(self, endpoint: str, most_lines: int, most_bytes: int) -> None:
        self._endpoint = endpoint
        self._most_lines = most_lines
        self._most_bytes = most_bytes
        self._ids: set[str] = set()
        self.lines = 0
        self.complaints: list[Complaint] = []

    @property
    def over(self) -> bool:
        """So much is wrong that the rest says nothing new."""
        return len(self.complaints) >= MOST_COMPLAINTS or self.lines > self._most_lines

    def look(self, numbered: Iterable[tuple[int, bytes | None]]) -> None:
        for number, text in numbered:
            if self.over:
                return
            self.lines += 1
            if self.lines > self._most_lines:
                most = f"At most {self._most_lines} lines are taken (server.max_batch_lines)."
                self.complaints.append(Complaint(code="too_many_lines", message=most, line=number))
            elif text is None:
                most = f"The line is longer than {self._most_bytes} bytes (server.max_body_bytes)."
                self.complaints.append(Complaint(code="line_too_long", message=most, line=number))
            elif (wrong := self._wrong(text)) is not None:
                self.complaints.append(msgspec.structs.replace(wrong, line=number))

    def end(self) -> None:
        if not self.lines:
            self.complaints.append(Complaint(code="empty_file", message="The input file has no lines."))

    def _wrong(self, text: bytes) -> Complaint | None:
        try:
            given = _object.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return Complaint(code="invalid_json_line", message="The line is not a JSON object.")
        missing = next((name for name in Line.__struct_fields__ if name not in given), None)
        if missing is not None:
            code = "missing_required_parameter"
            return Complaint(code=code, message=f"{missing}: this field is required.", param=missing)
        unknown = next((name for name in given if name not in _KNOWN), None)
        if unknown is not None:
            return Complaint(code="unknown_parameter", message="Unknown field in the line.", param=unknown[:100])
        try:
            line = _decoder.decode(text)
            _object.decode(line.body)
        except (msgspec.DecodeError, RecursionError) as error:
            found = re.search(r"\$\.(\w+)", str(error))
            param = found[1] if found else "body"
            kind = "an object" if param == "body" else "text"
            return Complaint(code="invalid_type", message=f"{param}: expected {kind}.", param=param)
        return self._wrong_value(line)

    def _wrong_value(self, line: Line) -> Complaint | None:
        if line.method != "POST":
            return Complaint(code="invalid_method", message="method: expected 'POST'.", param="method")
        if line.url != self._endpoint:
            said = f"url: expected the batch's endpoint, {self._endpoint}."
            return Complaint(code="mismatched_endpoint", message=said, param="url")
        if not 0 < len(line.custom_id) <= LONGEST_ID:
            said = f"custom_id: expected 1 to {LONGEST_ID} characters."
            return Complaint(code="invalid_custom_id", message=said, param="custom_id")
        if line.custom_id in self._ids:
            said = "custom_id: another line has the same."
            return Complaint(code="duplicate_custom_id", message=said, param="custom_id")
        self._ids.add(line.custom_id)
        return None


class _Wishes(msgspec.Struct):
    stream: bool | None = None
    background: bool | None = None


def check_whole(body: bytes) -> None:
    """A line is answered once, in one piece. Raises `InvalidRequest`."""
    try:
        wishes = msgspec.json.decode(body, type=_Wishes)
    except (msgspec.DecodeError, RecursionError):
        return  # its route says it better
    for name in _Wishes.__struct_fields__:
        if getattr(wishes, name):
            raise InvalidRequest(f"{name} can't be true in a batch.", next="Leave it out.", param=name)
