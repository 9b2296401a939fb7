"""A supervisor among others that share a store: a thread comes by there, keeps its place, and learns which gateways
there are, so that its workers dial all of them.

A store that is away changes nothing: who was there is taken to be there still. A gateway is forgotten once several
visits have not found it.
"""

from __future__ import annotations

import socket
import threading
from urllib.parse import urlsplit

from freehold import log
from freehold.errors import StoreError
from freehold.ledger.open import open_roster
from freehold.ledger.roster import VISIT_S, Place, Post, Roster, loopback

MISSED = 3
"""Visits in a row: after a silence of the store its gateways come back one by one."""
LEAVE_S = 2.0


class Neighbours:
    """`with Neighbours(...)`; `changed` is for the supervisor's own thread."""

    def __init__(self, store_path: str, place: Place | None, *, works: bool) -> None:
        self._store_path = store_path
        self._place = place
        self._works = works
        self._loopback = loopback()
        self._missed: dict[str, int] = {}
        """Address -> visits in a row that did not find it."""
        self._unreachable: set[str] = set()
        self._found: tuple[str, ...] = ()
        self._told: tuple[str, ...] = ()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._come_by, name="neighbours", daemon=True)

    def __enter__(self) -> Neighbours:
        if self._place is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._place is not None:
            self._thread.join(LEAVE_S)

    def changed(self) -> tuple[str, ...] | None:
        """Addresses of all gateways of other supervisors, if they are others than the last time."""
        if self._found == self._told:
            return None
        self._told = self._found
        return self._told

    def _come_by(self) -> None:
        roster: Roster | None = None
        told = False
        assert self._place is not None
        while True:
            try:
                roster = roster or open_roster(self._store_path)
                seen = roster.visit(self._place, works=self._works)
                if seen.place.name != self._place.name:
                    why = "It was away for so long that the store gave its name to another."
                    log.event("place.lost", level="error", place=self._place.name, now=seen.place.name, why=why)
                self._take_in(seen.posts)
                told = False
            except StoreError as error:
                if not told:
                    log.event("neighbours.unseen", level="warning", why=str(error))
                told = True
            if self._over.wait(VISIT_S):
                break
        if roster is not None:
            roster.close()

    def _take_in(self, posts: tuple[Post, ...]) -> None:
        assert self._place is not None
        here = {found for post in posts if post.place != self._place.id and (found := self._reached(post))}
        self._missed = {address: 0 if address in here else n + 1 for address, n in self._missed.items()}
        self._missed = {address: n for address, n in self._missed.items() if n < MISSED} | dict.fromkeys(here, 0)
        self._found = tuple(sorted(self._missed))

    def _reached(self, post: Post) -> str | None:
        """Where to dial, in numbers. None if it can't be reached from here."""
        why = ""
        parts = urlsplit(post.address)
        if post.loopback and post.loopback != self._loopback:
            why = f"It listens on {parts.hostname} alone: start it with --pipe-host and an address of its network."
        try:
            number = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)[0][4][0]
        except OSError as error:
            why = why or f"{parts.hostname} is not known here ({error})."
        else:
            if not why:
                self._unreachable.discard(post.address)
                return f"tcp://[{number}]:{parts.port}" if ":" in str(number) else f"tcp://{number}:{parts.port}"
        if post.address not in self._unreachable:
            self._unreachable.add(post.address)
            log.event("gateway.unreachable", level="warning", host=post.host, address=post.address, why=why)
        return None
