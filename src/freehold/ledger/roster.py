"""Who is there, where several hosts share a store: each supervisor has a *place* with a name of its own, each gateway a
post that says where its pipe is, and all hold one secret, by which they know each other.

Kept in the store (`lua/meet.lua`) for as long as its owner comes by; read by everybody else who does.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from freehold.clock import Clock
from freehold.core import Record

if TYPE_CHECKING:
    from freehold.ledger.redis_link import RedisLink

HOLDS_S = 10.0
"""Who has not come by for so long is gone."""
VISIT_S = 2.0
SECRET_BYTES = 32


class Place(Record, frozen=True):
    """What a supervisor is among the others. `secret` proves on the pipe that one may use the store."""

    id: str
    name: str
    """Unique among all that share the store; the names of its workers begin with it."""
    secret: bytes


class Post(Record, frozen=True):
    """Where a gateway's pipe is. The order of its fields is its identity in the store."""

    gateway: str
    place: str
    """Id of its supervisor's place."""
    host: str
    """That place's name, for people."""
    address: str
    """`tcp://HOST:PORT`."""
    loopback: str = ""
    """The network whose loopback that is (`loopback()`); empty: it can be reached from elsewhere."""


class Seen(Record, frozen=True):
    """What a visit found."""

    place: Place
    posts: tuple[Post, ...]
    working: int
    """Places that have workers."""


class Roster:
    """One connection; for one thread at a time. Any method may raise `StoreError`. `clock` is for tests: it takes the
    place of the server's."""

    def __init__(self, link: RedisLink, clock: Clock | None = None) -> None:
        self._link = link
        self._clock = clock

    def visit(self, place: Place, *, works: bool = False, post: Post | None = None) -> Seen:
        """Come by: hold the name for another while (or get one like it), and the post; see who else is there. Without
        an id, only look."""
        return self._meet(place, works=works, post=post)

    def leave(self, place: Place, post: Post | None = None) -> None:
        """The place's name is free again, and the post is taken down."""
        self._meet(place, post=post, leaves=True)

    def close(self) -> None:
        self._link.close()

    def _meet(self, place: Place, *, works: bool = False, post: Post | None = None, leaves: bool = False) -> Seen:
        mine = "" if post is None else msgspec.json.encode(post).decode()
        secret = place.secret or secrets.token_bytes(SECRET_BYTES)
        now = "" if self._clock is None else repr(self._clock.unix_s())
        words: Sequence[Any] = (HOLDS_S, place.id, place.name, int(works), mine, secret, int(leaves))
        name, held, posts, working = self._link.run("meet", now, *words)
        known = Place(id=place.id, name=name.decode() or place.name, secret=held or b"")
        return Seen(place=known, posts=tuple(msgspec.json.decode(each, type=Post) for each in posts), working=working)


def loopback() -> str:
    """Which network's loopback this process sees: where it is the same, two reach each other over 127.0.0.1."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot}/{os.stat('/proc/self/ns/net').st_ino}"
    except OSError:  # no Linux, no network namespaces: the machine is the network
        import uuid

        return f"{uuid.getnode():x}"
