"""The head of a reply and the first of its body: one write."""

from __future__ import annotations

import asyncio
from typing import cast

from freehold.gateway.joined import Joined


class Wire:
    """Stands for a transport: keeps what is written."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.writes.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def joined() -> tuple[Wire, Joined]:
    wire = Wire()
    return wire, Joined(cast(asyncio.Transport, wire), asyncio.get_running_loop())


def test_head_and_body_are_one_write() -> None:
    async def main() -> None:
        wire, out = joined()
        out.write(b"HTTP/1.1 200 OK\r\n\r\n")
        assert wire.writes == []
        out.write(b"first")
        out.write(b"second")
        await asyncio.sleep(0)
        assert wire.writes == [b"HTTP/1.1 200 OK\r\n\r\nfirst", b"second"]

    asyncio.run(main())


def test_a_head_alone_waits_no_longer_than_this_turn() -> None:
    async def main() -> None:
        wire, out = joined()
        out.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await asyncio.sleep(0)
        assert wire.writes == [b"HTTP/1.1 100 Continue\r\n\r\n"]

    asyncio.run(main())


def test_a_head_is_sent_before_the_end() -> None:
    async def main() -> None:
        wire, out = joined()
        out.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        out.close()
        assert wire.writes == [b"HTTP/1.1 204 No Content\r\n\r\n"]
        assert out.is_closing()
        await asyncio.sleep(0)

    asyncio.run(main())
