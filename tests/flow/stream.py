"""A client of streams that keeps what it got and can be cut off: raw lines, so that every id is seen."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from server import Server

PATIENCE_S = 90.0
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Tell me of the harbour."}], "stream": True}


class Stream:
    """What a client has received so far, over any number of connections."""

    def __init__(self) -> None:
        self.last_id = ""
        self.events: list[Any] = []
        self.done = False
        self._lines: Iterator[str] = iter(())

    @contextmanager
    def reading(self, server: Server, path: str, body: Any = None, **headers: str) -> Iterator[Stream]:
        """Connected; POST with a body, else GET. `next_event` reads."""
        kind = "GET" if body is None else "POST"
        url = server.url + path
        with httpx.stream(kind, url, json=body, headers=headers, timeout=PATIENCE_S, trust_env=False) as reply:
            assert reply.status_code == 200, reply.read()
            self._lines = reply.iter_lines()
            yield self

    def next_event(self) -> bool:
        """Read one more event; False at the end."""
        for line in self._lines:
            if line.startswith("id: "):
                self.last_id = line.removeprefix("id: ")
            elif line == "data: [DONE]":
                self.done = True
            elif line.startswith("data: "):
                self.events.append(json.loads(line.removeprefix("data: ")))
                return True
        return False

    def take(self, events: int) -> None:
        for _ in range(events):
            assert self.next_event()

    def rest(self) -> None:
        while self.next_event():
            pass

    def until_cut(self) -> None:
        """Read until the connection breaks, as it does when the gateway is killed."""
        try:
            self.rest()
        except httpx.HTTPError:
            return

    @property
    def text(self) -> str:
        return self.texts()[0]

    def texts(self, n: int = 1) -> list[str]:
        found = [""] * n
        for event in self.events:
            for choice in event.get("choices", ()):
                found[choice["index"]] += choice.get("text") or choice.get("delta", {}).get("content") or ""
        return found

    @property
    def finish(self) -> str | None:
        ends = [c["finish_reason"] for e in self.events for c in e.get("choices", ()) if c["finish_reason"]]
        assert len(ends) <= 1, ends
        return ends[0] if ends else None

    @property
    def error(self) -> Any:
        return self.events[-1].get("error")


def whole(server: Server, path: str, body: Any) -> Stream:
    """The stream of an undisturbed run."""
    stream = Stream()
    with stream.reading(server, path, body):
        stream.rest()
    return stream


def until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end_s, "it never came true"
        time.sleep(0.01)


def worker_of(server: Server) -> int:
    """Index of the worker that answers now."""
    until(lambda: any(row["running"] for row in server.worker_rows()))
    return next(int(row["name"].rpartition("-")[2]) - 1 for row in server.worker_rows() if row["running"])
