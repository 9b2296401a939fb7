"""Workers of both stores really killed while they claim, checkpoint and finish; a Redis killed while it accepts."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from freehold.core import Request
from freehold.errors import StoreError
from freehold.ledger.open import open_ledger
from freehold.ledger.protocol import Claim, Ledger
from redis_server import running

TOKENS = 12
REQUESTS = 80
KILLS = 14

WORKER = """
import sys, time
from freehold.core import Chunk, Result, Usage
from freehold.ledger.open import open_ledger
from freehold.ledger.protocol import Ended, Progress
store, owner, tokens = sys.argv[1], sys.argv[2], int(sys.argv[3])
ledger = open_ledger(store)
print("up", flush=True)
running = {}
while True:
    for claim in ledger.claim(owner, 4 - len(running), "m"):
        running[claim.request.id] = (claim.attempt, sum(chunk.tokens for chunk in claim.given))
    parts, ends = [], []
    for id, (attempt, done) in running.items():
        chunk = Chunk(id, 0, done, 1, f"{done} ")
        if done == tokens - 1:
            chunk.finish, chunk.usage = "stop", Usage(completion_tokens=tokens)
            ends.append(Ended(id, attempt, Result(usage=chunk.usage, worker=owner), [chunk]))
        else:
            parts.append(Progress(id, attempt, [chunk]))
        running[id] = (attempt, done + 1)
    assert all(ledger.checkpoint(parts)) and all(ledger.finish_all(ends))
    for end in ends:
        del running[end.id]
    time.sleep(0.002)
"""


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "ledger.sqlite")
    return f"{request.getfixturevalue('redis_server').url}?prefix=kills"


def test_workers_killed_at_random_lose_and_repeat_nothing(store: str) -> None:
    chance = random.Random(3)
    ledger = open_ledger(store, fsync="always")
    ledger.accept([Request(id=f"r{i}", model="m", kind="text", prompt="p") for i in range(REQUESTS)])
    lives = 0

    def start() -> tuple[str, subprocess.Popen[str]]:
        nonlocal lives
        lives += 1
        owner = f"worker:{lives}"
        command = [sys.executable, "-c", WORKER, store, owner, str(TOKENS)]
        return owner, subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    workers = [start(), start()]
    for _ in range(KILLS):
        for _, process in workers:
            assert process.stdout is not None
            if not process.stdout.closed:
                assert process.stdout.readline() == "up\n"
                process.stdout.close()
        time.sleep(chance.uniform(0.0, 0.03))
        owner, process = workers.pop(chance.randrange(2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        ledger.abandon(owner)
        assert ledger.check_integrity() == []
        workers.append(start())
    until(lambda: ledger.depth().queued + ledger.depth().running == 0)
    for _, process in workers:
        assert process.poll() is None, "no worker was told that a claim of its own is not its own"
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    told = [ledger.progress(f"r{i}") for i in range(REQUESTS)]
    for one in told:
        assert one is not None
        assert one.result is not None
        if one.result.failure is None:
            assert "".join(chunk.text for chunk in one.chunks) == "".join(f"{i} " for i in range(TOKENS))
        else:
            assert one.result.failure.code == "poisoned"
    assert sum(one is not None and one.attempt > 1 for one in told) > 0, "nobody was killed at work"
    assert len(ledger.list_jobs("poisoned")) < REQUESTS / 4
    assert ledger.check_integrity() == []
    ledger.close()


def until(true: Callable[[], bool], longest_s: float = 60.0) -> None:
    end_s = time.monotonic() + longest_s
    while not true():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_redis_killed_while_it_accepts_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(5)
    with running(tmp_path) as server:
        ledger = open_ledger(server.url, fsync="always")
        accepted: list[str] = []
        number = refused = 0
        for _ in range(4):
            killer = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    f"import time, os; time.sleep({chance.uniform(0.05, 0.2)}); os.kill({server.pid}, 9)",
                ]
            )
            while killer.poll() is None or server.alive():
                number += 1
                try:
                    accepted += ledger.accept([Request(id=f"r{number}", model="m", kind="text", prompt="p" * 500)])
                except StoreError:
                    refused += 1
                    break
            killer.wait()
            server.wait()
            server.start()
            assert ledger.check_integrity() == []
        assert set(accepted) <= {claim.request.id for claim in drain(ledger)}
        assert len(accepted) > 20
        assert refused > 0
        ledger.close()


def drain(ledger: Ledger) -> list[Claim]:
    found: list[Claim] = []
    while claims := ledger.claim("w:1", 500, "m"):
        found += claims
    return found


def test_redis_away_is_an_error_and_back_again_nothing_is_lost(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        ledger = open_ledger(server.url, fsync="always")
        ledger.accept([Request(id="a", model="m", kind="text", prompt="p")])
        assert len(ledger.claim("w:1", 1, "m")) == 1
        server.kill()
        for call in (lambda: ledger.claim("w:1", 1, "m"), lambda: ledger.renew("w:1"), lambda: ledger.fetch("a")):
            with pytest.raises(StoreError, match="can't be reached"):
                call()
        server.start()
        ledger.renew("w:1")
        entry = ledger.fetch("a")
        assert entry is not None
        assert (entry.state, entry.worker) == ("running", "w:1")
        assert ledger.check_integrity() == []
        ledger.close()
