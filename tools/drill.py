"""Fire drill: makes each fault on a real server and waits for its alert at a real webhook receiver, and for its end.

    python tools/drill.py [FAULT ...] [--json]

The server runs `sim` with three workers, slots of half a second and rules with windows as short; everything else is as
it is in production. Exit code 1 if an alert did not come, or was not over afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx

from freehold.gateway.webhooks import signature

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105  of this drill alone
SLOT_S = 0.5
PATIENCE_S, SETTLE_S = 45.0, 3.0
RATE = 50.0  # requests a second, so that a p99 is known within two
WORKERS = 3
PROFILE = {
    "name": "drill", "model": "none", "engine": "sim", "machine": "any", "date": "2026-11-25",
    "source": "Assumed: steps of 10 ms, for fire drills.", "step": {"base_ms": 10.0}, "sweet_batch": 4, "max_batch": 4,
    "context_tokens": 8192, "max_batched_tokens": 2048, "basis": {"step": "assumed"},
}  # fmt: skip
RULES = """
rules.slo-p99-e2e = { window = "2s", for = "1s", clear_for = "1s" }
rules.slo-burn-fast = { window = "6s", short = "1s", clear_for = "1s" }
rules.queue-long = { above = 5, clear = 4, window = "500ms", for = "1s", clear_for = "1s" }
rules.load-failed = { window = "1s", clear_for = "1s" }
rules.worker-hung = { window = "1s", clear_for = "1s" }
rules.restart-loop = { window = "15s", clear_for = "1s" }
rules.cost-up = { window = "2s", for = "1s", clear_for = "1s", baseline = "15s" }
rules.runaway = { window = "1s", clear_for = "1s" }
rules.no-samples = { window = "1s", for = "500ms", clear_for = "1s" }
"""


class Receiver:
    """Takes webhooks, checks their signatures, and remembers when what was told."""

    def __init__(self) -> None:
        self.told: list[tuple[float, dict[str, Any]]] = []
        """(when, alert)."""
        self.port = 0

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
        body = await reader.readexactly(int(headers["content-length"]))
        raw = dict(line.split(": ", 1) for line in head[1:] if ": " in line)
        expected = signature(SECRET, raw["webhook-id"], int(raw["webhook-timestamp"]), body)
        good = raw["webhook-signature"] == expected["webhook-signature"]
        writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n" if good else b"HTTP/1.1 400 No\r\n\r\n")
        writer.close()
        if good:
            self.told += [(time.monotonic(), alert) for alert in json.loads(body)["data"]["alerts"]]

    async def wait(self, rule: str, state: str, since_s: float) -> dict[str, Any]:
        """The alert, with the seconds it took under `after_s`. Raises `TimeoutError`."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for at_s, alert in self.told:
                    if at_s >= since_s and alert["rule"] == rule and alert["state"] == state:
                        return {**alert, "after_s": round(at_s - since_s, 2)}
                await asyncio.sleep(0.05)

    async def calm(self, rule: str) -> None:
        """Until what an earlier fault (or a busy machine) has raised is over. Raises `TimeoutError`."""
        async with asyncio.timeout(PATIENCE_S):
            while [alert["state"] for _, alert in self.told if alert["rule"] == rule][-1:] == ["firing"]:  # noqa: ASYNC110  as above
                await asyncio.sleep(0.05)


