"""The window of `sizing/probe.py` onto a real server: each trial is a run of the load client, kept in a folder if
asked."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from freehold.core import Json
from freehold.loadtest.arrivals import Times, arrivals, steady
from freehold.loadtest.generator import Closed, Run, play
from freehold.loadtest.record import Recorder, manifest
from freehold.loadtest.target import Ask, Prompts, Target
from freehold.sample import Sample

if TYPE_CHECKING:
    from freehold.loadtest.trace import Trace
    from freehold.sizing.probe import Trial

APART = 1 << 22
"""Prompts of one trial are so many numbers away from the last one's, so that no cache has seen them."""


class Live:
    """`target` under Poisson arrivals, or under stretches of `trace` at the rate that is asked for."""

    def __init__(
        self,
        target: Target,
        prompts: Prompts,
        *,
        ceiling_per_s: float,
        longest_s: float,
        processes: int = 1,
        trace: Trace | None = None,
        out: Path | None = None,
    ) -> None:
        self.ceiling_per_s = ceiling_per_s
        self._target = target
        self._prompts = prompts
        self._longest_s = longest_s
        self._processes = processes
        self._trace = trace
        self._out = out
        self._runs = 0

    def open(self, rate_per_s: float, seed: int) -> Trial:
        told: Json = {"loop": "open", "rate_per_s": rate_per_s, "arrivals": "replay" if self._trace else "poisson"}
        first = self._first(seed)
        return self._play(self._schedule(rate_per_s, first, seed), told, seed, first)

    def closed(self, users: int) -> Trial:
        load = Closed(users=users, seconds=self._longest_s)
        return self._play(load, {"loop": "closed", "users": users}, users, self._first(users))

    def _first(self, seed: int) -> int:
        """The row of the trace that a trial begins at: by lot, or all would see the same few minutes of it."""
        return 0 if self._trace is None else int(np.random.default_rng([seed, self._runs]).integers(len(self._trace)))

    def _schedule(self, rate_per_s: float, first: int, seed: int) -> Times:
        if self._trace is None:
            drawn = arrivals(steady(rate_per_s, self._longest_s), "poisson", seed=seed)
            return drawn if drawn.size else np.zeros(1)  # by chance none at so low a rate: one says more
        return self._trace.stretch(first, rate_per_s, self._longest_s)

    def _play(self, load: Times | Closed, told: Json, seed: int, first: int) -> Trial:
        first += self._runs * (APART if self._trace is None else -(-APART // len(self._trace)) * len(self._trace))
        self._runs += 1

        def ask(number: int) -> Ask:
            return self._prompts(first + number)

        run = play(self._target, load, ask, processes=self._processes, seed=seed)
        return _trial(run) if self._out is None else self._kept(run, self._out / f"trial-{self._runs:02}", told, seed)

    def _kept(self, run: Run, folder: Path, load: Json, seed: int) -> Trial:
        """The same, written down as it goes."""
        target = self._target
        told = manifest(
            "knee", " ".join(("freehold", *sys.argv[1:])), url=target.url, model=target.model, seed=seed, load=load,
            started_unix_s=time.time(),
        )  # fmt: skip
        now_s = 0.0
        with Recorder(folder, told) as recorder:
            try:
                for now_s, samples in run:
                    recorder.add(samples)
                    yield now_s, samples
            finally:
                run.close()
                recorder.add(run.rest)
                recorder.finish(now_s, vitals={"cpu_s": run.cpu_s})


def _trial(run: Run) -> Iterator[tuple[float, list[Sample]]]:
    try:
        yield from run
    finally:
        run.close()
