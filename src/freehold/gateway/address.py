"""Where a webhook may go: a public address, found once and then kept to, so that a name can't change its mind between
the check and the connection (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from importlib import import_module
from types import ModuleType
from urllib.parse import urlsplit

from freehold.errors import InvalidRequest

RESOLVE_S = 5.0
_TUNNELS = tuple(ipaddress.ip_network(net) for net in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"))
"""IPv6 that carries IPv4 addresses within, public or not."""


def is_public(text: str) -> bool:
    """Whether anybody on the internet could reach this address."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif any(address in tunnel for tunnel in _TUNNELS) or address.is_site_local:
            return False
    return address.is_global and not address.is_multicast


async def resolve(url: str, *, private: bool) -> str:
    """The address that `url` is at now. Raises `InvalidRequest` for a URL that can't or mustn't be called; of several
    addresses one that isn't public is enough."""
    httpx = await httpx_loaded()
    try:
        httpx.URL(url)  # what will call it must understand it too
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except (ValueError, httpx.InvalidURL) as error:
        raise _refused(f"{error}.") from None
    if parts.scheme not in ("https", "http") or not host or parts.username is not None:
        raise _refused("It takes http:// or https://, a host, and no user name.")
    try:
        async with asyncio.timeout(RESOLVE_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, port or parts.scheme, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        raise _refused("Its host name can't be resolved.") from None
    addresses = [str(each[4][0]) for each in found]
    if not private and not all(is_public(address) for address in addresses):
        raise _refused("It leads to a private, loopback or link-local address.", "The server's owner may allow those.")
    return addresses[0]


async def httpx_loaded() -> ModuleType:
    """The HTTP client, imported when a webhook first needs one: a gateway that has none starts sooner without."""
    return await asyncio.to_thread(import_module, "httpx")


def _refused(why: str, next: str = "") -> InvalidRequest:
    return InvalidRequest("The webhook's URL can't be used.", why, next, param="webhook.url")
