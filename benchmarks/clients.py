"""The clients of `chaos.py`: what they ask, and how each keeps a journal, resumes, cancels or vanishes."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import httpx
import msgspec

from freehold.loadtest.interrupted import BUSY, Ask, Journal, read

PATIENCE_S = 60.0
"""After the storm every request must have ended within this."""
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "count": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "count", "tags"],
    "additionalProperties": False,
}


class Case(msgspec.Struct, frozen=True):
    """One kind of request with what it asks. `deed`: stream, background, cancel (a background one), vanish."""

    name: str
    deed: str
    path: str
    body: dict[str, Any]


class Outcome(msgspec.Struct):
    """One request of a run."""

    case: Case
    key: str
    """Its idempotency key."""
    journal: Journal
    begun_s: float
    end_s: float = 0.0
    cuts: int = 0
    state: str = ""
    """Of background responses: as the server tells it at last."""


def cases() -> list[Case]:
    found = []
    chat = "/v1/chat/completions"
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
        found += [
            Case(f"chat {i}", "stream", chat, {"messages": words, **long}),
            Case(f"text {i}", "stream", "/v1/completions", {"prompt": f"The harbour {i}", **long}),
            Case(f"response {i}", "stream", "/v1/responses", {**asked, "stream": True}),
            Case(f"json {i}", "stream", chat, json_body),
            Case(f"background {i}", "background", "/v1/responses", {**asked, "background": True}),
        ]
    found += [Case("cancel", "cancel", "/v1/responses", found[-1].body), Case("vanish", "vanish", chat, found[-5].body)]
    return found


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
        outcome = Outcome(case, f"{self._seed}-{len(self.outcomes)}", Journal(), time.monotonic())
        self.outcomes.append(outcome)
        self._tasks.add(asyncio.create_task(self._one(outcome)))

    async def all_ended(self) -> None:
        self.until_s = time.monotonic() + PATIENCE_S
        await asyncio.wait(self._tasks, timeout=PATIENCE_S + 30)
        for task in self._tasks:
            if task.done():
                task.result()
        await self._http.aclose()

    async def _one(self, outcome: Outcome) -> None:
        case = outcome.case
        ask = Ask(case.path, case.body, outcome.key)
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

        for_good = msgspec.structs.replace(ask, resumable_s=0.0)
        await read(self._http, for_good, outcome.journal, until_s=self.until_s, cut=cut, again=False)

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
            outcome.journal.failure = str(told.get("error"))

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
