"""How soon is the place of a cancelled request free, in whatever state it was?

A server with one place. A request holds it, another waits, and the first is cancelled at a random moment of one state:
by its id, or because its client is gone. What counts is the time from there until the waiting one's *first token* is
with its client, so that its own step is included: an upper bound. One that is cancelled while it waits itself has a
place in the queue; that is free once the ledger says so. The floor is what the waiting one takes on an idle server.

    python benchmarks/cancel.py [--quick] [--store sqlite|redis]

The last line of standard output is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from freehold.ledger.open import open_ledger
from freehold.ledger.protocol import Ledger
from freehold.profile import Profile, StepLaw, save
from report import Claim, finish
from sides import Served
from storm import Redis

STEP_MS = 12.0
PREFILL_MS_PER_TOKEN = 0.1
LONG_WORDS = 900
"""Its prompt is read for about a tenth of a second, in one step that nothing interrupts."""
PROFILE = Profile(
    name="one", model="none", engine="sim", machine="any", date="2026-11-25",
    source="Assumed: one place, 12 ms a step, 0.1 ms for a token of a prompt.",
    step=StepLaw(base_ms=STEP_MS, prefill_ms_per_token=PREFILL_MS_PER_TOKEN), sweet_batch=1, max_batch=1,
    context_tokens=4096, max_batched_tokens=1 << 20, basis={"step": "assumed"},
)  # fmt: skip
TARGET_MS = 200.0
PATIENCE_S = 20.0


class Place:
    """The server, its ledger, and one request after the other in its only place."""

    def __init__(self, port: int, ledger: Ledger, seed: int) -> None:
        self._ledger = ledger
        self._random = random.Random(seed)
        self._http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S, trust_env=False)

    async def close(self) -> None:
        await self._http.aclose()

    async def floor(self) -> float:
        """The first token of a request that nobody is before."""
        begun_s = time.perf_counter()
        return await self._first_token() - begun_s

    async def running(self, words: int, by_id: bool) -> float:
        """Cancelled while its prompt is read (many words), or while it answers (one)."""
        id, client = await self._begin(words, by_id)
        await self._until(lambda: self._ledger.depth().running == 1)
        if words == 1:
            await asyncio.sleep(3 * STEP_MS / 1000)
        waiting = asyncio.create_task(self._first_token())
        await self._until(lambda: self._ledger.depth().queued == 1)
        await asyncio.sleep(self._random.uniform(0.0, STEP_MS / 1000))
        begun_s = time.perf_counter()
        await self._end(id, client)
        return await waiting - begun_s

    async def waiting(self, by_id: bool) -> float:
        """Cancelled while it waits."""
        first_id, first = await self._begin(1, False)
        await self._until(lambda: self._ledger.depth().running == 1)
        id, client = await self._begin(1, by_id)
        await self._until(lambda: self._ledger.depth().queued == 1)
        begun_s = time.perf_counter()
        ending = asyncio.create_task(self._end(id, client))
        await self._until(lambda: self._ledger.depth().queued == 0)
        took_s = time.perf_counter() - begun_s
        await ending
        await self._end(first_id, first)
        return took_s

    async def empty(self) -> None:
        await self._until(lambda: (depth := self._ledger.depth()).queued == depth.running == 0)

    # ---- inside ----------------------------------------------------------------------------------

    async def _begin(self, words: int, by_id: bool) -> tuple[str, asyncio.Task[None] | None]:
        """A request without an end of its own: its id, or the client that follows it."""
        prompt = "word " * words
        if by_id:
            body = {"input": prompt, "background": True, "max_output_tokens": 2000, "ignore_eos": True}
            return (await self._http.post("/v1/responses", json=body)).json()["id"], None
        return "", asyncio.create_task(self._follow(prompt))

    async def _follow(self, prompt: str) -> None:
        body = {"prompt": prompt, "max_tokens": 2000, "ignore_eos": True, "stream": True}
        async with self._http.stream("POST", "/v1/completions", json=body) as reply:
            async for _ in reply.aiter_raw():
                pass

    async def _end(self, id: str, client: asyncio.Task[None] | None) -> None:
        if client is None:
            reply = await self._http.post(f"/v1/responses/{id}/cancel")
            assert reply.status_code == 200, reply.text
        else:
            client.cancel()
            await asyncio.wait([client])

    async def _first_token(self) -> float:
        """When the first token of a short request has come."""
        body = {"prompt": "word", "max_tokens": 1, "ignore_eos": True, "stream": True}
        async with self._http.stream("POST", "/v1/completions", json=body) as reply:
            async for _ in reply.aiter_raw():
                return time.perf_counter()
        raise RuntimeError("it ended without a token")

    async def _until(self, true: Callable[[], bool]) -> None:
        end_s = time.perf_counter() + PATIENCE_S
        while not true():
            assert time.perf_counter() < end_s, "it never came true"
            await asyncio.sleep(0.001)


async def measure(port: int, ledger: Ledger, rounds: int) -> dict[str, list[float]]:
    place = Place(port, ledger, seed=1)
    kinds: dict[str, Callable[[], Any]] = {
        "nobody before it (floor)": place.floor,
        "waiting, by id": lambda: place.waiting(True),
        "waiting, client gone": lambda: place.waiting(False),
        "prompt being read, by id": lambda: place.running(LONG_WORDS, True),
        "prompt being read, client gone": lambda: place.running(LONG_WORDS, False),
        "decoding, by id": lambda: place.running(1, True),
        "decoding, client gone": lambda: place.running(1, False),
    }
    took: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, kind in kinds.items():
            await place.empty()
            took[name].append(1000.0 * await kind())
    await place.close()
    return took


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="30 of each instead of 200")
    parser.add_argument("--store", choices=("sqlite", "redis"), default="sqlite")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        save(PROFILE, folder / "one.json")
        store = str(folder / "ledger.sqlite")
        if given.store == "redis":
            redis = Redis(folder)
            stack.callback(redis.kill)
            while not redis.answers():
                time.sleep(0.05)
            store = redis.url
        name = "store.url" if given.store == "redis" else "store.path"
        served = Served(folder / "home", f"sim:{folder / 'one.json'}", "--set", f"{name}={store}")
        stack.callback(served.close)
        ledger = open_ledger(store)
        stack.callback(ledger.close)
        took = asyncio.run(measure(served.port, ledger, 30 if given.quick else 200))
    claims = []
    for name, times in took.items():
        times.sort()
        p99 = times[min(len(times) - 1, round(0.99 * len(times)))]
        p50 = times[len(times) // 2]
        print(f"{name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, slowest {times[-1]:.1f} ms, of {len(times)}")
        if "floor" not in name:
            claims.append(Claim(f"place free after a cancel while {name}, p99 ms", p99, "<=", TARGET_MS))
    return finish(f"cancel-{given.store}", claims)


if __name__ == "__main__":
    sys.exit(main())
