"""Who is let in. Keeps what waits and runs here by model, learns how fast it goes, and asks `freehold.admission`.

A refusal touches no disk and no worker: everything it needs is in this process's memory. Told by the desk of every
request that enters, begins and leaves.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from freehold.admission import MARGIN, Ask, Limits, Line, Pace, Reason, Verdict, decide
from freehold.backlog import Backlog
from freehold.core import Chunk, Request
from freehold.errors import DeadlineUnmeetable, InvalidRequest, KeyLimited, Overloaded, RequestError, Unavailable
from freehold.gateway.auth import LOCAL, Key
from freehold.gateway.fleet import Fleet
from freehold.gateway.fleet import Line as WorkerLine
from freehold.gateway.lengths import Lengths, prompt_bytes
from freehold.gateway.pace import WorkerPace, together
from freehold.settings import ServerConfig
from freehold.telemetry.metrics import Metrics

LOOK_S = 0.02
"""What runs is summed up at most this often: it only gets less meanwhile."""
LONGEST_PROMISE_S = 600.0
LEAST_LEFT = 0.1
"""An answer longer than expected is taken to have this share of its expected length before it."""


def _anybody(tenant: str) -> Key:
    return LOCAL


class Intake:
    """The gateway's side of admission. `given(id)`: tokens of a running request so far."""

    def __init__(
        self, fleet: Fleet, server: ServerConfig, metrics: Metrics, given: Callable[[str], float],
        key_of: Callable[[str], Key] = _anybody, runaway_tokens: int = 0,
    ) -> None:  # fmt: skip
        """`runaway_tokens`: an answer without a limit of its own is stopped there at the latest; 0: no such limit."""
        self._fleet = fleet
        self._server = server
        self.metrics = metrics
        self._given = given
        self._key_of = key_of
        self._runaway_tokens = runaway_tokens
        self.lengths = Lengths()
        self.backlogs: dict[str, Backlog] = {}
        self._paces: dict[str, WorkerPace] = {}
        self._entered: dict[str, tuple[Request, Backlog, float]] = {}
        self._workers: dict[str, tuple[WorkerPace, int]] = {}
        self._of_key: Counter[str] = Counter()
        self._capped: set[str] = set()
        self._left: dict[str, tuple[float, float]] = {}

    # ---- who is let in ---------------------------------------------------------------------------

    def check_served(self, model: str = "") -> None:
        """Where nobody may wait, not even for a model that loads. Raises `Unavailable`."""
        if self._server.mode == "stateful" and not (self._fleet.crew(model) if model else self._fleet.someone_ready()):
            raise Unavailable("No worker can take the request now.", self._fleet.why_not_ready(), "Try again later.")

    def admit(self, requests: Sequence[Request], now_s: float | None = None) -> tuple[Request, ...]:
        """Let them in all together, as they are then to be accepted, or raise why not."""
        _check_count(len(requests), self._server.max_queue)
        requests = tuple(self._with_cap(request) for request in requests)
        now_s = time.monotonic() if now_s is None else now_s
        first = requests[0]
        backlog = self.backlogs.setdefault(first.model, Backlog())
        ask, pace = self._ask(requests), self._pace(first.model)
        digest = _digest(requests) if backlog.promises else b""
        promised = bool(digest) and backlog.redeem(digest, now_s)
        verdict = self._decide(ask, pace, backlog, first, now_s, promised=promised)
        if verdict.reason:
            self.metrics.refused.labels(first.model, verdict.reason).inc()
            kept = self._promise(backlog, digest or _digest(requests), ask, pace, now_s, verdict)
            raise _refusal(verdict, ask, self._server, kept=kept)
        for request in requests:
            backlog.add(request.id, self._ask([request]), pace, now_s)
            self._entered[request.id] = request, backlog, now_s
            self._of_key[request.tenant] += 1
        return requests

    def _decide(
        self, ask: Ask, pace: Pace, backlog: Backlog, first: Request, now_s: float, *, promised: bool
    ) -> Verdict:
        server = self._server
        self.check_served(first.model)
        if server.admission == "off" and server.mode != "stateful":
            waiting = sum(len(each.waiting) for each in self.backlogs.values())
            return decide(ask, Line(requests=waiting), Pace(), Limits(requests=server.max_queue))
        running_work = self._running_work(first.model, backlog, now_s)
        line = backlog.line(ask, pace, now_s, running_work, promised=promised)
        others = [each for each in self.backlogs.values() if each is not backlog]
        of_key = self._key_of(first.tenant).max_queued
        full = of_key and self._of_key[first.tenant] + ask.requests > of_key
        line = msgspec.structs.replace(
            line,
            requests=line.requests + sum(len(each.waiting) for each in others),
            tokens=line.tokens + sum(each.tokens for each in others),
            bytes=line.bytes + sum(each.bytes for each in others),
            of_key=self._of_key[first.tenant],
            key_start_s=self._key_start_s(first.tenant, backlog, pace, running_work) if full else 0.0,
            ready_in_s=self._fleet.ready_in_s(first.model),
        )
        limits = Limits(
            requests=server.max_queue, tokens=server.max_queued_tokens, bytes=server.max_queued_mb << 20, of_key=of_key,
            slots=server.mode == "stateful",
        )  # fmt: skip
        return decide(ask, line, pace, limits)

    def _key_start_s(self, tenant: str, backlog: Backlog, pace: Pace, running_work: float) -> float:
        """When the first of a key's waiting requests begins."""
        mine = [id for id in backlog.waiting if self._entered[id][0].tenant == tenant]
        return min((backlog.start_s(id, pace, running_work) for id in mine), default=0.0)

    def _promise(self, backlog: Backlog, digest: bytes, ask: Ask, pace: Pace, now_s: float, verdict: Verdict) -> bool:
        """Keep the place that the refused is told to come back for; a key's own limit is the key's own matter."""
        after_s = verdict.retry_after_s
        if (
            after_s is None
            or after_s > LONGEST_PROMISE_S
            or verdict.reason in ("key", "slots")
            or self._server.admission == "off"
        ):
            return False
        return backlog.promise(digest, ask, pace, now_s, after_s)

    def _with_cap(self, request: Request) -> Request:
        """An answer without a limit gets one; a remote has its own."""
        cap = min(filter(None, (self._server.default_max_tokens, self._runaway_tokens)), default=0)
        cap = min(cap, self._server.max_output_tokens)
        card = self._fleet.models().get(request.model)
        if request.sampling.max_tokens is not None or request.kind == "embed" or not cap:
            return request
        if card is not None and card.engine == "remote":
            return request
        sampling = msgspec.structs.replace(request.sampling, max_tokens=cap)
        self._capped.add(request.id)
        return msgspec.structs.replace(request, sampling=sampling)

    def is_capped(self, requests: Sequence[Request]) -> bool:
        """Whether their answers have a limit that nobody asked for."""
        return any(request.id in self._capped for request in requests)

    def _ask(self, requests: Sequence[Request]) -> Ask:
        first = requests[0]
        lengths = [self.lengths.answer_tokens(request) for request in requests]
        due = first.deadline_unix_s
        return Ask(
            prompt_tokens=sum(self.lengths.prompt_tokens(request) for request in requests),
            answer_tokens=sum(mean for mean, _ in lengths) / len(lengths),
            most_tokens=max(most for _, most in lengths),
            answers=sum(request.n for request in requests),
            requests=len(requests),
            bytes=sum(prompt_bytes(request) for request in requests),
            priority=first.priority,
            due_in_s=math.inf if due is None else due - time.time(),
        )

    def _pace(self, model: str) -> Pace:
        return together([pace for line in self._fleet.crew(model) if (pace := self._pace_of(line.owner, line.worker))])

    def _pace_of(self, owner: str, worker: str) -> WorkerPace | None:
        """None for a worker that has just gone."""
        pace, card = self._paces.get(owner), self._fleet.card_of(worker)
        if pace is None and card is not None:
            lives = {line.owner for line in self._fleet.lines.values()}
            self._paces = {each: known for each, known in self._paces.items() if each in lives}
            pace = self._paces[owner] = WorkerPace(card)
        return pace

    def _running_work(self, model: str, backlog: Backlog, now_s: float) -> float:
        summed_s, work = self._left.get(model, (-math.inf, 0.0))
        if now_s - summed_s > LOOK_S:
            work = sum(
                max(LEAST_LEFT * entry.answer_tokens, entry.answer_tokens - self._given(id))
                for id, entry in backlog.running.items()
            )
            self._left[model] = now_s, work
        return work

    # ---- told by the desk ------------------------------------------------------------------------

    def begun(self, id: str, line: WorkerLine | None, queued_ms: float | None, now_s: float | None = None) -> None:
        """A worker has begun it (None: one that can't be heard), and its first token is here."""
        known = self._entered.get(id)
        if known is None or id not in known[1].waiting:
            return
        now_s = time.monotonic() if now_s is None else now_s
        request, backlog, entered_s = known
        backlog.begin(id)
        self._of_key[request.tenant] -= 1
        entry = backlog.running[id]
        self._left.pop(request.model, None)
        pace = None if line is None else self._pace_of(line.owner, line.worker)
        if pace is not None:
            first_s = now_s - entered_s - (queued_ms or 0.0) / 1000
            pace.begun(entry.answers, self.lengths.prompt_tokens(request), first_s)
            self._workers[id] = pace, entry.answers

    def requeued(self, id: str) -> None:
        """Its worker is gone, and it waits again."""
        known = self._entered.get(id)
        if known is not None and id in known[1].running:
            known[1].requeue(id)
            self._of_key[known[0].tenant] += 1
            pace, answers = self._workers.pop(id, (None, 0))
            if pace is not None:
                pace.ended(answers)

    def left(self, id: str) -> None:
        """It has ended, in whatever way."""
        known = self._entered.pop(id, None)
        self._capped.discard(id)
        if known is None:
            return
        request, backlog, _ = known
        if id in backlog.waiting:
            self._of_key[request.tenant] -= 1
        if not self._of_key[request.tenant]:
            del self._of_key[request.tenant]
        backlog.end(id)
        pace, answers = self._workers.pop(id, (None, 0))
        if pace is not None:
            pace.ended(answers)

    def stepped(self, line: WorkerLine, chunks: Sequence[Chunk], now_s: float | None = None) -> None:
        """A frame of one step came."""
        pace = self._paces.get(line.owner)
        if pace is None:
            return
        tokens = 0
        for chunk in chunks:
            tokens += chunk.tokens
        waits = any(backlog.waiting for backlog in self.backlogs.values())
        pace.stepped(tokens, time.monotonic() if now_s is None else now_s, queue_waits=waits)

    def answered(self, request: Request, chunk: Chunk) -> None:
        """One of its answers has ended well."""
        if chunk.usage is not None and request.kind != "embed":
            self.lengths.learn(request, chunk.usage)
        if chunk.finish == "length" and chunk.id in self._capped:
            self.metrics.runaway.labels(request.model).inc()


