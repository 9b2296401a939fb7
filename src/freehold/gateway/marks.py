"""How far a stream has been told: the `id:` of its events, and where a stream that is resumed goes on.

    id: chatcmpl-abc/12-9f3a2b1c              one answer: tokens told, and a checksum of their text
    id: chatcmpl-abc/12-9f3a2b1c,7-00ab12cd.  two answers; the second has ended
    id: chatcmpl-abc/12-9f3a2b1c+1            and one more event of what the next token makes

The checksum makes a resumed stream exact: where the text isn't the one that was told, it ends with an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from zlib import crc32

import msgspec

from freehold.core import Chunk
from freehold.errors import InvalidRequest, ResumeFailed

MOST_ANSWERS = 16
"""Streams of more answers at once have no ids: each would repeat the state of all."""
_MARK = re.compile(r"(\d{1,9})-([0-9a-f]{8})(\.?)")
_ID = re.compile(r"([A-Za-z0-9_-]{1,100})/([0-9a-f.,-]*)(?:\+(\d{1,3})@(\d{1,3}))?")


class Mark(msgspec.Struct):
    """One answer as far as it was told."""

    tokens: int = 0
    crc: int = 0
    ended: bool = False

    def note(self, chunk: Chunk) -> None:
        self.tokens = chunk.offset + chunk.tokens
        if chunk.text:
            self.crc = crc32(chunk.text.encode(), self.crc)
        if chunk.finish is not None:
            self.ended = True

    def written(self) -> str:
        return f"{self.tokens}-{self.crc:08x}{'.' if self.ended else ''}"


class Marks:
    """Of a stream that is being told. `first` gives the index of each request's first answer."""

    def __init__(self, id: str, first: Mapping[str, int], total: int) -> None:
        self._start = f"id: {id}/"
        self._first = first
        self._marks: list[Mark | None] = [None] * total
        self._on = total <= MOST_ANSWERS

    def label(self, chunk: Chunk, events: list[bytes], start: int) -> None:
        """Put ids in front of the events that `chunk` made, which begin at `start`."""
        if not self._on:
            return
        index = self._first[chunk.id] + chunk.choice
        for i in range(start, len(events) - 1):
            events[i] = self._line(f"+{i - start + 1}@{index}") + events[i]
        mark = self._marks[index]
        if mark is None:
            mark = self._marks[index] = Mark()
        mark.note(chunk)
        if len(events) > start:
            events[-1] = self._line() + events[-1]

    def _line(self, more: str = "") -> bytes:
        marks = self._marks
        if len(marks) == 1:
            one = marks[0]
            return f"{self._start}{one.written() if one else ''}{more}\n".encode()
        return (self._start + ",".join(one.written() if one else "" for one in marks) + f"{more}\n").encode()


class Seen:
    """What the client of a resumed stream has seen, from its `Last-Event-ID`."""

    def __init__(self, id: str, marks: Sequence[Mark | None], more: int = 0, more_of: int = 0) -> None:
        self.id = id
        self._marks = list(marks)
        self._more = more
        self._more_of = more_of
        self._told: dict[int, Mark] = {}

    @property
    def place(self) -> tuple[int, int | None]:
        """Of a response's stream: the number of the last event, and the checksum."""
        mark = self._marks[0] if self._marks else None
        return (mark.tokens, mark.crc) if mark is not None else (-1, None)

    def split(self, chunk: Chunk, index: int) -> tuple[Chunk | None, Chunk | None]:
        """`chunk` as (what was seen, what is new). Raises `ResumeFailed` where the text isn't what was seen."""
        mark = self._marks[index] if index < len(self._marks) else None
        if mark is None:
            return None, chunk
        told = self._told.setdefault(index, Mark())
        if told.tokens == mark.tokens and told.crc == mark.crc and not (chunk.finish is not None and mark.ended):
            return self._passed(index, chunk)
        end = chunk.offset + chunk.tokens
        if end > mark.tokens or (chunk.finish is not None and not mark.ended):
            return self._cut(index, chunk, told, mark)
        told.note(chunk)
        if told.tokens == mark.tokens and told.crc != mark.crc and (chunk.tokens or mark.ended):
            raise _differs()
        return chunk, None

    def unseen(self, index: int, events: list[bytes], start: int) -> None:
        """Leave out of the first new chunk's events those that were seen."""
        if self._more and index == self._more_of:
            del events[start : start + self._more]
            self._more = 0

    def _passed(self, index: int, chunk: Chunk) -> tuple[None, Chunk]:
        self._marks[index] = None
        return None, chunk

    def _cut(self, index: int, chunk: Chunk, told: Mark, mark: Mark) -> tuple[Chunk, Chunk]:
        """A chunk that reaches beyond what was seen: cut where the checksum says."""
        at, crc = 0, told.crc
        while crc != mark.crc:
            if at == len(chunk.text):
                raise _differs()
            crc = crc32(chunk.text[at].encode(), crc)
            at += 1
        tokens = max(0, mark.tokens - chunk.offset)
        entries = chunk.logprobs or ()
        seen = Chunk(chunk.id, chunk.choice, chunk.offset, tokens, chunk.text[:at], entries[:tokens] or None)
        new = msgspec.structs.replace(
            chunk, offset=chunk.offset + tokens, tokens=chunk.tokens - tokens, text=chunk.text[at:],
            logprobs=entries[tokens:] or None,
        )  # fmt: skip
        self._marks[index] = None
        return seen, new


def seen_by(last_event_id: str) -> Seen:
    """Raises `InvalidRequest` for what isn't an id of ours."""
    found = _ID.fullmatch(last_event_id.strip())
    parts = found[2].split(",") if found else []
    marks = [_MARK.fullmatch(part) for part in parts]
    if found is None or any(part and not mark for part, mark in zip(parts, marks, strict=True)):
        raise InvalidRequest(
            f"Last-Event-ID {last_event_id[:100]!r} is no id of an event of this server.",
            next="Send the id of the last event as it came.",
            param="Last-Event-ID",
        )
    read = [Mark(int(mark[1]), int(mark[2], 16), bool(mark[3])) if mark else None for mark in marks]
    return Seen(found[1], read, int(found[3] or 0), int(found[4] or 0))


def _differs() -> ResumeFailed:
    return ResumeFailed(
        "The stream can't go on where it was interrupted.",
        "What the server has of the answer isn't what was received.",
        "Send the request again.",
    )
