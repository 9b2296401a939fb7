"""A gateway among others that share a store: it listens for workers of other hosts, and posts in the store where."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Coroutine, Sequence
from urllib.parse import urlsplit

from freehold import log
from freehold.errors import ConfigError, StoreError
from freehold.gateway.afar import read_along
from freehold.gateway.desk import Desk
from freehold.gateway.pipe_server import PipeServer
from freehold.ledger.open import open_roster
from freehold.ledger.roster import VISIT_S, Place, Post, Roster, loopback
from freehold.settings import PipeConfig

REDIS_PORT = 6379
_NOBODY = Place(id="", name="", secret=b"")


async def among_others(
    pipe: PipeServer, desk: Desk, config: PipeConfig, store: str, place: Place | None
) -> Sequence[Coroutine[None, None, None]]:
    """What there is to do besides, where others share the store: the pipe is opened to them. Raises `ConfigError`."""
    if place is None:
        return ()
    post = await _opened(pipe, desk, config, store, place)
    return attend(desk, store, post), read_along(desk)


async def _opened(pipe: PipeServer, desk: Desk, config: PipeConfig, store: str, place: Place) -> Post:
    """Listen as `config` says; what is posted. Raises `ConfigError`."""
    bound, port = await pipe.listen_far(config.host, config.port, place.secret)
    host = config.address or bound
    if not config.address and ipaddress.ip_address(bound).is_unspecified:
        host = _way_to(store)
    near = not config.address and ipaddress.ip_address(bound).is_loopback
    address = f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
    if not near or not log.at_terminal():
        log.event("gateway.pipe", address=address, encrypted=False, beyond_this_machine=not near)
    post = Post(
        gateway=desk.name, place=place.id, host=place.name, address=address, loopback=loopback() if near else ""
    )
    await asyncio.to_thread(_visit_once, desk, store, post)  # who asks at once waits for those who are to come
    return post


def _visit_once(desk: Desk, store: str, post: Post) -> None:
    try:
        roster = open_roster(store)
        desk.fleet.elsewhere = roster.visit(_NOBODY, post=post).working > 0
        roster.close()
    except StoreError as error:
        log.event("gateway.unseen", level="warning", why=str(error))


def _way_to(store: str) -> str:
    """This machine's address on the way to the store, which the others reach too. Raises `ConfigError`."""
    parts = urlsplit(store)
    found = "127.0.0.1"
    if parts.scheme != "unix":
        try:
            host, port = parts.hostname or "localhost", parts.port or REDIS_PORT
            family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.connect(where)  # sends nothing: the system says which of its addresses it would use
                found = str(probe.getsockname()[0])
        except OSError as error:
            raise ConfigError("Can't tell by which address workers reach this gateway.", f"{error}.", _SAY) from error
    if ipaddress.ip_address(found).is_loopback:
        why = "It listens everywhere, and its store is on this machine."
        raise ConfigError("Can't tell by which address workers reach this gateway.", why, _SAY)
    return found


_SAY = "Name it: --set pipe.address=HOST, or --pipe-host with one of this machine's addresses."


async def attend(desk: Desk, store: str, post: Post) -> None:
    """Keep the post up until cancelled, and hear whether somebody works for the store."""
    roster: Roster | None = None
    told = False
    try:
        while True:
            try:
                if roster is None:
                    roster = await asyncio.to_thread(open_roster, store)
                seen = await asyncio.to_thread(roster.visit, _NOBODY, post=post)
                desk.fleet.elsewhere = seen.working > 0
                told = False
            except StoreError as error:
                if not told:
                    log.event("gateway.unseen", level="warning", why=str(error))
                told = True
            await asyncio.sleep(VISIT_S)
    finally:
        if roster is not None:
            await asyncio.to_thread(_leave, roster, post)


def _leave(roster: Roster, post: Post) -> None:
    try:
        roster.leave(_NOBODY, post)
    except StoreError as error:
        log.event("gateway.unseen", level="warning", why=str(error))
    roster.close()
