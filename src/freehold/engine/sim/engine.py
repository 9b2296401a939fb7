"""The `sim` engine: plays a profile back, in real time, faster, or in a clock's virtual time.

It batches as the real ones do (`batching.py`): running answers get one token a step, what is left of the token
budget reads waiting prompts in pieces, and a full KV cache sends the youngest answer back to the queue. The
text comes from `words` and depends on the request alone. Steps end on an absolute schedule, so the
pace holds as long as this process keeps up; `late_steps` counts where it didn't.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Sequence

import psutil

from freehold import batching
from freehold.clock import Clock, SystemClock
from freehold.core import Chunk, ModelCard, Request
from freehold.engine import asked
from freehold.engine.base import EngineSpec, EngineStats, Step, Timer
from freehold.engine.given import given_of
from freehold.engine.remarks import context_of
from freehold.engine.sim import words
from freehold.engine.sim.answer import NEVER, Answer
from freehold.engine.sim.faults import FAIL_AFTER_TOKENS, parse_faults, strike
from freehold.errors import EngineFailed, ModelError
from freehold.profile import Profile, card_pace, open_profile, step_ms

DEFAULT_PROFILE = "starter-openvino-2core"


class SimEngine:
    """One simulated instance of `spec.profile`. `clock` is turned by hand for virtual time."""

    card: ModelCard

    def __init__(self, spec: EngineSpec, clock: Clock | None = None) -> None:
        self.spec = spec
        self.profile = open_profile(spec.profile or spec.source.path or DEFAULT_PROFILE)
        self.faults = parse_faults(spec.sim_faults)
        self.clock: Clock = clock or SystemClock()
        self.late_steps = 0
        self._waiting: deque[Answer] = deque()
        self._reading: list[Answer] = []
        self._writing: list[Answer] = []
        self._ended: list[Chunk] = []
        self._kv_tokens = 0
        self._kv_limit_tokens = 1
        self._due_s: float | None = None
        self._steps = 0
        self._added = 0
        self._closed = False

    def load(self, timed: Timer) -> ModelCard:
        """Take as long as the profile says, phase by phase."""
        profile, spec = self.profile, self.spec
        for phase in profile.load:
            with timed(phase.name, f"simulated, as {profile.name}"):
                self._sleep(phase.seconds)
        if self.faults.load_fail:
            raise ModelError("The sim engine didn't load.", "sim_faults asks for load_fail.", "Leave the dial out.")
        self.card = ModelCard(
            name=spec.name,
            engine="sim",
            source=_source_of(profile),
            context_tokens=context_of(spec, profile.context_tokens),
            max_batch=spec.max_batch or profile.sweet_batch,
            weight_bytes=profile.weight_bytes,
            parameters=profile.parameters,
            kv_bytes_per_token=profile.kv_bytes_per_token,
            tools="hermes",
            embeddings=True,
            max_top_logprobs=words.CANDIDATES,
            phases=profile.load,
            memory_bytes=psutil.Process().memory_info().rss,
            threads=1,
            versions=profile.versions,
            created_unix_s=int(self.clock.unix_s()),
            pace=card_pace(profile, spec.max_batch or profile.sweet_batch),
            bandwidth_bytes_per_s=profile.bandwidth_bytes_per_s,
            revision=profile.name,
        )
        self._kv_limit_tokens = self._kv_capacity()
        return self.card

    def _kv_capacity(self) -> int:
        """Tokens of the simulated KV cache, at least one full context."""
        size, each = self.spec.kv_cache_bytes or self.profile.kv_cache_bytes, self.profile.kv_bytes_per_token
        full = self.card.max_batch * self.card.context_tokens
        return max(self.card.context_tokens, min(full, size // each) if size and each else full)

    # ---- what the worker asks ---------------------------------------------------------------------

    def add(self, request: Request, choice: int = 0, given: Sequence[Chunk] = ()) -> None:
        if self._closed:
            raise EngineFailed("The engine is closed.")
        sampling = request.sampling
        asked.check(request, self.card, len(words.VOCABULARY))
        prompt_tokens = words.count_prompt_tokens(request)
        limit_tokens = asked.room(request, prompt_tokens, self.card.context_tokens)
        seed = secrets.randbits(32) if sampling.seed is None else sampling.seed
        keys = words.answer_keys(request, seed, choice)
        fails = self.faults.fail_every and (self._added + 1) % self.faults.fail_every == 0
        past = given_of(given)
        fail_at = past.tokens + FAIL_AFTER_TOKENS if fails else NEVER
        answer = Answer(request, choice, keys, prompt_tokens, limit_tokens, fail_at)
        if given:
            answer.resume(past)
        self._added += 1
        self._waiting.append(answer)

    def abort(self, id: str) -> None:
        gone = [answer for answer in (*self._waiting, *self._reading, *self._writing) if answer.id == id]
        if not gone:
            return
        for answer in gone:
            self._kv_tokens -= answer.kv_tokens
            self._ended.append(answer.end("cancelled"))
        self._waiting = deque(answer for answer in self._waiting if answer.id != id)
        self._reading = [answer for answer in self._reading if answer.id != id]
        self._writing = [answer for answer in self._writing if answer.id != id]

    def embed(self, texts: Sequence[str]) -> tuple[tuple[tuple[float, ...], ...], int]:
        tokens = sum(max(1, words.count_text_tokens(text)) for text in texts)
        self._sleep(step_ms(self.profile.step, tokens, min(1, len(texts)), tokens) * self.faults.slow / 1000)
        return tuple(words.embedding(text) for text in texts), tokens

    def stats(self) -> EngineStats:
        held = self._kv_tokens
        usage = held / self._kv_limit_tokens
        running = len(self._reading) + len(self._writing)
        kv_bytes = held * self.profile.kv_bytes_per_token
        return EngineStats(running=running, waiting=len(self._waiting), kv_usage=usage, kv_bytes=kv_bytes)

    def close(self) -> None:
        self._closed = True
        self._waiting.clear()
        self._reading, self._writing, self._ended = [], [], []
        self._kv_tokens = 0

    # ---- one step ---------------------------------------------------------------------------------

    def step(self) -> Step:
        chunks, self._ended = self._ended, []
        self._admit()
        sequences = len(self._reading) + len(self._writing)
        if not sequences:
            return Step(chunks)
        begun_s = self.clock.monotonic_s()
        strike(self.faults, self._steps, sequences, self.clock)
        writers = self._make_room()
        sequences = len(self._reading) + len(writers)
        read, ready = self._read(self.profile.max_batched_tokens - len(writers))
        context = self._kv_tokens
        self._write(writers + ready, chunks)
        self._steps += 1
        ms = step_ms(self.profile.step, read, sequences, context)
        self._pace(begun_s, ms * self.faults.slow / 1000)
        return Step(chunks, read, sequences, context)

    def _admit(self) -> None:
        """Let waiting answers in, oldest first, while there is a place and room in the KV cache."""
        places = self.card.max_batch - len(self._reading) - len(self._writing)
        while self._waiting and places > 0:
            answer = self._waiting[0]
            if not batching.can_enter(self._kv_tokens, answer.unread, len(self._writing), self._kv_limit_tokens):
                return
            self._reading.append(self._waiting.popleft())
            answer.kv_tokens = answer.unread
            self._kv_tokens += answer.unread
            places -= 1

    def _make_room(self) -> list[Answer]:
        """The answers that write in this step. When the KV cache is full the youngest gives its room up
        and will read everything again, as vLLM does."""
        while self._writing and batching.must_leave(self._kv_tokens, len(self._writing), self._kv_limit_tokens):
            youngest = self._writing.pop() if not self._reading else self._reading.pop()
            self._kv_tokens -= youngest.kv_tokens
            youngest.unread = youngest.prompt_tokens + youngest.written
            youngest.kv_tokens = 0
            self._waiting.appendleft(youngest)
        return self._writing

    def _read(self, budget: int) -> tuple[int, list[Answer]]:
        """Read prompts, oldest first, within the budget: (tokens read, answers whose prompt is read)."""
        if not self._reading:
            return 0, []
        read = 0
        for answer, share in zip(
            self._reading, batching.shares(budget, [a.unread for a in self._reading]), strict=True
        ):
            answer.unread -= share
            read += share
        ready = [answer for answer in self._reading if not answer.unread]
        self._reading = [answer for answer in self._reading if answer.unread]
        return read, ready

    def _write(self, writers: list[Answer], chunks: list[Chunk]) -> None:
        """One token for each writer. The hot loop: 2,000 answers pass here twenty times a second."""
        ended = False
        for answer in writers:
            chunk = answer.write()
            if chunk is not None:
                chunks.append(chunk)
            if answer.finished:
                ended = True
                self._kv_tokens -= answer.kv_tokens
            else:
                answer.kv_tokens += 1
                self._kv_tokens += 1
        self._writing = [answer for answer in writers if not answer.finished] if ended else writers

    def _pace(self, begun_s: float, seconds: float) -> None:
        """Wait until this step would have ended. A busy engine's next step starts where the last one was
        due, not where this process noticed, so nothing drifts; over a whole step late, the schedule gives way."""
        if not self.spec.sim_speed:
            return
        seconds /= self.spec.sim_speed
        due_s = (begun_s if self._due_s is None else self._due_s) + seconds
        now_s = self.clock.monotonic_s()
        if now_s < due_s:
            self.clock.sleep(due_s - now_s)
        elif seconds:
            self.late_steps += 1
            due_s = now_s if now_s - due_s > seconds else due_s
        else:
            due_s = now_s
        self._due_s = due_s if self._writing or self._reading or self._waiting else None

    def _sleep(self, seconds: float) -> None:
        if self.spec.sim_speed and seconds:
            self.clock.sleep(seconds / self.spec.sim_speed)


def _source_of(profile: Profile) -> str:
    """What is imitated, in words; a profile of nothing real says so."""
    if profile.engine == "sim":
        return f"made-up text at the pace of the profile {profile.name}, which imitates no model"
    return f"made-up text at the pace of {profile.model}, on {profile.engine} and {profile.machine}"
