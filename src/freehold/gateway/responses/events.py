"""Writes a response as OpenAI's event stream, from its text as it comes, and as the object that the stream ends with.

Sequence numbers count events and the characters of deltas, not deltas: an event has the number of its last character.
So the same answer has the same numbers however it was cut into tokens, and a reader that names the last number it
saw can go on there from what the ledger keeps, through any gateway.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from zlib import crc32

import msgspec

from freehold.core import Failure, Json, TokenLogprob
from freehold.errors import ResumeFailed, from_failure
from freehold.gateway.responses.items import item_id
from freehold.gateway.responses.object import Outcome, ResponseStatus, Told, response_object
from freehold.gateway.tools.split import CallStart, Part, Text
from freehold.gateway.usage import chat_logprobs

_json = msgspec.json.Encoder().encode


class _Open:
    """The output item that is being written."""

    __slots__ = ("before", "index", "item", "logprobs", "pieces")

    def __init__(self, item: Json, index: int, event: str, content: bytes) -> None:
        self.item = item
        self.index = index
        self.pieces: list[str] = []
        self.logprobs: list[Json] = []
        head = _json({"type": event, "item_id": item["id"], "output_index": index})
        self.before = b"event: " + event.encode() + b"\ndata: " + head[:-1] + content + b',"delta":'


class Writer:
    """One telling of one response. Events up to number `after` are left out."""

    def __init__(
        self, id: str, told: Told, created_unix_s: float, after: int = -1, after_crc: int | None = None
    ) -> None:
        """`after_crc`: checksum of the text told up to there, if the reader knows it."""
        self.id = id
        self.output: list[Json] = []
        """Items that have ended."""
        self.response: Json = {}
        """The Response object, once ended."""
        self._told = told
        self._created_unix_s = created_unix_s
        self._after = after
        self._after_crc = after_crc
        self._crc = 0
        self._id_start = b"id: " + id.encode() + b"/"
        self._next = 0
        self._splitter = told.plan.splitter(f"{id}/0")
        self._open: _Open | None = None
        self._logprobs: list[Json] = []
        """Of tokens whose text has not been told yet."""

    def begin(self, out: list[bytes]) -> None:
        """The events before the first token."""
        if self._told.background:
            self._whole("response.created", "queued", out)
            self._whole("response.queued", "queued", out)
        else:
            self._whole("response.created", "in_progress", out)
        self._whole("response.in_progress", "in_progress", out)

    def feed(self, text: str, logprobs: Sequence[TokenLogprob] | None, out: list[bytes]) -> None:
        """More text. The common case costs one escaped string between a prefix and a suffix."""
        if logprobs:
            self._logprobs += chat_logprobs(logprobs)["content"]
        if self._splitter is not None:
            for part in self._splitter.feed(text):
                self._part(part, out)
        elif text:
            if self._open is None:
                self._open_message(out)
            self._delta(text, out)

    def end(self, outcome: Outcome, out: list[bytes]) -> None:
        """Close what is open and tell the end."""
        if self._splitter is not None:
            for part in self._splitter.close():
                self._part(part, out)
        status = outcome.status
        if self._open is None and not self.output and status in ("completed", "incomplete"):
            self._open_message(out)
        self._close("completed" if status == "completed" else "incomplete", out)
        ended = msgspec.structs.replace(outcome, ended_unix_s=outcome.ended_unix_s or time.time())
        self.response = response_object(self.id, self._told, self._created_unix_s, status, self.output, ended)
        name = {"completed": "response.completed", "failed": "response.failed"}.get(status, "response.incomplete")
        self._event(name, {"response": self.response}, out)

    def cut_off(self, failure: Failure, out: list[bytes]) -> None:
        """The telling ends before the answer does. The last event's number again: reading on from it misses none."""
        error = from_failure(failure)
        told = {"type": "error", "sequence_number": self._next - 1, "code": error.code, "message": str(error)}
        out.append(b"event: error\ndata: " + _json(told | {"param": error.param}) + b"\n\n")

    def _part(self, part: Part, out: list[bytes]) -> None:
        if isinstance(part, CallStart):
            self._close("completed", out)
            self._open_call(part, out)
        elif isinstance(part, Text):
            if self._open is None or self._open.item["type"] != "message":
                self._close("completed", out)
                self._open_message(out)
            self._delta(part.text, out)
        else:
            self._delta(part.delta, out)

    def _open_message(self, out: list[bytes]) -> None:
        index = len(self.output)
        item = {
            "id": item_id("msg", self.id, index),
            "type": "message",
            "status": "in_progress",
            "role": "assistant",
            "content": [],
        }
        self._open = _Open(item, index, "response.output_text.delta", b',"content_index":0')
        self._event("response.output_item.added", {"output_index": index, "item": item}, out)
        where = {"item_id": item["id"], "output_index": index, "content_index": 0}
        self._event("response.content_part.added", where | {"part": _part_object("", [])}, out)

    def _open_call(self, start: CallStart, out: list[bytes]) -> None:
        index = len(self.output)
        item = {"id": item_id("fc", self.id, index), "type": "function_call", "status": "in_progress"}
        item |= {"call_id": start.id, "name": start.name, "arguments": ""}
        self._open = _Open(item, index, "response.function_call_arguments.delta", b"")
        self._logprobs.clear()
        self._event("response.output_item.added", {"output_index": index, "item": item}, out)

    def _delta(self, text: str, out: list[bytes]) -> None:
        opened = self._open
        assert opened is not None
        opened.pieces.append(text)
        first = self._next
        self._next = first + len(text)
        logprobs = b""
        if opened.item["type"] == "message":
            logprobs = b',"logprobs":' + (_json(self._logprobs) if self._logprobs else b"[]")
            opened.logprobs += self._logprobs
            self._logprobs.clear()
        new = max(0, self._after + 1 - first)
        if new:
            self._crc = crc32(text[:new].encode(), self._crc)
            text = text[new:]
            if self._next - 1 <= self._after:
                return
        if self._after_crc is not None:
            self._check()
        self._crc = crc32(text.encode(), self._crc)
        number = self._next - 1
        out.append(self._id(number) + opened.before + _json(text) + logprobs + b',"sequence_number":%d}\n\n' % number)

    def _close(self, status: str, out: list[bytes]) -> None:
        opened, self._open = self._open, None
        if opened is None:
            return
        text = "".join(opened.pieces)
        where: Json = {"item_id": opened.item["id"], "output_index": opened.index}
        if opened.item["type"] == "function_call":
            item = opened.item | {"status": status, "arguments": text}
            self._event("response.function_call_arguments.done", where | {"name": item["name"], "arguments": text}, out)
        else:
            part = _part_object(text, opened.logprobs + self._logprobs)
            self._logprobs.clear()
            where["content_index"] = 0
            item = opened.item | {"status": status, "content": [part]}
            self._event("response.output_text.done", where | {"text": text, "logprobs": part["logprobs"]}, out)
            self._event("response.content_part.done", where | {"part": part}, out)
        self._event("response.output_item.done", {"output_index": opened.index, "item": item}, out)
        self.output.append(item)

    def _whole(self, name: str, status: ResponseStatus, out: list[bytes]) -> None:
        self._event(name, {"response": response_object(self.id, self._told, self._created_unix_s, status, [])}, out)

    def _event(self, name: str, body: Json, out: list[bytes]) -> None:
        number = self._next
        self._next += 1
        if number > self._after:
            if self._after_crc is not None:
                self._check()
            data = _json({"type": name, "sequence_number": number} | body)
            out.append(self._id(number) + b"event: " + name.encode() + b"\ndata: " + data + b"\n\n")

    def _id(self, number: int) -> bytes:
        """What a client that is cut off names as the last event it saw (`marks.py` reads it)."""
        return self._id_start + b"%d-%08x\n" % (number, self._crc)

    def _check(self) -> None:
        due, self._after_crc = self._after_crc, None
        if due != self._crc:
            raise ResumeFailed(
                "The response can't go on where it was interrupted.",
                "What the server has of it isn't what was received.",
                "Send the request again.",
            )


def _part_object(text: str, logprobs: list[Json]) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}
