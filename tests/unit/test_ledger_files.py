"""What happens to the ledger's file: damage, full disks, foreign files, newer schemas, kills, and what survives."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from freehold.core import Answer, Chunk, Request, Result
from freehold.errors import StoreError
from freehold.ledger import statements
from freehold.ledger.protocol import Progress
from freehold.ledger.sqlite import SqliteLedger


def request(id: str, prompt: str = "hello") -> Request:
    return Request(id=id, model="m", kind="text", prompt=prompt)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def run(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=60, check=False)


def test_what_was_accepted_is_in_the_files_alone(path: Path, tmp_path: Path) -> None:
    """After a power cut there are the database and its log, no shared memory and no orderly close."""
    ledger = SqliteLedger(path)
    ledger.accept([request("a"), request("b")])
    copy = tmp_path / "after.sqlite"
    shutil.copy(path, copy)
    shutil.copy(f"{path}-wal", f"{copy}-wal")
    ledger.close()
    after = SqliteLedger(copy)
    assert after.depth().queued == 2
    assert after.check_integrity() == []
    after.close()


def test_accepted_before_a_kill_is_there_after_it(path: Path) -> None:
    code = (
        "import sys, os, signal; from freehold.core import Request; from freehold.ledger.sqlite import SqliteLedger\n"
        "ledger = SqliteLedger(sys.argv[1])\n"
        "for i in range(50):\n"
        "    ledger.accept([Request(id=f'r{i}', model='m', kind='text', prompt='x' * 5000)]); "
        "    print(f'r{i}', flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = run(code, str(path))
    assert done.returncode == -signal.SIGKILL
    ledger = SqliteLedger(path)
    assert [claim.request.id for claim in ledger.claim("w:1", 100, "m")] == done.stdout.split()
    assert ledger.check_integrity() == []
    ledger.close()


def test_the_file_is_private(path: Path) -> None:
    ledger = SqliteLedger(path)
    ledger.accept([request("a")])
    assert path.stat().st_mode & 0o077 == 0
    assert Path(f"{path}-wal").stat().st_mode & 0o077 == 0
    ledger.close()


def test_content_that_is_not_kept_leaves_the_file(path: Path) -> None:
    ledger = SqliteLedger(path)
    ledger.accept([request("a", prompt="a-very-private-prompt")])
    (claim,) = ledger.claim("w:1", 1, "m")
    assert ledger.checkpoint([Progress("a", claim.attempt, [Chunk("a", 0, 0, 1, "a-very-private-answer")])]) == [True]
    assert ledger.finish("a", claim.attempt, Result())
    ledger.delivered(["a"])
    ledger.close()
    assert b"a-very-private" not in path.read_bytes()


@pytest.mark.parametrize(
    ("content", "words"), [(b"not a database at all " * 400, "damaged"), (b"\0" * 8192, "damaged")]
)
def test_a_file_that_is_no_database(path: Path, content: bytes, words: str) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreError, match=words):
        SqliteLedger(path)


def test_a_database_of_another_program(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE bookmarks (url TEXT)")
    other.close()
    with pytest.raises(StoreError, match="not a Freehold ledger"):
        SqliteLedger(path)


def test_damage_in_the_middle_is_found(path: Path) -> None:
    ledger = SqliteLedger(path)
    ledger.accept([request(f"r{i}", "y" * 3000) for i in range(200)])
    ledger.close()
    with path.open("r+b") as file:
        for page in range(6, 40):
            file.seek(page * 4096)
            file.write(os.urandom(4096))
    ledger = SqliteLedger(path)
    assert ledger.check_integrity()
    with pytest.raises(StoreError, match="damaged"):
        ledger.claim("w:1", 200, "m")
    ledger.close()


def test_a_newer_schema_is_left_alone(path: Path) -> None:
    SqliteLedger(path).close()
    newer = sqlite3.connect(path)
    newer.execute(f"PRAGMA user_version = {statements.newest() + 1}")
    newer.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="newer Freehold"):
        SqliteLedger(path)
    assert path.read_bytes() == before


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        SqliteLedger(tmp_path / "nowhere" / "ledger.sqlite")


def test_a_folder_in_the_file_s_place(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="Can't use the ledger"):
        SqliteLedger(tmp_path)


def test_a_file_this_user_cannot_write() -> None:
    """Tried as an ordinary user: for root every file is writable."""
    code = (
        "import os, sys\nfrom freehold.core import Request\nfrom freehold.errors import StoreError\n"
        "from freehold.ledger.sqlite import SqliteLedger\n"
        "SqliteLedger(sys.argv[1]).close()\nos.chmod(sys.argv[1], 0o444)\n"
        "os.getuid() or os.setuid(65534)\n"
        "try:\n    SqliteLedger(sys.argv[1]).accept([Request(id='a', model='m', kind='text')])\n"
        "except StoreError as error:\n    print(error)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        done = run(code, str(Path(folder) / "ledger.sqlite"))
    assert "written by this user" in done.stdout, done


def test_a_full_disk_refuses_and_loses_nothing(path: Path) -> None:
    ledger = SqliteLedger(path)
    ledger.accept([request("before")])
    (pages,) = ledger._tables.db.execute("PRAGMA page_count").fetchone()
    ledger._tables.db.execute(f"PRAGMA max_page_count = {pages + 4}")
    with pytest.raises(StoreError, match="disk is full"):
        ledger.accept([request("big", "z" * 200_000)])
    assert ledger.fetch("big") is None
    ledger._tables.db.execute("PRAGMA max_page_count = 1000000")
    ledger.accept([request("big", "z" * 200_000)])
    assert [claim.request.id for claim in ledger.claim("w:1", 9, "m")] == ["before", "big"]
    assert ledger.check_integrity() == []
    ledger.close()


def test_a_file_size_limit_is_a_clear_error_too(path: Path) -> None:
    code = (
        "import resource, sys\nfrom freehold.core import Request\nfrom freehold.errors import StoreError\n"
        "from freehold.ledger.sqlite import SqliteLedger\n"
        "ledger = SqliteLedger(sys.argv[1])\nledger.accept([Request(id='a', model='m', kind='text')])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))\n"
        "try:\n    ledger.accept([Request(id='b', model='m', kind='text', prompt='x' * 900_000)])\n"
        "except StoreError as error:\n    print(error)\n"
        "print([claim.request.id for claim in ledger.claim('w:1', 9, 'm')], ledger.check_integrity())\n"
    )
    done = run(code, str(path))
    assert "limit of a file's size" in done.stdout, done
    assert "['a'] []" in done.stdout, done


def test_a_lock_held_too_long_is_a_clear_error(path: Path) -> None:
    ledger = SqliteLedger(path, busy_timeout_s=0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        ledger.accept([request("a")])
    other.execute("ROLLBACK")
    ledger.accept([request("a")])
    other.close()
    ledger.close()


def test_a_lock_that_is_held_keeps_nobody_from_opening(path: Path) -> None:
    SqliteLedger(path).close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    SqliteLedger(path, busy_timeout_s=0.0).close()
    other.close()


def test_many_open_a_new_ledger_at_once(path: Path) -> None:
    code = (
        "import sys; from freehold.core import Request; from freehold.ledger.sqlite import SqliteLedger\n"
        "ledger = SqliteLedger(sys.argv[1])\n"
        "ledger.accept([Request(id=sys.argv[2], model='m', kind='text')])\nledger.close()"
    )
    each = [subprocess.Popen([sys.executable, "-c", code, str(path), f"r{i}"]) for i in range(4)]
    assert [process.wait(60) for process in each] == [0] * 4
    ledger = SqliteLedger(path)
    assert ledger.depth().queued == 4
    ledger.close()


def test_migrations_are_numbered_without_a_hole_and_queries_have_names() -> None:
    assert [number for number, _ in statements.migrations()] == list(range(1, statements.newest() + 1))
    assert all(sql and ";" not in sql for sql in statements.queries().values())


def test_every_query_is_used_and_every_use_is_a_query() -> None:
    import re

    folder = Path(statements.__file__).parent

    def used(files: Iterable[Path]) -> set[str]:
        source = "".join(file.read_text(encoding="utf-8") for file in files)
        return set(re.findall(r'\b_?(?:run|read)\(\s*"(\w+)"', source))

    redis = {folder / "roster.py", *folder.glob("redis*.py")}
    assert used(set(folder.glob("*.py")) - redis) == set(statements.queries())
    assert used(redis) == {file.stem for file in folder.glob("lua/*.lua")} - {"common"}


@pytest.mark.parametrize("size", [1, 3000])
def test_what_was_deleted_is_in_neither_file(path: Path, size: int) -> None:
    marker = "squirrel-in-the-attic"
    ledger, beside = SqliteLedger(path), SqliteLedger(path)
    for i in range(20):
        prompt = marker * size
        ledger.accept([Request(id=f"r{i}", model="m", kind="text", prompt=prompt, keep=i % 2 == 0)])
    for claim in ledger.claim("worker-1:1", 20, "m"):
        answers = (Answer(text=marker),) if claim.request.keep else ()
        assert ledger.finish(claim.request.id, claim.attempt, Result(answers=answers))
    ledger.delivered([f"r{i}" for i in range(20)])
    for i in range(0, 20, 2):
        assert ledger.delete(f"r{i}")
    ledger.keep_up()
    ledger.keep_up()
    for file in (path, Path(f"{path}-wal")):
        assert marker.encode() not in file.read_bytes()
    ledger.accept([request("after")])  # and the emptied log is still the one that is synced
    beside.close()
    ledger.close()
    assert marker.encode() not in path.read_bytes()
