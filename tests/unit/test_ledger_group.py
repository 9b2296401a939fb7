"""Group commit: many awaiting accepts, few transactions, and each its own answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from freehold.core import Request, Result
from freehold.errors import Conflict, InvalidRequest, StoreAway, StoreError
from freehold.ledger.group import AsyncLedger
from freehold.ledger.protocol import Depth, Entry, Later
from freehold.ledger.sqlite import SqliteLedger


def request(id: str, **more: object) -> Request:
    return Request(id=id, model="m", kind="text", **more)  # type: ignore[arg-type]


class CountingLedger(SqliteLedger):
    """Counts the accepts of each transaction; the first waits until `go`."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.groups: list[int] = []
        self.go = threading.Event()

    def accept(
        self, requests: Sequence[Request], on_visible: Callable[[], None] | None = None, later: Later | None = None
    ) -> list[str]:
        self.go.wait()
        self.groups.append(len(requests))
        return super().accept(requests, on_visible, later)


def test_what_waits_together_is_committed_together(tmp_path: Path) -> None:
    opened: list[CountingLedger] = []

    def open() -> CountingLedger:
        opened.append(CountingLedger(tmp_path / "ledger.sqlite"))
        return opened[0]

    async def main() -> int:
        ledger = AsyncLedger(open)
        await ledger.start()
        waiting = [asyncio.ensure_future(ledger.accept(request(f"r{i}"))) for i in range(300)]
        await asyncio.sleep(0)
        opened[0].go.set()
        await asyncio.gather(*waiting)
        await ledger.close()
        with closing(SqliteLedger(tmp_path / "ledger.sqlite")) as store:
            return store.depth().queued

    assert asyncio.run(main()) == 300
    assert sum(opened[0].groups) == 300
    assert len(opened[0].groups) <= 3


def test_workers_can_claim_before_the_disk_is_done(tmp_path: Path) -> None:
    synced = threading.Event()

    class SlowDisk(SqliteLedger):
        def _sync(self) -> None:
            assert synced.wait(10)
            super()._sync()

    async def main() -> None:
        visible = asyncio.Event()
        ledger = AsyncLedger(lambda: SlowDisk(tmp_path / "ledger.sqlite"), visible.set)
        await ledger.start()
        accepting = asyncio.ensure_future(ledger.accept(request("a")))
        await visible.wait()
        worker = SqliteLedger(tmp_path / "ledger.sqlite")
        assert [claim.request.id for claim in worker.claim("worker-1", 8, "m")] == ["a"]
        worker.close()
        also = asyncio.ensure_future(ledger.accept(request("b")))
        while ledger_depth(tmp_path) < 2:
            await asyncio.sleep(0)
        assert not accepting.done(), "nobody may be told before it is durable"
        assert not also.done(), "committed while the disk was at the first, but not synced"
        synced.set()
        await asyncio.gather(accepting, also)
        await ledger.close()

    asyncio.run(main())


def ledger_depth(folder: Path) -> int:
    with closing(SqliteLedger(folder / "ledger.sqlite")) as store:
        depth = store.depth()
        return depth.queued + depth.running


def test_a_disk_that_fails_fails_all_it_was_for(tmp_path: Path) -> None:
    class BadDisk(SqliteLedger):
        def _sync(self) -> None:
            raise StoreError("The disk is gone.")

    async def main() -> None:
        ledger = AsyncLedger(lambda: BadDisk(tmp_path / "ledger.sqlite"))
        await ledger.start()
        waiting = [ledger.accept(request(f"r{i}")) for i in range(3)]
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [StoreError] * 3
        assert await ledger.fetch("r0") is not None, "the thread goes on"
        await ledger.close()

    asyncio.run(main())


def test_what_was_delivered_is_noted_at_the_latest_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"

    async def main() -> None:
        ledger = AsyncLedger(lambda: SqliteLedger(path))
        await ledger.start()
        await ledger.accept(request("a", prompt="between us"))
        with closing(SqliteLedger(path)) as worker:
            (claim,) = worker.claim("w:1", 1, "m")
            worker.finish("a", claim.attempt, Result())
        ledger.delivered("a")
        await ledger.close()

    asyncio.run(main())
    with closing(SqliteLedger(path)) as store:
        entry = store.fetch("a")
        assert entry is not None
        assert entry.request.prompt == ""


