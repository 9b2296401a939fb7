"""Server-sent events out of a byte stream, for the `remote` engine. Lean, and tolerant of what servers do."""

from __future__ import annotations

MAX_EVENT_BYTES = 16 << 20


class EventStream:
    """Feed it bytes as they come; it gives the data of each whole event.

    Takes LF, CRLF and CR line ends, comments, several `data:` lines in one event, and a last event that
    no blank line ends. Other fields (`event`, `id`, `retry`) are skipped.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, received: bytes) -> list[bytes]:
        """Data of the events completed by `received`. Raises `ValueError` on an event over `MAX_EVENT_BYTES`."""
        text = self._rest + received
        # A CR at the very end may be half of a CRLF: it waits for its other half.
        keep = b"\r" if text.endswith(b"\r") else b""
        lines = text[: len(text) - len(keep)].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop() + keep
        events = [data for line in lines if (data := self._line(line)) is not None]
        if len(self._rest) + self._size > MAX_EVENT_BYTES:
            raise ValueError(f"an event of over {MAX_EVENT_BYTES} bytes")
        return events

    def close(self) -> list[bytes]:
        """Data of a last event that the stream's end completes."""
        events = [self._line(self._rest.rstrip(b"\r")), self._line(b"")]
        self._rest = b""
        return [data for data in events if data is not None]

    def _line(self, line: bytes) -> bytes | None:
        if line.startswith(b"data:"):
            value = line[5:].removeprefix(b" ")
            self._data.append(value)
            self._size += len(value)
            return None
        if line or not self._data:
            return None
        data = b"\n".join(self._data)
        self._data = []
        self._size = 0
        return data
