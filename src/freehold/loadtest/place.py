"""Where a server is and what every request to it begins with: found once, before a run, and told to all processes."""

from __future__ import annotations

import socket

import freehold
from freehold.errors import Unreachable, UsageError
from freehold.loadtest.target import Address, Target

CONNECT_S = 5.0


def find(where: Address) -> tuple[int, tuple[str | int, ...]]:
    """The socket address behind the host: the first that takes a connection."""
    why = ""
    try:
        found = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)
    except OSError as error:
        found, why = [], f"{error.strerror}."
    for family, kind, protocol, _, place in found:
        with socket.socket(family, kind, protocol) as probe:
            probe.settimeout(CONNECT_S)
            try:
                probe.connect(place)
            except OSError as error:
                why = f"{error.strerror or 'It does not answer in time'}."
            else:
                return family, tuple(part for part in place if not isinstance(part, bytes))
    raise Unreachable(
        f"Nobody answers at {where.host}:{where.port}.", why,
        "Start a server with `freehold serve`, or name the right address.",
    )  # fmt: skip


def head(target: Target, where: Address) -> bytes:
    host = f"[{where.host}]" if ":" in where.host else where.host
    lines = [
        f"POST {where.path} HTTP/1.1",
        f"Host: {host}:{where.port}",
        f"User-Agent: freehold-load/{freehold.__version__}",
        "Accept: text/event-stream, application/json",
        "Accept-Encoding: identity",
        "Content-Type: application/json",
    ]
    if target.api_key:
        lines.append(f"Authorization: Bearer {target.api_key}")
    if any("\n" in line or "\r" in line for line in lines):
        raise UsageError("The API key or the address has a line break in it.")
    return "".join(f"{line}\r\n" for line in lines).encode()