def test_one_conflict_fails_alone(tmp_path: Path) -> None:
    async def main() -> None:
        ledger = AsyncLedger(lambda: SqliteLedger(tmp_path / "ledger.sqlite"))
        await ledger.start()
        await ledger.accept(request("r3"))
        outcomes = await asyncio.gather(*(ledger.accept(request(f"r{i}")) for i in range(6)), return_exceptions=True)
        assert [isinstance(outcome, Conflict) for outcome in outcomes] == [i == 3 for i in range(6)]
        await ledger.close()
        with closing(SqliteLedger(tmp_path / "ledger.sqlite")) as store:
            assert store.depth().queued == 6

    asyncio.run(main())


def test_a_number_too_large_to_store_fails_alone(tmp_path: Path) -> None:
    async def main() -> None:
        ledger = AsyncLedger(lambda: SqliteLedger(tmp_path / "ledger.sqlite"))
        await ledger.start()
        asked = (request("a"), request("b", json_schema={"maximum": 10**30}), request("c"))
        outcomes = await asyncio.gather(*map(ledger.accept, asked), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [str, InvalidRequest, str]
        await ledger.close()

    asyncio.run(main())


def test_the_other_calls_go_the_same_way(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"

    async def main() -> None:
        ledger = AsyncLedger(lambda: SqliteLedger(path))
        await ledger.start()
        await ledger.accept(request("a", keep=True))
        await ledger.accept(request("b"))
        assert await ledger.holders() == []
        assert await ledger.cancel("b") == "queued"
        assert not await ledger.delete("a")
        worker = SqliteLedger(path)
        (claim,) = worker.claim("w:1", 1, "m")
        assert worker.finish("a", claim.attempt, Result())
        worker.close()
        entry = await ledger.fetch("a")
        assert entry is not None
        assert (entry.state, entry.request.meta) == ("done", {})
        assert await ledger.abandon("w:1") == ([], [], [])
        assert await ledger.expire() == []
        assert await ledger.delete("a")
        assert await ledger.sweep(-1.0) == 1
        assert await ledger.check_integrity() == []
        await ledger.close()

    asyncio.run(main())


def test_a_ledger_that_does_not_open_says_so_at_the_start(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(StoreError, match="does not exist"):
            await AsyncLedger(lambda: SqliteLedger(tmp_path / "no" / "ledger.sqlite")).start()

    asyncio.run(main())


def test_a_ledger_that_is_away_at_the_start_is_opened_once_it_is_back(tmp_path: Path) -> None:
    tries: list[bool] = []
    back = False

    def open() -> SqliteLedger:
        tries.append(back)
        if not back:
            raise StoreAway("Its server can't be reached.")
        return SqliteLedger(tmp_path / "ledger.sqlite")

    async def main() -> None:
        nonlocal back
        ledger = AsyncLedger(open)
        await ledger.start()
        ledger.delivered("nobody waits for this")
        for _ in range(2):
            with pytest.raises(StoreAway):
                await ledger.accept(request("a"))
        back = True
        assert await ledger.accept(request("a")) == "a"
        assert (await ledger.depth()).queued == 1
        await ledger.close()
        assert tries.count(True) == 1

    asyncio.run(main())


def test_what_was_gathered_behind_a_call_that_found_the_ledger_away_fails_with_it(tmp_path: Path) -> None:
    calls: list[str] = []
    go = threading.Event()

    class Away(SqliteLedger):
        def fetch(self, id: str) -> Entry | None:
            go.wait()
            return super().fetch(id)

        def depth(self, model: str | None = None) -> Depth:
            calls.append("depth")
            raise StoreAway("It doesn't answer in time.")

        def holders(self) -> list[tuple[str, str, bool]]:
            calls.append("holders")
            return []

    async def main() -> None:
        ledger = AsyncLedger(lambda: Away(tmp_path / "ledger.sqlite"))
        await ledger.start()
        asked = [asyncio.ensure_future(ask) for ask in (ledger.fetch("x"), ledger.depth(), ledger.holders())]
        await asyncio.sleep(0)
        go.set()
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(each) for each in found] == [type(None), StoreAway, StoreAway]
        assert await ledger.holders() == []
        await ledger.close()

    asyncio.run(main())
    assert calls == ["depth", "holders"]


def test_closing_finishes_what_was_asked(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"

    async def main() -> None:
        ledger = AsyncLedger(lambda: SqliteLedger(path))
        await ledger.start()
        waiting = [asyncio.ensure_future(ledger.accept(request(f"r{i}"))) for i in range(20)]
        await asyncio.sleep(0)
        await ledger.close()
        await asyncio.gather(*waiting)

    asyncio.run(main())
    ledger = SqliteLedger(path)
    assert ledger.depth().queued == 20
    ledger.close()