def _check_count(requests: int, most: int) -> None:
    if requests > max(1, most):
        raise InvalidRequest(
            f"{requests} prompts at once are too many.",
            f"At most {most} requests may wait (server.max_queue).",
            "Send fewer at a time.",
            param="prompt",
        )


def _digest(requests: Sequence[Request]) -> bytes:
    """What tells that a request comes again: all of it but what differs each time."""
    hashed = hashlib.blake2b(digest_size=16)
    for request in requests:
        sampling = msgspec.structs.replace(request.sampling, seed=None)
        same = (request.tenant, request.kind, request.messages, request.prompt, request.inputs, request.tools, sampling)
        hashed.update(msgspec.msgpack.encode(same))
    return hashed.digest()


def _refusal(verdict: Verdict, ask: Ask, server: ServerConfig, *, kept: bool) -> RequestError:
    after_s = verdict.retry_after_s
    when = "Try again later." if after_s is None else f"Try again in {after_s:.1f} s"
    when += ": a place is kept for you then." if kept else "." if after_s is not None else ""
    reason: Reason = verdict.reason
    error: RequestError
    if reason == "hopeless":
        why = f"The answer alone is expected to take {verdict.end_s:.1f} s, and {ask.due_in_s:.1f} s are given."
        error = DeadlineUnmeetable("The deadline can't be met.", why, "Allow more time, or ask for fewer tokens.")
    elif reason == "deadline":
        why = f"It would end in about {verdict.end_s * MARGIN:.1f} s, and {ask.due_in_s:.1f} s are given."
        error = DeadlineUnmeetable("The deadline can't be met now.", why, when)
    elif reason == "key":
        error = KeyLimited("Too many requests of this API key wait.", "Its limit was set with `freehold keys`.", when)
    elif reason == "slots":
        error = Overloaded("Every place is taken.", "This server has no queue (server.mode is stateful).", when)
    else:
        limit = {
            "requests": f"At most {server.max_queue} requests may wait (server.max_queue).",
            "tokens": f"At most {server.max_queued_tokens} tokens may wait (server.max_queued_tokens).",
            "bytes": f"At most {server.max_queued_mb} MiB may wait (server.max_queued_mb).",
        }[reason]
        error = Overloaded("The queue is full.", limit, when)
    error.retry_after_s = after_s
    return error
