"""Are accepted requests finished, and told exactly once, while everything is killed?

A real `freehold serve sim:...` with several workers under an open-loop load of chat and text streams, responses, JSON
schemas, background responses and cancels, greedy and seeded. First undisturbed: what each request is answered with, and
the ceiling. Then again while gateway, workers and Redis are killed at random, stopped and continued, the disk is full
for seconds (with SQLite) and clients cut their own connections. Every client keeps a journal, resumes by Last-Event-ID
and sends an unanswered request again under its key. At the end journals, undisturbed answers and the ledger must agree.

    python benchmarks/chaos.py [--quick] [--store sqlite|redis] [--kills N] [--seed S]

The last line of standard output is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import psutil

from clients import PATIENCE_S, Clients, Outcome, cases
from freehold.ledger.open import open_ledger
from freehold.loadtest.interrupted import Journal
from freehold.profile import Profile, StepLaw, save
from report import Claim, finish
from storm import Redis, Storm

WORKERS = 4
RATE = 10.0  # requests a second
PROFILE = Profile(
    name="steady", model="none", engine="sim", machine="any", date="2026-11-25", source="Assumed: 8 ms a step.",
    step=StepLaw(base_ms=8.0), sweet_batch=32, max_batch=32, context_tokens=4096, max_batched_tokens=1 << 20,
    basis={"step.base_ms": "assumed"},
)  # fmt: skip


@contextmanager
def served(folder: Path, redis: Redis | None) -> Iterator[tuple[str, psutil.Process, dict[str, float]]]:
    """A server's address, its supervisor, and who said when that it is ready. Its log goes through a pipe: a file would
    be hit by the full disk."""
    save(PROFILE, folder / "steady.json")
    store = ["--set", f"store.url={redis.url}"] if redis else ["--set", f"store.path={folder / 'ledger.sqlite'}"]
    profile = f"sim:{folder / 'steady.json'}"
    command = [sys.executable, "-m", "freehold", "serve", profile, "--name", "sim", "--port", "0"]
    command += ["--workers", str(WORKERS), "--json", "--set", "server.restart_most_s=0.5", *store]
    environ = {**os.environ, "FREEHOLD_HOME": str(folder / "home")}
    process = subprocess.Popen(
        command, env=environ, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    ready: dict[str, float] = {}
    threading.Thread(target=_drain, args=(process.stderr, folder / "serve.log", ready), daemon=True).start()
    told = json.loads(process.stdout.readline() or "{}")
    if told.get("state") != "serving":
        raise SystemExit(f"The server didn't start: {told}; --keep FOLDER keeps its log.")
    threading.Thread(target=process.stdout.read, daemon=True).start()
    try:
        yield told["url"], psutil.Process(process.pid), ready
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise SystemExit(f"The server ended with exit code {process.returncode}; --keep FOLDER keeps its log.")


def _drain(stream: Any, path: Path, ready: dict[str, float]) -> None:
    with path.open("a", encoding="utf-8") as log:
        for line in stream:
            log.write(line)
            log.flush()
            if '.ready"' in line and line.startswith("{"):
                said = json.loads(line)
                ready[said.get("worker") or said.get("process")] = time.time()


# ---- the two runs ------------------------------------------------------------------------------------


async def undisturbed(url: str, seed: int, rounds: int) -> list[Outcome]:
    clients = Clients(url, seed, disturbed=False)
    for case in [case for case in cases() if case.deed in ("stream", "background")] * rounds:
        clients.send(case)
        await asyncio.sleep(1 / RATE)
    await clients.all_ended()
    return clients.outcomes


async def disturbed(url: str, kills: int, given: argparse.Namespace, storm: Storm) -> tuple[list[Outcome], float]:
    clients = Clients(url, given.seed + 1, disturbed=True)
    choose = random.Random(given.seed + 2)
    watching = asyncio.create_task(storm.watch_memory())
    blowing = asyncio.create_task(storm.blow(kills, given.most_s))
    begun_s = time.monotonic()
    every = cases()
    weights = [10.0 if case.deed in ("cancel", "vanish") else 1.5 for case in every]
    while not blowing.done() and storm.server_lives:
        clients.send(choose.choices(every, weights)[0])
        await asyncio.sleep(choose.expovariate(RATE))
    if not storm.server_lives:
        raise SystemExit(f"The server ended after {storm.kills} kills; --keep FOLDER keeps its log.")
    blowing.result()
    storm_s = time.monotonic() - begun_s
    await clients.all_ended()
    await asyncio.sleep(3.0)  # what nobody waits for ends too
    watching.cancel()
    return clients.outcomes, storm_s


# ---- what came of it ---------------------------------------------------------------------------------


class Findings(msgspec.Struct):
    lost: list[str] = []
    wrong_tokens: list[str] = []
    wrong_states: list[str] = []
    poisoned: int = 0
    counts: Counter[str] = msgspec.field(default_factory=Counter)


def judge(outcomes: list[Outcome], calm: dict[str, Journal], ledger: dict[str, Any]) -> Findings:
    found = Findings()
    by_key = {entry.request.idempotency_key: entry for entry in ledger.values()}
    for number, outcome in enumerate(outcomes):
        case, journal = outcome.case, outcome.journal
        where = f"{number} {case.name} {journal.id} ({journal.connections} connections)"
        found.counts[case.deed] += 1
        found.counts["cuts"] += outcome.cuts
        found.counts["refusals"] += journal.refusals
        found.counts["resumed"] += case.deed == "stream" and journal.connections > 1
        entry = ledger.get(journal.id) or by_key.get(outcome.key)  # poisoned before its first token, it has told no id
        if is_poison(entry) and journal.failure:
            found.poisoned += 1
        elif case.deed == "vanish":
            whole = calm["chat 9"].text
            if not whole.startswith(journal.text):
                found.wrong_tokens.append(f"{where}: {journal.text!r}")
        elif case.deed == "cancel" and outcome.state == "cancelled":
            found.counts["cancelled"] += 1
        elif not journal.whole:
            found.lost.append(f"{where}: {journal.failure or 'never ended'}")
        elif differences := journal.differs(calm["background 9" if case.deed == "cancel" else case.name]):
            found.wrong_tokens.append(f"{where}: {'; '.join(differences)}")
        if case.name.startswith("json") and journal.whole and not isinstance(json.loads(journal.text), dict):
            found.wrong_states.append(f"{where}: no JSON object")
        if entry is not None and journal.whole and (entry.result is None or entry.result.failure is not None):
            found.wrong_states.append(f"{where}: told whole, but the ledger has {entry.state} {entry.result}")
        result = entry.result if entry is not None and journal.whole else None
        if result is not None and result.cancelled != (outcome.state == "cancelled"):
            found.wrong_states.append(f"{where}: told {outcome.state or 'whole'}, the ledger has {result}")
    return found


def is_poison(entry: Any) -> bool:
    """It ended with the error that says so, and three of its workers had died."""
    failure = entry.result.failure if entry is not None and entry.result is not None else None
    return failure is not None and failure.code == "poisoned" and entry.deaths >= 3


def examine(store: str) -> tuple[dict[str, Any], list[str]]:
    """All entries of the ledger, and what is wrong with it."""
    ledger = open_ledger(store)
    entries: dict[str, Any] = {}
    after: str | None = None
    while page := ledger.list_jobs(limit=500, after=after):
        entries |= {entry.request.id: entry for entry in page}
        after = page[-1].request.id
    wrong = ledger.check_integrity()
    wrong += [f"{id} is {entry.state} at the end" for id, entry in entries.items() if entry.state != "done"]
    wrong += [
        f"{id} ended with {entry.result.failure.code}"
        for id, entry in entries.items()
        if entry.result is not None and entry.result.failure is not None and not is_poison(entry)
    ]
    ledger.close()
    return entries, wrong


def tokens_per_s(outcomes: list[Outcome], calm: dict[str, Journal]) -> float:
    """Tokens of whole answers over the time from first request to last end."""
    whole = [outcome for outcome in outcomes if outcome.journal.whole and outcome.case.name in calm]
    tokens = sum(max(outcome.journal.places, default=0) for outcome in whole)
    return tokens / (max(each.end_s for each in whole) - min(each.begun_s for each in whole))


def waits_s(outcomes: list[Outcome]) -> tuple[float, float]:
    """From sending to the end of a whole stream: median and 99th percentile."""
    took = sorted(each.end_s - each.begun_s for each in outcomes if each.journal.whole and each.case.deed == "stream")
    return took[len(took) // 2], took[int(0.99 * (len(took) - 1))]


def told(outcomes: list[Outcome], calm: dict[str, Journal]) -> str:
    p50_s, p99_s = waits_s(outcomes)
    speed = f"{len(outcomes)} requests, {tokens_per_s(outcomes, calm):,.0f} tokens/s streamed"
    return f"{speed}, whole after p50 {p50_s:.2f} s, p99 {p99_s:.2f} s"


def slowest(outcomes: list[Outcome], begun_s: float) -> str:
    """Of whole streams, with when they began: where to look in the server's log."""
    whole = [each for each in outcomes if each.journal.whole and each.case.deed == "stream"]
    late = sorted(whole, key=lambda each: each.begun_s - each.end_s)[:5]
    return ", ".join(
        f"{each.end_s - each.begun_s:.1f} s ({each.journal.id} at {each.begun_s - begun_s:.0f} s)" for each in late
    )


def listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="25 kills")
    parser.add_argument("--store", choices=("sqlite", "redis"), default="sqlite")
    parser.add_argument("--kills", type=int, default=1000, help="processes to kill")
    parser.add_argument("--every", type=float, default=0.6, help="mean seconds between two deeds")
    parser.add_argument(
        "--most-s", type=float, default=float("inf"), help="end the storm then, however few were killed"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", help="folder in which the server's log and ledger are left")
    given = parser.parse_args()
    kills = 25 if given.quick else given.kills
    with TemporaryDirectory() as temporary:
        folder = Path(given.keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        redis = Redis(folder) if given.store == "redis" else None
        try:
            return run(folder, redis, kills, given)
        finally:
            if redis is not None:
                redis.kill()


def run(folder: Path, redis: Redis | None, kills: int, given: argparse.Namespace) -> int:
    store = redis.url if redis else str(folder / "ledger.sqlite")
    while redis is not None and not redis.answers():
        time.sleep(0.05)
    with served(folder, redis) as (url, server, ready):
        calm = asyncio.run(undisturbed(url, given.seed, 1 if given.quick else 3))
        journals = {outcome.case.name: outcome.journal for outcome in calm}
        for outcome in calm:
            assert outcome.journal.whole, f"undisturbed, {outcome.case.name} failed: {outcome.journal}"
            assert not outcome.journal.differs(journals[outcome.case.name]), outcome
        print(f"undisturbed (the ceiling): {told(calm, journals)}", flush=True)
        storm = Storm(server, given.seed, given.every, redis, say=not given.quick, ready=ready)
        outcomes, storm_s = asyncio.run(disturbed(url, kills, given, storm))
    if redis is not None and not redis.answers():
        redis.start()
    entries, wrong = examine(store)
    found = judge(outcomes, journals, entries)
    found.wrong_states += wrong
    print(f"disturbed: {told(outcomes, journals)}")
    print(f"in {storm_s:.0f} s, seed {given.seed}: {listed(storm.counts)}")
    print(f"requests: {listed(found.counts)}, poisoned {found.poisoned}")
    print(f"slowest: {slowest(outcomes, outcomes[0].begun_s)}")
    for kind, words in (("lost", found.lost), ("tokens", found.wrong_tokens), ("state", found.wrong_states)):
        for text in words[:15]:
            print(f"  {kind}: {text}")
    claims = [
        Claim("processes killed", storm.kills, ">=", kills),
        Claim("accepted requests lost", len(found.lost), "<=", 0),
        Claim("answers with tokens lost or doubled", len(found.wrong_tokens), "<=", 0),
        Claim("wrong final states", len(found.wrong_states), "<=", 0),
        Claim(
            "ended as poison, after three of its workers were killed, share", found.poisoned / len(outcomes), "<=", 0.01
        ),
    ]
    for who in ("supervisor", "gateway"):
        early, late = storm.growth(who)
        print(f"memory of {who}: {early:.1f} MiB, at the end {late:.1f} MiB")
        claims.append(Claim(f"{who} memory, end over early", late / early, "<=", 1.1))
    return finish(f"chaos-{given.store}", claims)


if __name__ == "__main__":
    sys.exit(main())
