"""The history's file: what goes in comes out, its bounds hold, and trouble is said once and loses only what it must."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from freehold.clock import VirtualClock
from freehold.errors import StoreError, UsageError
from freehold.telemetry import history as module
from freehold.telemetry.history import History
from freehold.telemetry.history_read import RowFilter, ids_since, last_begin_unix_s, read_rows, read_slots, read_texts
from freehold.telemetry.power import Gpus, Meters, Rapl
from freehold.telemetry.row import Row
from freehold.telemetry.slot import Part, Slot


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_S", 0.01)
    monkeypatch.setattr(module, "RETRY_S", 0.05)
    monkeypatch.setattr(module, "PRUNE_EVERY_S", 0.0)


def until(true: Callable[[], object]) -> None:
    end_s = time.monotonic() + 20.0
    while not true():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def row(id: str, received_unix_s: float, **fields: object) -> Row:
    told = {"route": "/generate", "model": "m", "variant": "v", "tenant": "t", "outcome": "ok"} | fields
    return Row(id=id, received_unix_s=received_unix_s, **told)  # type: ignore[arg-type]


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    path = tmp_path / "state" / "history.sqlite"
    now_s = time.time()
    history = History(path, 1.0, 1 << 30)
    rows = [row(f"r{i}", now_s + i, delivered_ms=float(i % 7), outcome="failed" if i % 3 else "ok") for i in range(50)]
    history.add(rows[:1], None, b'[{"prompt":"x"}]')
    history.add(rows[1:], Slot(begin_unix_s=now_s, parts={"v": Part(ok=50)}))
    history.add((), Slot(begin_unix_s=now_s, parts={"v": Part(ok=1)}))
    history.close()
    assert list(read_rows(path, RowFilter())) == rows
    assert [each.id for each in read_rows(path, RowFilter(limit=2))] == ["r48", "r49"]
    assert {each.delivered_ms for each in read_rows(path, RowFilter(slowest=7))} == {6.0}
    assert all(each.outcome == "failed" for each in read_rows(path, RowFilter(outcome="failed")))
    assert [each.id for each in read_rows(path, RowFilter(since_unix_s=now_s + 3, until_unix_s=now_s + 5))] == [
        "r3",
        "r4",
    ]
    (slot,) = read_slots(path)
    assert slot.parts["v"].ok == 51
    assert ids_since(path, now_s + 48) == {"r48", "r49"}
    assert last_begin_unix_s(path) == now_s
    assert read_texts(path, "r0") == b'[{"prompt":"x"}]'
    assert read_texts(path, "r1") == b""
    assert path.stat().st_mode & 0o077 == 0


def test_what_is_too_old_or_too_much_goes(tmp_path: Path) -> None:
    path, now_s = tmp_path / "h.sqlite", time.time()
    history = History(path, 1.0, 200_000)
    history.add([row("old", now_s - 2 * 86_400)])
    history.add([row(f"r{i}", now_s - 1000 + i / 10, code="x" * 100) for i in range(5000)])
    history.close()
    again = History(path, 1.0, 200_000)  # prunes as it begins
    until(lambda: path.stat().st_size <= 260_000)
    again.close()
    left = [each.id for each in read_rows(path, RowFilter())]
    assert "old" not in left
    assert 0 < len(left) < 5000
    assert left[-1] == "r4999"


def test_a_folder_that_cant_be_used_is_said_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = tmp_path / "state"
    state.write_text("no folder")
    history = History(state / "h.sqlite", 1.0, 1 << 30)
    with caplog.at_level("INFO", logger="freehold"):
        history.add([row("lost", 1.0)])
        until(lambda: history.trouble and history.lost == 1)
        state.unlink()
        time.sleep(0.2)
        history.add([row("kept", time.time())])
        history.close()
    assert not history.trouble
    assert [each.id for each in read_rows(state / "h.sqlite", RowFilter())] == ["kept"]
    assert [each.getMessage() for each in caplog.records] == ["history.failed", "history.goes_on"]


def test_a_full_disk_loses_only_what_came_then(tmp_path: Path) -> None:
    path, now_s, most_pages = tmp_path / "h.sqlite", time.time(), [1 << 30]

    class Small(History):
        def _write(self, db: sqlite3.Connection, batch: list) -> None:
            db.execute(f"PRAGMA max_page_count = {most_pages[0]}")  # beyond it, "database or disk is full"
            super()._write(db, batch)

    history = Small(path, 1.0, 1 << 30)
    history.add([row("before", now_s)])
    until(lambda: path.exists() and path.stat().st_size and list(read_rows(path, RowFilter())))
    most_pages[0] = 1
    history.add([row("lost", now_s, code="x" * 100_000)])
    until(lambda: "full" in history.trouble)
    most_pages[0] = 1 << 30
    time.sleep(0.1)
    history.add([row("after", now_s)])
    history.close()
    assert [each.id for each in read_rows(path, RowFilter())] == ["before", "after"]


def test_a_broken_file_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    path.write_bytes(b"this is no database, whatever its name says" * 200)
    with pytest.raises(StoreError, match="not a database"):
        list(read_rows(path, RowFilter()))
    history = History(path, 1.0, 1 << 30)
    until(lambda: list(tmp_path.glob("h.sqlite.broken-*")))
    until(lambda: not history.trouble)
    history.add([row("a", time.time())])
    history.close()
    assert [each.id for each in read_rows(path, RowFilter())] == ["a"]


def test_a_newer_programs_history_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    history = History(path, 1.0, 1 << 30)
    until(lambda: "newer Freehold" in history.trouble)
    history.close()
    assert not list(tmp_path.glob("*.broken-*"))


def test_no_history_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no history"):
        list(read_slots(tmp_path / "none.sqlite"))


def test_watts_come_from_energy_counters(tmp_path: Path) -> None:
    clock = VirtualClock()
    for package, uj in (("intel-rapl:0", 5_000_000), ("intel-rapl:1", 9_000_000), ("intel-rapl:0:0", 1)):
        (tmp_path / package).mkdir()
        (tmp_path / package / "energy_uj").write_text(str(uj))
        (tmp_path / package / "max_energy_range_uj").write_text("10000000")
    meter = Rapl(tmp_path, clock)
    clock.sleep(2.0)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("25000000")
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("1000000")  # it began anew at 10 J
    assert meter.watts() == pytest.approx((20 + 2) / 2)
    assert Rapl(tmp_path / "none").watts() is None


def test_a_machine_without_a_gpu_tells_none() -> None:
    assert isinstance(Gpus().read(), tuple)
    meters = Meters()
    meters.look()
    assert all(0.0 <= gpu.memory_busy <= 1.0 for gpu in meters.gpus)