class Drill:
    """The server under drill, its steady users, and the faults."""

    def __init__(self, folder: Path, url: str, receiver: Receiver, http: httpx.AsyncClient) -> None:
        self.profile = folder / "drill.json"
        self.url, self.receiver, self.http = url, receiver, http
        self.rate = RATE
        self.sent: set[asyncio.Task[None]] = set()

    async def steadily(self) -> None:
        """Users, for ever."""
        due_s = time.monotonic()
        while True:
            self.send(max_tokens=8)
            due_s = max(due_s + 1.0 / self.rate, time.monotonic() - 0.1)
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))

    def send(self, path: str = "/generate", **body: object) -> None:
        task = asyncio.create_task(self._ask(path, {"prompt": "Is all well?", "ignore_eos": True, **body}))
        self.sent.add(task)
        task.add_done_callback(self.sent.discard)

    async def _ask(self, path: str, body: dict[str, object]) -> None:
        with contextlib.suppress(httpx.HTTPError):
            await self.http.post(f"{self.url}{path}", json=body)

    async def pid(self, worker: str, *, not_pid: int = 0) -> int:
        """Of the worker's life now, once it is ready (and isn't that one)."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                rows = (await self.http.get(f"{self.url}/freehold/workers")).json()["workers"]
                for row in rows:
                    if row["name"] == worker and row["state"] in ("ready", "busy") and row["pid"] != not_pid:
                        return int(row["pid"])
                await asyncio.sleep(0.05)

    # ---- the faults: each ends by itself -------------------------------------------------------------

    async def slow_worker(self) -> None:
        """One of three stands still most of the time."""
        pid, until_s = await self.pid("worker-1"), time.monotonic() + 9.0
        while time.monotonic() < until_s:
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(1.3)  # over the SLO's second
            os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(0.4)  # to end what it has, claim more, and say what its steps took

    async def flood(self) -> None:
        for _ in range(5):
            self.send("/v1/completions", prompt=["Is all well?"] * 32, max_tokens=32)
        await asyncio.sleep(2.0)

    async def broken_model(self) -> None:
        """The model's file is damaged, and a worker has to load it."""
        good = self.profile.read_text()
        self.profile.write_text(good[:40])
        try:
            pid = await self.pid("worker-2")
            os.kill(pid, signal.SIGKILL)
            await self.receiver.wait("load-failed", "firing", time.monotonic())
        finally:
            self.profile.write_text(good)
        await self.pid("worker-2", not_pid=pid)

    async def cost_jump(self) -> None:
        """A third of the users for the same machine."""
        self.rate = RATE / 3
        await asyncio.sleep(5.0)
        self.rate = RATE

    async def runaway(self) -> None:
        self.send()
        await asyncio.sleep(1.0)

    async def stopped_worker(self) -> None:
        """It stands still and holds what it has begun."""
        pid = await self.pid("worker-3")
        os.kill(pid, signal.SIGSTOP)
        await self.pid("worker-3", not_pid=pid)

    async def all_stand_still(self) -> None:
        pids = [await self.pid(f"worker-{number + 1}") for number in range(WORKERS)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(2.5)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    async def kill_loop(self) -> None:
        pid = 0
        for _ in range(3):
            pid = await self.pid("worker-1", not_pid=pid)
            os.kill(pid, signal.SIGKILL)
        await self.pid("worker-1", not_pid=pid)


FAULTS: dict[str, tuple[Callable[[Drill], Coroutine[Any, Any, None]], tuple[str, ...]]] = {
    "slow-worker": (Drill.slow_worker, ("slo-p99-e2e",)),
    "flood": (Drill.flood, ("queue-long", "slo-burn-fast")),
    "stopped-worker": (Drill.stopped_worker, ("worker-hung",)),
    "runaway": (Drill.runaway, ("runaway",)),
    "cost-jump": (Drill.cost_jump, ("cost-up",)),
    "broken-model": (Drill.broken_model, ("load-failed",)),
    "kill-loop": (Drill.kill_loop, ("restart-loop",)),
    "stand-still": (Drill.all_stand_still, ("no-samples",)),
}
QUIET = ("slow-worker", "flood")
"""Nothing else is done until they are over: their alerts are of all requests. The others' are of one thing each."""


@contextlib.asynccontextmanager
async def serving(folder: Path, hook: str) -> AsyncIterator[str]:
    """The server's address, while it runs."""
    (folder / "drill.json").write_text(json.dumps(PROFILE))
    (folder / "rules.toml").write_text(RULES)
    settings = {
        "alerts.rules": folder / "rules.toml", "alerts.webhook": hook, "alerts.webhook_secret": SECRET,
        "observe.slo": "p99 e2e < 1s", "observe.price_per_hour_usd": 1, "observe.runaway_tokens": 60,
        "server.restart_most_s": 0.2, "server.drain_s": 1, "log.format": "json",
    }  # fmt: skip
    command = [sys.executable, "-m", "freehold", "serve", f"sim:{folder / 'drill.json'}", "--name", "drill", "--json"]
    command += ["--port", "0", "--workers", str(WORKERS)]
    command += [f"--set={name}={value}" for name, value in settings.items()]
    environ = {**os.environ, "FREEHOLD_HOME": str(folder / "home"), "FREEHOLD_SLOT_S": str(SLOT_S)}
    with (folder / "serve.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=log, env=environ
        )
        try:
            assert process.stdout is not None
            line = await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
            yield str(json.loads(line)["url"])
        finally:
            process.terminate()
            await process.wait()


async def drill(names: list[str], folder: Path) -> list[dict[str, Any]]:
    """What came of each fault."""
    receiver = Receiver()
    listening = await asyncio.start_server(receiver.take, "127.0.0.1", 0)
    hook = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/alerts"
    client = httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=None), timeout=PATIENCE_S)
    async with listening, serving(folder, hook) as url, client as http:
        one = Drill(folder, url, receiver, http)
        users = asyncio.create_task(one.steadily())
        await asyncio.sleep(SETTLE_S)
        begun: list[asyncio.Task[list[dict[str, Any]]]] = []
        for name in names:
            done = asyncio.Event()
            begun.append(asyncio.create_task(_one(one, name, done)))
            await (begun[-1] if name in QUIET else done.wait())
        found = [told for each in begun for told in await each]
        for task in (users, *one.sent):
            task.cancel()
        await asyncio.gather(users, *one.sent, return_exceptions=True)
    return found


