"""What a run asks and of whom: a server, a model on it, and one `Ask` a request.

An `Ask` says what is asked apart from when; with the `Target` it becomes the bytes of a request. The bodies are made
before they are due, so that the process that keeps time only has to send.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from freehold.core import Json, Record
from freehold.errors import UsageError

Api = Literal["chat", "completions"]
PATHS: dict[Api, str] = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}


class Target(Record, frozen=True):
    """An OpenAI-compatible server, and how to ask it."""

    url: str
    """Its address without `/v1`."""
    model: str
    api: Api = "chat"
    api_key: str = ""
    stream: bool = True
    """False: the whole answer in one piece; then there is no first token and no gap to measure."""
    extra: Json = {}
    """Goes into every body as it is: `temperature`, `ignore_eos` and what else a server knows."""
    timeout_s: float = 600.0
    """So long after it was sent, a request is given up."""

    def body(self, ask: Ask) -> bytes:
        asked: Json = {"model": self.model}
        if self.api == "chat":
            asked["messages"] = list(ask.messages) or [{"role": "user", "content": ask.text}]
        else:
            asked["prompt"] = ask.text
        if ask.output_tokens is not None:
            asked["max_tokens"] = ask.output_tokens
        if self.stream:
            asked |= {"stream": True, "stream_options": {"include_usage": True}}
        return msgspec.json.encode(asked | self.extra | ask.extra)


class Ask(Record, frozen=True):
    """One request, apart from when it is sent."""

    text: str = ""
    messages: tuple[Json, ...] = ()
    """Chat: a whole conversation instead of `text`."""
    output_tokens: int | None = None
    """At most; None: the server's default."""
    group: str = ""
    headers: dict[str, str] = {}
    extra: Json = {}


Prompts = Callable[[int], Ask]
"""What request number n asks. Called in order, a second or two before the request is due, in the calling process."""


class Address(Record, frozen=True):
    """The parts of a URL that a connection needs."""

    host: str
    port: int
    tls: bool
    path: str


def address(target: Target) -> Address:
    """Where `target` listens. Raises `UsageError` for what is no address."""
    full = target.url if "://" in target.url else f"http://{target.url}"
    parts = urlsplit(full)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
        raise UsageError(f"{target.url!r} is not the address of a server.", next="Give one like http://127.0.0.1:8000.")
    base = parts.path.rstrip("/").removesuffix("/v1")
    tls = parts.scheme == "https"
    return Address(host=parts.hostname, port=port or (443 if tls else 80), tls=tls, path=base + PATHS[target.api])
