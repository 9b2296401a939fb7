"""uvicorn's HTTP protocol with patience that ends: a request must be there, head and body, within a time, and its head
within a size. Whatever is refused here is refused in the same words and shape as everywhere else.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from freehold import log
from freehold.errors import FreeholdError
from freehold.gateway.call import Call, new_id
from freehold.gateway.errors import HttpError, raw_response
from freehold.gateway.joined import Joined

MAX_HEAD_BYTES = 64 << 10
LARGE = frozenset({"/v1/files"})
"""Where a body may be large: there each MiB has the time that a whole request has elsewhere."""


class GuardedProtocol(HttpToolsProtocol):
    """One connection. `body_timeout_s` and `stall_s` are set by `guarded`."""

    body_timeout_s = 20.0
    stall_s = 60.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(Joined(cast(asyncio.Transport, transport), self.loop))  # type: ignore[arg-type]
        self._head_bytes = 0
        self._in_head = True
        self._body_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._moves()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client doesn't take what was sent: whoever writes waits from now on, and not for ever."""
        super().pause_writing()
        if self.stall_s and self._stall is None:
            self._stall = self.loop.call_later(self.stall_s, self._stalled)

    def resume_writing(self) -> None:
        self._moves()
        super().resume_writing()

    def _moves(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _stalled(self) -> None:
        self._stall = None
        log.event("client.stalled", level="warning", seconds=self.stall_s)
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(
                HttpError(
                    431, "headers_too_large", "The request's headers are too large.", f"At most {MAX_HEAD_BYTES} bytes."
                )
            )

    def on_message_begin(self) -> None:
        self._in_head = True
        self._arm()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = self._body_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes >= 1 << 20 and self.scope["path"] in LARGE:
            self._body_bytes = 0
            self._disarm()
            self._arm()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        self._disarm()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        peer = f"{self.client[0]}:{self.client[1]}" if self.client else None
        log.event("http.invalid", peer=peer)
        self._refuse(
            HttpError(
                400, "invalid_http", "This isn't a valid HTTP request.", next="Check the URL, method and headers."
            )
        )

    def _unsupported_upgrade_warning(self) -> None:
        """A wish for a WebSocket is answered as the plain request it came in, which is allowed: nothing to say."""

    def _arm(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.body_timeout_s, self._too_slow)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self._in_head and not self._head_bytes:
            self.transport.close()  # it never asked for anything: browsers keep such connections in reserve
            return
        self._refuse(
            HttpError(
                408,
                "request_timeout",
                "The request took too long to arrive.",
                f"Over {self.body_timeout_s:g} seconds.",
                "Send it again.",
            )
        )

    def _refuse(self, error: FreeholdError) -> None:
        """Say why, unless a reply is on its way already, and close."""
        if self.transport.is_closing():
            return
        cycle = self.cycle
        if not cycle or cycle.response_complete or not cycle.response_started:
            self.transport.write(raw_response(error, Call(new_id("req_"))))
        self.transport.close()


def guarded(body_timeout_s: float, stall_s: float) -> type[GuardedProtocol]:
    """The protocol class for uvicorn, with its patience: for a request to arrive, and for a reply to be taken."""
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    members: dict[str, Any] = {"body_timeout_s": body_timeout_s, "stall_s": stall_s}
    return type("GuardedProtocol", (GuardedProtocol,), members)


def _is_news(record: logging.LogRecord) -> bool:
    """Not what `send_400_response` tells as an event."""
    return record.msg != "Invalid HTTP request received."
