"""Folders and their sheets in both stores against one plain model: random calls from two connections."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from freehold.clock import VirtualClock
from freehold.ledger.folders import Folder
from freehold.ledger.protocol import Ledger
from freehold.ledger.redis import RedisLedger
from freehold.ledger.sqlite import SqliteLedger
from redis_server import RedisServer

Open = Callable[[VirtualClock], tuple[Ledger, Ledger]]
ids = st.sampled_from("abcdef")
tenants = st.sampled_from(("", "t", "u"))


@dataclass
class Shelf:
    folders: dict[str, Folder] = field(default_factory=dict)
    """In the order of their arrival."""
    sheets: dict[str, dict[int, bytes]] = field(default_factory=dict)


class FolderMachine(RuleBasedStateMachine):
    def __init__(self, open: Open) -> None:
        super().__init__()
        self.clock = VirtualClock(1000.0)
        self.ledgers = open(self.clock)
        self.model = Shelf()
        self.turn = 0

    @property
    def ledger(self) -> Ledger:
        self.turn += 1
        return self.ledgers[self.turn % 2]

    def teardown(self) -> None:
        for ledger in self.ledgers:
            ledger.close()

    @rule(
        id=ids, kind=st.sampled_from("kl"), tenant=tenants, label=st.binary(max_size=3),
        lasts_s=st.sampled_from((5.0, 50.0)), version=st.sampled_from((0, 0, 1, None, None)),
    )  # fmt: skip
    def put(self, id: str, kind: str, tenant: str, label: bytes, lasts_s: float, version: int | None) -> None:
        """`version` None: the one it has."""
        there = self.model.folders.get(id)
        if version is None:
            version = there.version if there is not None else 0
        new = Folder(id, kind, tenant, label, self.clock.unix_s() + lasts_s, version, there.bytes if there else 0)
        taken = version == (there.version if there else 0) and (there is None or kind == there.kind)
        same = Folder(id, kind, tenant, label, new.until_unix_s, version + 1, new.bytes) == there
        if same and not taken:
            return  # a call made again: a store may know it
        assert self.ledger.put_folder(new) == taken
        if taken:
            self.model.folders[id] = Folder(id, kind, tenant, label, new.until_unix_s, version + 1, new.bytes)
            self.model.sheets.setdefault(id, {})

    @rule(
        id=ids,
        sheets=st.lists(st.tuples(st.integers(0, 100_000), st.binary(max_size=40)), max_size=5),
        fence=st.none() | st.tuples(ids, st.integers(1, 3)),
    )
    def add(self, id: str, sheets: list[tuple[int, bytes]], fence: tuple[str, int] | None) -> None:
        there = id in self.model.folders
        if fence is not None:
            stands = self.model.folders.get(fence[0])
            there = there and stands is not None and stands.version == fence[1]
        assert self.ledger.add_sheets(id, sheets, fence) == there
        for number, content in sheets if there else ():
            self.model.sheets[id].setdefault(number, content)
        if there:
            size = sum(len(content) for content in self.model.sheets[id].values())
            old = self.model.folders[id]
            self.model.folders[id] = Folder(
                id, old.kind, old.tenant, old.label, old.until_unix_s, old.version, size
            )  # fmt: skip

    @rule(id=ids, most_bytes=st.integers(1, 60))
    def read(self, id: str, most_bytes: int) -> None:
        """Bite by bite it is everything, in order."""
        expected = sorted(self.model.sheets.get(id, {}).items())
        found: list[tuple[int, bytes]] = []
        while page := self.ledger.sheets(id, found[-1][0] if found else -1, most_bytes):
            assert len(page) == 1 or sum(len(content) for _, content in page) <= most_bytes
            found += page
        assert found == expected
        assert self.ledger.sheet_numbers(id) == [number for number, _ in expected]

    @rule(id=ids)
    def drop(self, id: str) -> None:
        assert self.ledger.drop_folder(id) == (id in self.model.folders)
        self.model.folders.pop(id, None)
        self.model.sheets.pop(id, None)

    @rule(kind=st.sampled_from("kl"), tenant=tenants, limit=st.integers(1, 3), oldest_first=st.booleans())
    def list(self, kind: str, tenant: str, limit: int, oldest_first: bool) -> None:
        expected = [each for each in self.model.folders.values() if (each.kind, each.tenant) == (kind, tenant)]
        found: list[Folder] = []
        while page := self.ledger.folders(
            kind, tenant, limit, found[-1].id if found else None, oldest_first=oldest_first
        ):
            assert len(page) <= limit
            found += page
        assert found == (expected if oldest_first else expected[::-1])

    @rule(seconds=st.sampled_from((1.0, 6.0, 60.0)))
    def sweep_later(self, seconds: float) -> None:
        self.clock.sleep(seconds)
        assert self.ledger.sweep(100.0) == 0
        self.ledger.keep_up()
        for id, folder in list(self.model.folders.items()):
            if folder.until_unix_s <= self.clock.unix_s():
                del self.model.folders[id], self.model.sheets[id]

    @invariant()
    def agrees(self) -> None:
        for id in "abcdef":
            assert self.ledger.folder(id) == self.model.folders.get(id)
        assert self.ledger.folder_bytes() == sum(folder.bytes for folder in self.model.folders.values())
        assert self.ledger.check_integrity() == []


def check(open: Open) -> None:
    run_state_machine_as_test(
        lambda: FolderMachine(open), settings=settings(max_examples=40, stateful_step_count=30, deadline=None)
    )


def test_sqlite_keeps_folders_as_the_model_does(tmp_path: Path) -> None:
    numbers = itertools.count()

    def open(clock: VirtualClock) -> tuple[Ledger, Ledger]:
        path = tmp_path / f"{next(numbers)}.sqlite"
        return SqliteLedger(path, clock=clock), SqliteLedger(path, clock=clock)

    check(open)


def test_redis_keeps_folders_as_the_model_does(redis_server: RedisServer) -> None:
    numbers = itertools.count()

    def open(clock: VirtualClock) -> tuple[Ledger, Ledger]:
        prefix = f"folders-{next(numbers)}"
        first, second = (RedisLedger(redis_server.url, prefix=prefix, clock=clock) for _ in range(2))
        return first, second

    check(open)


@pytest.mark.parametrize("sheets", [0, 1000])
def test_what_a_dropped_folder_leaves_is_cleared_bite_by_bite(tmp_path: Path, sheets: int) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", clock=VirtualClock(1000.0))
    for id in ("a", "b"):
        ledger.put_folder(Folder(id, "k", "t", b"", 2000.0))
        ledger.add_sheets(id, [(number, b"x" * 100) for number in range(sheets)])
    ledger.drop_folder("a")
    assert [folder.id for folder in ledger.folders("k", "t", 10)] == ["b"]
    assert ledger.folder_bytes() == 100 * sheets
    ledger.keep_up()
    assert ledger._tables.read("gone_folders") == []
    assert ledger.sheet_numbers("b") == list(range(sheets))
    assert ledger.check_integrity() == []
    ledger.close()