async def _one(drill: Drill, name: str, done: asyncio.Event) -> list[dict[str, Any]]:
    """Make the fault, and wait for its alerts and their ends. `done`: the next may begin."""
    make, rules = FAULTS[name]
    for rule in rules:
        with contextlib.suppress(TimeoutError):
            await drill.receiver.calm(rule)
    begun_s = time.monotonic()
    making = asyncio.create_task(make(drill))
    if name == "stopped-worker":  # it takes its supervisor a while to be sure
        done.set()
    found = []
    for rule in rules:
        told: dict[str, Any] = {"fault": name, "rule": rule, "fired": False, "resolved": False}
        found.append(told)
        with contextlib.suppress(TimeoutError):
            alert = await drill.receiver.wait(rule, "firing", begun_s)
            told |= {"fired": True, "after_s": alert["after_s"], "what": alert["what"], "cause": alert["cause"]}
            await making
    done.set()
    await asyncio.gather(making, return_exceptions=True)
    for told in found:
        with contextlib.suppress(TimeoutError):
            if told["fired"]:
                over = await drill.receiver.wait(told["rule"], "resolved", begun_s + told["after_s"])
                told |= {"resolved": True, "lasted_s": over["after_s"]}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"of {', '.join(FAULTS)}; all without")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave log and history there")
    asked = parser.parse_args()
    if unknown := set(asked.faults) - set(FAULTS):
        parser.error(f"there is no fault {', '.join(unknown)}; there are {', '.join(FAULTS)}")
    if asked.keep:
        asked.keep.mkdir(parents=True)
    with contextlib.nullcontext(asked.keep) if asked.keep else tempfile.TemporaryDirectory(prefix="drill-") as folder:
        found = asyncio.run(drill(asked.faults or list(FAULTS), Path(folder)))
    for each in found:
        if each["resolved"]:
            when = f"told after {each['after_s']:.1f} s, over {each['lasted_s']:.1f} s later"
            told = f"{when}. {each['what']} {each['cause']}"
        else:
            told = "is never over" if each["fired"] else "was not told"
        print(f"{each['fault']:15} {each['rule']:14} {told}")
    if asked.json:
        print(json.dumps({"drills": found}))
    return 0 if all(each["resolved"] for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
