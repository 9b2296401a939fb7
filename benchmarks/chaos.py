"""Are accepted requests finished, and told exactly once, while everything is killed?

A real `freehold serve sim:...` with several workers under an open-loop load of chat and text streams, responses, JSON
schemas, background responses and cancels, greedy and seeded. First undisturbed: what each request is answered with, and the
ceiling. Then again while gateway, workers and Redis are killed at random, stopped and continued, the disk is full for
seconds and clients cut their own connections. Every client keeps a journal, resumes by Last-Event-ID and sends an
unanswered request again under its key. At the end journals, undisturbed answers and the ledger must agree.

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

import httpx
import msgspec
import psutil

from freehold.ledger.open import open_ledger
from freehold.loadtest.interrupted import BUSY, Ask, Journal, read
from freehold.profile import Profile, StepLaw, save
from report import Claim, finish
from storm import Redis, Storm

WORKERS = 4
RATE = 10.0
"""Requests a second."""
PATIENCE_S = 60.0
"""After the storm every request must have ended within this."""
PROFILE = Profile(
    name="steady", model="none", engine="sim", machine="any", date="2026-11-25", source="Assumed: 8 ms a step.",
    step=StepLaw(base_ms=8.0), sweet_batch=32, max_batch=32, context_tokens=4096, max_batched_tokens=1 << 20,
    basis={"step.base_ms": "assumed"},
)  # fmt: skip
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "count": {"type": "integer"}, "tags": {"type": "array", "items": {"type": "string"}}},
    "required": ["name", "count", "tags"],
    "additionalProperties": False,
}  # fmt: skip


class Case(msgspec.Struct, frozen=True):
    """One kind of request with what it asks. `deed`: stream, background, cancel (a background one), vanish."""

    name: str
    deed: str
    path: str
    body: dict[str, Any]


class Outcome(msgspec.Struct):
    """One request of a run."""

    case: Case
    journal: Journal
    begun_s: float
    end_s: float = 0.0
    cuts: int = 0
    state: str = ""
    """Of background responses: as the server tells it at last."""


def cases() -> list[Case]:
    found = []
    for i in range(10):
        long = {
            "max_tokens": 24 + 5 * i,
            "ignore_eos": True,
            "seed": i,
            "temperature": (0.0, 1.0)[i % 2],
            "stream": True,
        }
        words = [{"role": "user", "content": f"Tell me of harbour {i}."}]
        asked = {"input": f"Tell me of river {i}.", "max_output_tokens": 24 + 5 * i, "ignore_eos": True, "seed": i}
        schema = {"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA}}
        json_body = {"messages": words, "seed": i, "stream": True, "response_format": schema, "max_tokens": 300}
        chat = "/v1/chat/completions"
        found += [
            Case(f"chat {i}", "stream", chat, {"messages": words, **long}),
            Case(f"text {i}", "stream", "/v1/completions", {"prompt": f"The harbour {i}", **long}),
            Case(f"response {i}", "stream", "/v1/responses", {**asked, "stream": True}),
            Case(f"json {i}", "stream", chat, json_body),
            Case(f"background {i}", "background", "/v1/responses", {**asked, "background": True}),
        ]
    found += [Case("cancel", "cancel", "/v1/responses", found[-1].body), Case("vanish", "vanish", chat, found[-5].body)]
    return found


# ---- the server --------------------------------------------------------------------------------------


@contextmanager
def served(folder: Path, redis: Redis | None) -> Iterator[tuple[str, psutil.Process]]:
    """A server's address and its supervisor. Its log goes through a pipe: a file would be hit by the full disk."""
    save(PROFILE, folder / "steady.json")
    store = ["--set", f"store.url={redis.url}"] if redis else ["--set", f"store.path={folder / 'ledger.sqlite'}"]
    command = [
        sys.executable,
        "-m",
        "freehold",
        "serve",
        f"sim:{folder / 'steady.json'}",
        "--name",
        "sim",
        "--port",
        "0",
    ]
    command += ["--workers", str(WORKERS), "--json", "--set", "server.restart_most_s=0.5", *store]
    environ = {**os.environ, "FREEHOLD_HOME": str(folder / "home")}
    process = subprocess.Popen(
        command, env=environ, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    lines: list[str] = []
    threading.Thread(target=_drain, args=(process.stderr, folder / "serve.log"), daemon=True).start()
    told = json.loads(process.stdout.readline() or "{}")
    if told.get("state") != "serving":
        raise SystemExit(f"The server didn't start: {told}; --keep FOLDER keeps its log.")
    threading.Thread(target=process.stdout.read, daemon=True).start()
    try:
        yield told["url"], psutil.Process(process.pid)
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise SystemExit(f"The server ended with exit code {process.returncode}; --keep FOLDER keeps its log.")


def _drain(stream: Any, path: Path) -> None:
    with path.open("a", encoding="utf-8") as log:
        for line in stream:
            log.write(line)
            log.flush()


# ---- one client --------------------------------------------------------------------------------------


class Clients:
    """Open-loop: each request is sent when its time has come, whatever became of those before."""

    def __init__(self, url: str, seed: int, disturbed: bool) -> None:
        self.outcomes: list[Outcome] = []
        self.until_s = time.monotonic() + 86_400
        self._seed = seed
        self._random = random.Random(seed)
        self._disturbed = disturbed
        self._tasks: set[asyncio.Task[None]] = set()
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        self._http = httpx.AsyncClient(base_url=url, timeout=httpx.Timeout(30.0), limits=limits, trust_env=False)

    def send(self, case: Case) -> None:
        number = len(self.outcomes)
        outcome = Outcome(case, Journal(), time.monotonic())
        self.outcomes.append(outcome)
        self._tasks.add(asyncio.create_task(self._one(outcome, number)))

    async def all_ended(self) -> None:
        self.until_s = time.monotonic() + PATIENCE_S
        await asyncio.wait(self._tasks, timeout=PATIENCE_S + 30)
        for task in self._tasks:
            if task.done():
                task.result()
        await self._http.aclose()

    async def _one(self, outcome: Outcome, number: int) -> None:
        case = outcome.case
        ask = Ask(case.path, case.body, f"{self._seed}-{number}")
        if case.deed == "stream":
            while not outcome.journal.over and time.monotonic() < self.until_s:
                await read(self._http, ask, outcome.journal, until_s=time.monotonic() + 5.0, cut=self._cutter(outcome))
        elif case.deed == "vanish":
            await self._vanish(outcome, ask)
        else:
            await self._background(outcome, ask)
        outcome.end_s = time.monotonic()

    def _cutter(self, outcome: Outcome) -> Any:
        """Once in a while a client cuts its own connection after a few events, and comes back."""
        if not self._disturbed or self._random.random() > 0.25:
            return lambda journal: False
        left = [self._random.randint(1, 30)]

        def cut(journal: Journal) -> bool:
            left[0] -= 1
            if left[0] == 0:
                outcome.cuts += 1
                return True
            return False

        return cut

    async def _vanish(self, outcome: Outcome, ask: Ask) -> None:
        """Reads some events, and leaves for good."""
        left = [self._random.randint(2, 20)]

        def cut(journal: Journal) -> bool:
            left[0] -= 1
            return left[0] <= 0

        await read(self._http, msgspec.structs.replace(ask, resumable_s=0.0), outcome.journal, until_s=self.until_s, cut=cut, again=False)  # fmt: skip

    async def _background(self, outcome: Outcome, ask: Ask) -> None:
        told = await self._until_told("POST", ask.path, outcome, ask.body, ask.headers(""))
        if told is None:
            return
        outcome.journal.last_id = f"{told['id']}/"
        path = f"/v1/responses/{told['id']}"
        if outcome.case.deed == "cancel":
            await asyncio.sleep(self._random.uniform(0.0, 0.5))
            await self._until_told("POST", f"{path}/cancel", outcome, {}, {}, (200, 400, 409))
        while time.monotonic() < self.until_s:
            told = await self._until_told("GET", path, outcome, None, {})
            if told is None:
                return
            if told["status"] not in ("queued", "in_progress"):
                break
            await asyncio.sleep(0.25)
        assert told is not None
        outcome.state = told["status"]
        texts = [part["text"] for item in told["output"] for part in item.get("content") or () if "text" in part]
        outcome.journal.text, outcome.journal.done = "".join(texts), True
        outcome.journal.finish = told["status"]
        if told["status"] == "failed":
            outcome.journal.failure = str((told.get("error") or {}).get("code"))

    async def _until_told(
        self,
        method: str,
        path: str,
        outcome: Outcome,
        body: Any,
        headers: dict[str, str],
        good: tuple[int, ...] = (200,),
    ) -> dict[str, Any] | None:
        """The JSON of the reply, tried again until it comes. None when time is over or the server says no."""
        journal = outcome.journal
        while time.monotonic() < self.until_s:
            journal.connections += 1
            try:
                reply = await self._http.request(method, path, json=body, headers=headers)
            except httpx.TransportError:
                await asyncio.sleep(0.2)
                continue
            if reply.status_code in good:
                found: dict[str, Any] = reply.json()
                return found
            if reply.status_code not in BUSY:
                journal.failure = f"status {reply.status_code}: {reply.text[:300]}"
                return None
            journal.refusals += 1
            await asyncio.sleep(0.2)
        return None


# ---- the two runs ------------------------------------------------------------------------------------


async def undisturbed(url: str, seed: int, rounds: int) -> list[Outcome]:
    clients = Clients(url, seed, disturbed=False)
    for case in [case for case in cases() if case.deed in ("stream", "background")] * rounds:
        clients.send(case)
        await asyncio.sleep(1 / RATE)
    await clients.all_ended()
    return clients.outcomes


async def disturbed(url: str, seed: int, kills: int, storm: Storm) -> tuple[list[Outcome], float]:
    clients = Clients(url, seed + 1, disturbed=True)
    choose = random.Random(seed + 2)
    watching = asyncio.create_task(storm.watch_memory())
    blowing = asyncio.create_task(storm.blow(kills))
    begun_s = time.monotonic()
    every = cases()
    weights = [10.0 if case.deed in ("cancel", "vanish") else 1.5 for case in every]
    while not blowing.done():
        clients.send(choose.choices(every, weights)[0])
        await asyncio.sleep(choose.expovariate(RATE))
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
    for number, outcome in enumerate(outcomes):
        case, journal = outcome.case, outcome.journal
        where = f"{number} {case.name} {journal.id} ({journal.connections} connections)"
        found.counts[case.deed] += 1
        found.counts["cuts"] += outcome.cuts
        found.counts["refusals"] += journal.refusals
        found.counts["resumed"] += case.deed == "stream" and journal.connections > 1
        entry = ledger.get(journal.id)
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
        if entry is not None and journal.whole and entry.result is not None:
            if entry.result.cancelled != (outcome.state == "cancelled"):
                found.wrong_states.append(f"{where}: told {outcome.state or 'whole'}, the ledger has {entry.result}")
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="25 kills")
    parser.add_argument("--store", choices=("sqlite", "redis"), default="sqlite")
    parser.add_argument("--kills", type=int, default=1000, help="processes to kill")
    parser.add_argument("--every", type=float, default=0.6, help="mean seconds between two deeds")
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
    with served(folder, redis) as (url, server):
        calm = asyncio.run(undisturbed(url, given.seed, 1 if given.quick else 3))
        journals = {outcome.case.name: outcome.journal for outcome in calm}
        for outcome in calm:
            assert outcome.journal.whole, f"undisturbed, {outcome.case.name} failed: {outcome.journal}"
            assert not outcome.journal.differs(journals[outcome.case.name]), outcome
        p50_s, p99_s = waits_s(calm)
        print(f"undisturbed (the ceiling): {len(calm)} requests, {tokens_per_s(calm, journals):,.0f} tokens/s streamed, "
              f"whole after p50 {p50_s:.2f} s, p99 {p99_s:.2f} s", flush=True)  # fmt: skip
        storm = Storm(server, given.seed, given.every, redis, say=not given.quick)
        outcomes, storm_s = asyncio.run(disturbed(url, given.seed, kills, storm))
    if redis is not None and not redis.answers():
        redis.start()
    entries, wrong = examine(store)
    found = judge(outcomes, journals, entries)
    found.wrong_states += wrong
    p50_s, p99_s = waits_s(outcomes)
    print(f"disturbed: {len(outcomes)} requests, {tokens_per_s(outcomes, journals):,.0f} tokens/s streamed, "
          f"whole after p50 {p50_s:.2f} s, p99 {p99_s:.2f} s")  # fmt: skip
    print(
        f"in {storm_s:.0f} s, seed {given.seed}: "
        + ", ".join(f"{name} {n}" for name, n in sorted(storm.counts.items()))
    )
    print(
        "requests: " + ", ".join(f"{name} {n}" for name, n in sorted(found.counts.items())),
        f", poisoned {found.poisoned}",
    )
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
