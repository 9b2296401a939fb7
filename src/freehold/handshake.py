"""How both ends of a pipe over TCP prove that they may use the store: each answers the other's random challenge with
an HMAC of the secret that lies there. The secret itself is never sent, and no answer can be used again.

What follows is neither encrypted nor signed: who can change what passes between the machines isn't kept out by this.
"""

from __future__ import annotations

import hmac
import secrets
import socket
from typing import Literal

from freehold.pipe import VERSION, Challenge, Proof, Welcome

Role = Literal["worker", "gateway"]
NONCE_BYTES = 32
MOST_BYTES = 1024
"""Of a frame, before its sender has proved anything."""
PATIENCE_S = 5.0
"""How long that may take."""
KEEPALIVE_S = 2
"""A peer that is silent for so long is asked whether it is there, so often again,"""
KEEPALIVE_TRIES = 3
"""and so many times: then the connection is over."""


def fresh() -> bytes:
    return secrets.token_bytes(NONCE_BYTES)


def prove(secret: bytes, challenge: Challenge, nonce: bytes) -> Proof:
    """The dialling side's answer; `nonce` is its own challenge."""
    return Proof(nonce, _mac(secret, "worker", challenge.nonce, nonce))


def may_enter(secret: bytes, challenge: Challenge, proof: Proof) -> bool:
    """Whether the gateway lets it in."""
    return len(proof.nonce) == NONCE_BYTES and hmac.compare_digest(
        proof.mac, _mac(secret, "worker", challenge.nonce, proof.nonce)
    )


def welcome(secret: bytes, gateway: str, challenge: Challenge, proof: Proof) -> Welcome:
    return Welcome(gateway, _mac(secret, "gateway", challenge.nonce, proof.nonce, gateway.encode()))


def is_it(secret: bytes, challenge: Challenge, nonce: bytes, told: Welcome) -> bool:
    """Whether that is a gateway of this store."""
    mac = _mac(secret, "gateway", challenge.nonce, nonce, told.gateway.encode())
    return hmac.compare_digest(told.mac, mac)


def stay_awake(line: socket.socket) -> None:
    """A peer whose machine is gone sends no end of the connection: it is noticed within seconds all the same."""
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_S), ("TCP_KEEPALIVE", KEEPALIVE_S), ("TCP_KEEPINTVL", KEEPALIVE_S),
        ("TCP_KEEPCNT", KEEPALIVE_TRIES), ("TCP_USER_TIMEOUT", 1000 * KEEPALIVE_S * (KEEPALIVE_TRIES + 1)),
    ):  # fmt: skip
        if hasattr(socket, option):  # some are one system's only
            line.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _mac(secret: bytes, role: Role, *said: bytes) -> bytes:
    """Roles and lengths are in it, so that no answer is another question's."""
    parts = [f"freehold pipe {VERSION}".encode(), role.encode(), *said]
    return hmac.digest(secret, b"".join(len(part).to_bytes(4, "little") + part for part in parts), "sha256")
