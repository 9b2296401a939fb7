"""What becomes of requests whose worker ended while no gateway was there to see it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path

import pytest

from freehold.core import Chunk, Request, Usage, WorkerStatus
from freehold.gateway.desk import Desk
from freehold.gateway.fleet import Fleet
from freehold.gateway.inbox import Inbox
from freehold.gateway.losses import orphans, worker_gone
from freehold.gateway.reader import Reader
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


def test_the_time_to_come_back_in_counts_from_when_the_last_one_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        ledger = AsyncLedger(lambda: SqliteLedger(tmp_path / "new.sqlite"))
        await ledger.start()
        desk = Desk(ledger, Fleet(), ServerConfig(), Metrics(), lambda work: asyncio.ensure_future(work))
        inbox = Inbox([request("a", False)], resumable_s=9.0)
        desk.inboxes["a"] = inbox
        timers: list[Callable[[], object]] = []
        monkeypatch.setattr(
            asyncio.get_running_loop(), "call_later", lambda seconds, call, *given: timers.append(partial(call, *given))
        )
        desk.leave(Reader(inbox, cancels=True))
        desk.leave(Reader(inbox, cancels=True))  # it came back, and is cut off again
        timers[0]()
        assert "a" in desk.inboxes
        timers[1]()
        assert "a" not in desk.inboxes
        monkeypatch.undo()
        await ledger.close()

    asyncio.run(main())
