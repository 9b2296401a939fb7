"""What a server makes of bad clients: some cut their connection, vanish, send half a request or none at all, come in a
burst. Against any OpenAI-compatible server, by HTTP alone; each trial says what was lost.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from freehold.loadtest.interrupted import BUSY, Ask, Journal, read

CHAT = "/v1/chat/completions"
REPLY_S = 60.0
HALF_S = 1.0
"""A half request is left like this for so long, and then the connection is cut."""
_BAD: tuple[tuple[str, bytes], ...] = (
    ("no JSON", b"{"),
    ("no object", b"[]"),
    ("no UTF-8", b"\xff\xfe\x00"),
    ("no messages", b'{"model": "x"}'),
    ("messages of the wrong type", b'{"messages": 7}'),
    ("deeply nested", b"[" * 50_000),
)


class Trial(msgspec.Struct, frozen=True):
    """One kind of mischief. `lost`: answers that didn't come whole, or not as they should; empty when all is well."""

    name: str
    tries: int
    seconds: float
    lost: tuple[str, ...] = ()
    notes: str = ""


class Provoker:
    """Holds the client; `trials` runs one after the other, so that each is alone to blame."""

    def __init__(self, http: httpx.AsyncClient, model: str, tries: int) -> None:
        self._http = http
        self._tries = tries
        self._base: dict[str, Any] = {"model": model, "max_tokens": 48, "temperature": 0, "stream": True}
        self._calm: list[Journal] = []

    @property
    def trials(self) -> list[Any]:
        return [self.undisturbed, self.cut_and_resume, self.vanish, self.half_requests, self.malformed, self.burst]

    async def undisturbed(self) -> Trial:
        """Greedy answers as they should be; twice, since not every server gives the same again."""
        begun_s = time.monotonic()
        first, again = await self._all(), await self._all()
        self._calm = first
        lost = [f"{i}: {each.failure or 'not whole'}" for i, each in enumerate(first) if not each.whole]
        same = sum(a.text == b.text for a, b in zip(first, again, strict=True))
        return _trial("undisturbed", self._tries, begun_s, lost, f"{same} of {self._tries} the same when asked again")

    async def cut_and_resume(self) -> Trial:
        """The connection is cut after a few events; then the client goes on after the last one."""
        begun_s = time.monotonic()
        lost, resumed, unable = [], 0, 0
        for i in range(self._tries):
            journal = Journal()
            ask = self._ask(i)
            await read(self._http, ask, journal, until_s=_soon(), cut=_after(3 + i % 5), again=False)
            if journal.over or not journal.last_id:
                unable += not journal.over
                continue
            await read(self._http, ask, journal, until_s=_soon())
            resumed += journal.whole
            if not journal.whole:
                lost.append(f"{i}: {journal.failure or 'never ended'}")
            elif self._calm[i].whole and (differs := journal.differs(self._calm[i])):
                lost.append(f"{i}: {'; '.join(differs)[:200]}")
        notes = f"{resumed} went on" + (f", {unable} could not: events without ids" if unable else "")
        return _trial("cut and resume", self._tries, begun_s, lost, notes)

    async def vanish(self) -> Trial:
        """Clients leave in the middle of long answers; somebody who comes after them must be answered as before."""
        begun_s = time.monotonic()
        gone = [Journal() for _ in range(self._tries)]
        asks = [self._ask(i, max_tokens=2000) for i in range(self._tries)]
        leaving = (
            read(self._http, a, j, until_s=_soon(), cut=_after(2), again=False) for a, j in zip(asks, gone, strict=True)
        )
        await asyncio.gather(*leaving)
        return await self._still("vanish", self._tries, begun_s)

    async def half_requests(self) -> Trial:
        """A head without its body, half a head, a body that never comes; then the connection is cut."""
        begun_s = time.monotonic()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: {self._http.base_url.host}\r\nContent-Length: 1000\r\n"
        parts = [b"POST /v1/ch", head.encode(), f"{head}\r\n".encode(), f'{head}\r\n{{"messages": ['.encode()]
        await asyncio.gather(*(self._half(parts[i % len(parts)]) for i in range(self._tries)))
        return await self._still("half requests", self._tries, begun_s)

    async def malformed(self) -> Trial:
        """Each must be refused with a 4xx that says so, and the server live on."""
        begun_s = time.monotonic()
        lost = []
        for name, body in _BAD:
            try:
                reply = await self._http.post(CHAT, content=body, headers={"content-type": "application/json"})
                if not 400 <= reply.status_code < 500:
                    lost.append(f"{name}: status {reply.status_code}")
            except httpx.TransportError as error:
                lost.append(f"{name}: {type(error).__name__}")
        after = await self._still("malformed", len(_BAD), begun_s)
        return msgspec.structs.replace(after, lost=(*lost, *after.lost))

    async def burst(self) -> Trial:
        """Ten times as many at once: each is answered, or refused with a status that says to come again."""
        begun_s = time.monotonic()
        journals = [Journal() for _ in range(10 * self._tries)]
        asks = [self._ask(i) for i in range(len(journals))]
        await asyncio.gather(
            *(read(self._http, a, j, until_s=_soon(), again=False) for a, j in zip(asks, journals, strict=True))
        )
        refused = sum(journal.refusals > 0 for journal in journals)
        lost = [f"{i}: {j.failure or 'never ended'}" for i, j in enumerate(journals) if not j.whole and not j.refusals]
        return _trial("burst", len(journals), begun_s, lost, f"{refused} refused with {'/'.join(map(str, BUSY))}")

    # ---- inside ----------------------------------------------------------------------------------

    def _ask(self, i: int, **more: Any) -> Ask:
        words = [{"role": "user", "content": f"Tell me about the number {i}."}]
        return Ask(CHAT, {**self._base, "messages": words, **more}, resumable_s=0.0 if more else 60.0)

    async def _all(self) -> list[Journal]:
        journals = [Journal() for _ in range(self._tries)]
        for i, journal in enumerate(journals):
            await read(self._http, self._ask(i), journal, until_s=_soon(), again=False)
        return journals

    async def _still(self, name: str, tries: int, begun_s: float) -> Trial:
        """Whether an ordinary request is answered now."""
        journal = Journal()
        await read(self._http, self._ask(0), journal, until_s=_soon(), again=False)
        lost = [] if journal.whole else [f"the next ordinary request: {journal.failure or 'not whole'}"]
        return _trial(name, tries, begun_s, lost)

    async def _half(self, data: bytes) -> None:
        where = urlsplit(str(self._http.base_url))
        secure = ssl.create_default_context() if where.scheme == "https" else None
        port = where.port or (443 if secure else 80)
        _, writer = await asyncio.open_connection(where.hostname, port, ssl=secure)
        writer.write(data)
        await asyncio.sleep(HALF_S)
        writer.transport.abort()


def _trial(name: str, tries: int, begun_s: float, lost: list[str], notes: str = "") -> Trial:
    return Trial(name, tries, round(time.monotonic() - begun_s, 3), tuple(lost), notes)


def _soon() -> float:
    return time.monotonic() + REPLY_S


def _after(events: int) -> Any:
    left = [events]

    def cut(journal: Journal) -> bool:
        left[0] -= 1
        return left[0] <= 0

    return cut
