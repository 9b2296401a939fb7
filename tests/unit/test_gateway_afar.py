"""A gateway that can't hear a worker, or isn't the only one: everything it misses is in the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from freehold.config import ServerConfig
from freehold.core import Answer, Chunk, Request, Result, Usage
from freehold.gateway.afar import ended_elsewhere, out_of_sight, read_along
from freehold.gateway.attach import catch_up
from freehold.gateway.desk import Desk
from freehold.gateway.fleet import Fleet
from freehold.gateway.inbox import Inbox
from freehold.ledger.group import AsyncLedger
from freehold.ledger.protocol import Progress
from freehold.ledger.sqlite import SqliteLedger
from freehold.pipe import Begun, Follow, Frame, Hello, Tokens, life_of, owner
from freehold.telemetry.metrics import Metrics

ME = owner("far.worker-1", 7, "life")


@dataclass
class FarWorker:
    """A line over TCP; what the gateway says is kept."""

    worker: str = "far.worker-1"
    owner: str = ME
    far: bool = True
    told: list[Frame] = field(default_factory=list)

    def send(self, frame: Frame) -> None:
        self.told.append(frame)


@dataclass
class Scene:
    """A desk, and a worker with the ledger in its own hands."""

    desk: Desk
    store: SqliteLedger
    line: FarWorker = field(default_factory=FarWorker)
    saved: int = 0

    async def begun(self, **more: object) -> Inbox:
        """A request whose first two tokens were told over the pipe, and one of them saved."""
        inbox = await self.desk.submit(Request(id="a", model="m", kind="text", **more))  # type: ignore[arg-type]
        self.desk.fleet.hello(self.line, 7, None)
        (claim,) = self.store.claim(ME, 1, "m")
        assert claim.request.gateway == "here"
        self.desk.tokens(self.line, Tokens([chunk(0), chunk(1)], {"a": Begun(claim.attempt, 1.0)}))
        self.save(1)
        return inbox

    def save(self, tokens: int) -> None:
        parts = [chunk(self.saved + i) for i in range(tokens)]
        assert self.store.checkpoint([Progress("a", 1, parts)]) == [True]
        self.saved += tokens

    def cut(self) -> None:
        self.desk.fleet.gone(self.line)


def chunk(offset: int) -> Chunk:
    return Chunk("a", 0, offset, 1, f"{offset} ")


def text(inbox: Inbox) -> str:
    return "".join(chunk.text for chunk in inbox.chunks)


@asynccontextmanager
async def scene(path: Path) -> AsyncIterator[Scene]:
    ledger, tasks = AsyncLedger(lambda: SqliteLedger(path)), []
    await ledger.start()
    desk = Desk(
        ledger, Fleet(), ServerConfig(), Metrics(), lambda work: tasks.append(asyncio.ensure_future(work)), name="here"
    )
    reading, store = asyncio.ensure_future(read_along(desk)), SqliteLedger(path)
    try:
        yield Scene(desk, store)
    finally:
        store.close()
        reading.cancel()
        await asyncio.gather(reading, *tasks, return_exceptions=True)
        await ledger.close()


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


def test_an_answer_goes_on_through_the_ledger_while_its_worker_is_out_of_reach(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path / "ledger.sqlite") as now:
            inbox = await now.begun()
            now.cut()
            await out_of_sight(now.desk, now.line)
            assert now.store.progress("a").chunks == (chunk(0), chunk(1))  # type: ignore[union-attr]
            now.save(2)
            await until(lambda: text(inbox) == "0 1 2 ")
            now.save(2)
            await until(lambda: text(inbox) == "0 1 2 3 4 ")
            answer = Answer(text="0 1 2 3 4 end")
            now.store.finish("a", 1, Result(answers=(answer,), usage=Usage(completion_tokens=6)))
            await until(lambda: inbox.ended)
            assert text(inbox) == "0 1 2 3 4 end"

    asyncio.run(main())


def test_a_worker_that_is_back_is_asked_for_the_rest(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path / "ledger.sqlite") as now:
            inbox = await now.begun()
            now.cut()
            await out_of_sight(now.desk, now.line)
            again = FarWorker()
            now.desk.fleet.hello(again, 7, None)
            now.desk.connected(again)
            assert Follow("a", "here") in again.told
            now.desk.tokens(again, Tokens([chunk(i) for i in range(4)], {"a": Begun(1, 1.0)}))
            now.desk.tokens(again, Tokens([chunk(4)]))
            assert text(inbox) == "0 1 2 3 4 "

    asyncio.run(main())


def test_a_death_that_its_supervisor_tells_of_is_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path / "ledger.sqlite") as now:
            inbox = await now.begun()
            await ended_elsewhere(now.desk, ["far.worker-1:6", "far.worker-2:7"])
            assert now.store.holders()
            await ended_elsewhere(now.desk, [life_of(ME)])
            entry = now.store.fetch("a")
            assert entry is not None
            assert (entry.state, entry.deaths, now.desk.waiting) == ("queued", 1, 1)
            (claim,) = now.store.claim("another:1", 1, "m")
            assert claim.given == (chunk(0), chunk(1))  # what was shown here is kept
            assert text(inbox) == "0 1 "

    asyncio.run(main())


def test_what_others_end_is_heard_of_here(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path / "ledger.sqlite") as now:
            inbox = await now.desk.submit(Request(id="a", model="m", kind="text"))
            now.store.cancel("a")  # through another gateway
            await until(lambda: inbox.ended)
            assert inbox.chunks[-1].finish == "cancelled"

    asyncio.run(main())


def test_what_begins_unheard_is_told_all_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path / "ledger.sqlite") as now:
            inbox = await now.desk.submit(Request(id="a", model="m", kind="text"))
            assert len(now.store.claim(ME, 1, "m")) == 1
            now.save(3)
            await until(lambda: text(inbox) == "0 1 2 ")
            assert (now.desk.waiting, now.desk.running) == (0, 1)

    asyncio.run(main())


def test_whoever_lost_a_claim_is_no_longer_waited_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path / "ledger.sqlite") as now:
            inbox = await now.begun()
            now.store.abandon(ME)  # by another gateway
            (claim,) = now.store.claim("another:1", 1, "m")
            assert claim.attempt == 2
            other = FarWorker("other", "another:1")
            now.desk.fleet.hello(other, 1, None)
            await catch_up(now.desk, "a", inbox)
            assert "a" not in inbox.workers
            assert Follow("a", "here") in other.told

    asyncio.run(main())


def test_hello_says_which_life() -> None:
    hello = Hello("w", 1, None, "x")
    assert life_of(owner(hello.worker, hello.pid, hello.life)) == owner("w", 1)
