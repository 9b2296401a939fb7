"""One HTTP request on its way through the gateway: its id, who asks, and the times that go into its headers."""

from __future__ import annotations

import re
import secrets
import time
from typing import TYPE_CHECKING

from freehold.core import Json

if TYPE_CHECKING:
    from freehold.gateway.inbox import Inbox

HeaderList = list[tuple[bytes, bytes]]

_SANE_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_ALPHABET = "0123456789abcdefghijkmnopqrstuvwxyz"


def new_id(prefix: str) -> str:
    """`prefix` and 125 random bits, e.g. `chatcmpl-...`."""
    number = secrets.randbits(125)
    letters = []
    for _ in range(25):
        letters.append(_ALPHABET[number & 31])
        number >>= 5
    return prefix + "".join(letters)


class Call:
    """Made by the door for every HTTP request, found in `scope["state"]["call"]`. Routes fill in what they learn."""

    __slots__ = (
        "asked", "code", "deadline_unix_s", "fingerprint", "id", "idempotency_key", "inbox", "kind", "last_event_id",
        "model", "priority", "queue_ms", "received_unix_s", "resumable_s", "route", "started_s", "status", "tenant",
        "traceparent", "ttft_ms", "worker",
    )  # fmt: skip

    def __init__(self, id: str) -> None:
        self.id = id
        self.started_s = time.perf_counter()
        self.received_unix_s = time.time()
        self.tenant = "local"
        self.asked: list[str] = []
        """Ids of the requests it makes that need not be kept."""
        self.idempotency_key: str | None = None
        self.fingerprint = ""
        """Of route and body; only with an idempotency key."""
        self.last_event_id: str | None = None
        self.resumable_s = 0.0
        self.deadline_unix_s: float | None = None
        self.priority = 0
        self.route = "other"
        self.model = ""
        self.worker = ""
        self.queue_ms: float | None = None
        self.ttft_ms: float | None = None
        self.status = 0
        self.code = ""
        """Of the error it was answered with."""
        self.inbox: Inbox | None = None
        """Of what it waits for, once that is accepted."""
        self.traceparent = ""
        """The trace it belongs to, where its client says so (W3C Trace Context)."""

    def elapsed_ms(self) -> float:
        return (time.perf_counter() - self.started_s) * 1000.0

    def headers(self) -> HeaderList:
        """The headers every reply carries, with what is known when it starts."""
        took = b"%.1f" % self.elapsed_ms()
        found: HeaderList = [(b"x-request-id", self.id.encode()), (b"openai-processing-ms", took)]
        timing = b"total;dur=" + took
        if self.queue_ms is not None:
            found.append((b"x-freehold-queue-ms", b"%.1f" % self.queue_ms))
            timing += b", queue;dur=%.1f" % self.queue_ms
        if self.ttft_ms is not None:
            found.append((b"x-freehold-ttft-ms", b"%.1f" % self.ttft_ms))
            timing += b", ttft;dur=%.1f" % self.ttft_ms
        if self.worker:
            found.append((b"x-freehold-worker", header_text(self.worker)))
        if self.model:
            found.append((b"x-freehold-model", header_text(self.model)))
        found.append((b"server-timing", timing))
        return found

    def timings(self, completion_tokens: int) -> Json:
        """The `timings` extension of usage: milliseconds, and tokens/s from the first token to now."""
        total_ms = self.elapsed_ms()
        return {
            "queue_ms": None if self.queue_ms is None else round(self.queue_ms, 2),
            "ttft_ms": None if self.ttft_ms is None else round(self.ttft_ms, 2),
            "total_ms": round(total_ms, 2),
            "tokens_per_s": rate(completion_tokens, self.ttft_ms, total_ms),
        }


def rate(completion_tokens: int, first_ms: float | None, total_ms: float) -> float | None:
    """Tokens/s from the first token to the last."""
    if first_ms is None or completion_tokens < 2 or total_ms <= first_ms:
        return None
    return round((completion_tokens - 1) * 1000.0 / (total_ms - first_ms), 2)


def request_id(headers: HeaderList) -> str:
    """The caller's own id where it sent a sane one, else a new one."""
    for name, value in headers:
        if name in (b"x-request-id", b"x-client-request-id") and _SANE_ID.fullmatch(value):
            return value.decode()
    return new_id("req_")


def header_text(text: str) -> bytes:
    """`text` as a header value: visible ASCII, anything else as `?`."""
    return "".join(c if " " <= c <= "~" else "?" for c in text).encode()
