"""What becomes of requests whose worker ended while no gateway was there to see it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path

from freehold.core import Chunk, Request, Usage, WorkerStatus
from freehold.gateway.desk import Desk
from freehold.gateway.fleet import Fleet
from freehold.gateway.losses import orphans, worker_gone
from freehold.ledger.group import AsyncLedger
from freehold.ledger.sqlite import SqliteLedger
from freehold.pipe import Begun, Frame, Tokens, owner
from freehold.settings import ServerConfig
from freehold.telemetry.metrics import Metrics


def request(id: str, keep: bool) -> Request:
    return Request(id=id, model="m", kind="text", keep=keep)


def run(path: Path, work: Coroutine[object, object, None]) -> None:
    store = SqliteLedger(path)
    store.accept([request("read", False), request("kept", True)])
    assert len(store.claim(owner("worker-1", 7), 2, "m")) == 2
    store.accept([request("other", False)])
    assert len(store.claim(owner("worker-2", 8), 1, "m")) == 1
    store.close()
    asyncio.run(work)


def test_claims_of_the_dead_are_let_go(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"

    async def main() -> None:
        ledger = AsyncLedger(lambda: SqliteLedger(path))
        await ledger.start()
        desk = Desk(ledger, Fleet(), ServerConfig(), Metrics(), lambda work: asyncio.ensure_future(work))
        assert await orphans(desk, ()) == set()  # no supervisor has said who lives
        desk.fleet.supervised(
            [
                WorkerStatus(name="worker-1", pid=9, state="loading"),
                WorkerStatus(name="worker-2", pid=8, state="ready"),
            ]
        )
        suspects = await orphans(desk, ())
        assert suspects == {owner("worker-1", 7)}
        assert len(await ledger.holders()) == 3  # one look is not enough
        await orphans(desk, suspects)
        assert [id for _, id, _ in await ledger.holders()] == ["other"]
        for id in ("read", "kept"):  # both go on: whoever read them may come back
            entry = await ledger.fetch(id)
            assert entry is not None
            assert (entry.state, entry.deaths) == ("queued", 1)
        await ledger.close()

    run(path, main())


class Wire:
    """A worker's line that nobody reads."""

    worker, owner = "worker-2", owner("worker-2", 8)

    def send(self, frame: Frame) -> None:
        pass


def test_an_end_that_was_told_while_the_ledger_was_away_is_not_lost_with_its_worker(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"

    async def main() -> None:
        ledger = AsyncLedger(lambda: SqliteLedger(path))
        await ledger.start()
        desk = Desk(ledger, Fleet(), ServerConfig(), Metrics(), lambda work: asyncio.ensure_future(work))
        inbox = await desk.follow(["other"], request("other", False).tenant)
        line = Wire()
        chunk = Chunk("other", 0, 0, 1, "Hi.", finish="stop", usage=Usage(1, 0, 1))
        desk.tokens(line, Tokens([chunk], {"other": Begun(1, 0.0)}, ["other"]))
        assert inbox.ended
        await desk.unrecorded.look()
        assert len(desk.unrecorded.of(line)) == 1
        await worker_gone(desk, line)
        entry = await ledger.fetch("other")
        assert entry is not None
        assert entry.result is not None
        assert (entry.state, entry.deaths, entry.result.failure) == ("done", 0, None)
        await desk.unrecorded.look()
        assert desk.unrecorded.of(line) == []
        await ledger.close()

    run(path, main())
