"""The measuring of `freehold scale`: servers started with so many workers, and levels of a closed loop on several."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from freehold.errors import EngineFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from freehold.loadtest.generator import Run
    from freehold.loadtest.probe import Found
    from freehold.loadtest.record import Recorder
    from freehold.sample import Sample
    from freehold.sizing.scaling import Level, Pace

WARM_SHARE, WARM_S = 0.15, 2.0
"""So much of a level, and at most so long, isn't counted: batches fill."""
LEAVE_S = 30.0
APART = 1 << 22
"""Prompts of one server or level are so many numbers away from the next one's."""


class Bench:
    """Asks for levels and tells what they were like. Whatever it starts ends with `stack`."""

    def __init__(
        self, stack: ExitStack, console: Console, ask: tuple[str | None, str, str | None], lengths: tuple[int, int],
        seconds: float, seed: int, out: Path | None,
    ) -> None:  # fmt: skip
        self.console = console
        self._ask = ask
        self._lengths = lengths
        self._seconds = seconds
        self._seed = seed
        folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self._folder = folder
        self._levels = 0

    def reached(self, url: str) -> Found:
        """The server at `url`, asked how long a word is there. Raises what it answers with."""
        from freehold.cli.load import target_of
        from freehold.loadtest.probe import probe

        model, api, api_key = self._ask
        return probe(target_of(url, model, api, api_key, True, 120.0), seed=self._seed)

    def level(self, servers: Sequence[Found], users: int, instances: int = 0) -> Level:
        """`users` on each of the servers at once. `instances`: workers behind the one server."""
        from freehold.sizing.scaling import level

        instances = instances or len(servers)
        self._levels += 1
        before = [counted(each, self._ask[2]) for each in servers]
        samples, window_s, cpu = self._play(servers, users)
        paces = [each for server, was in zip(servers, before, strict=True) for each in paced(server, self._ask[2], was)]
        found = level(instances, users * len(servers), window_s, samples, cpu, tuple(paces))
        if not found.answers:
            said = next((each.error for each in samples if each.error and each.outcome != "cancelled"), "")
            raise EngineFailed(
                f"No answer ended within the {found.seconds:.0f} s that count of {self._seconds:.0f}.",
                f"The server said: {said}" if said else "One takes longer than that.",
                "Give --seconds more, or ask for shorter answers (--output-tokens).",
            )
        self.console.print(
            f"{instances}, with {found.users} users: {found.per_s:.2f} answers/s, p50 {found.p50_ms:.0f} ms",
            style="dim", markup=False,
        )  # fmt: skip
        return found

    def _play(self, servers: Sequence[Found], users: int) -> tuple[list[Sample], tuple[float, float], float]:
        """(all samples on one clock, the seconds of it in which every server had all its users, processor share of the
        busiest client)."""
        samples: list[Sample] = []
        with ExitStack() as stack:
            both = [self._begun(stack, server, users, number) for number, server in enumerate(servers)]
            zero_s = both[0][0].zero_s
            going = dict(enumerate(both))
            while going:
                for number, (run, recorder) in list(going.items()):
                    told = next(run, None)
                    if told is None:
                        del going[number]
                    else:
                        recorder.add(told[1])
                        samples += [_later(each, run.zero_s - zero_s) for each in told[1]]
            offsets_s = [run.zero_s - zero_s for run, _ in both]
            cpu = max(max(run.cpu_s, default=0.0) for run, _ in both) / self._seconds
            for run, recorder in both:
                recorder.finish(self._seconds, vitals={"cpu_s": run.cpu_s})
        begun_s = max(offsets_s) + min(WARM_S, WARM_SHARE * self._seconds)
        return samples, (begun_s, min(offsets_s) + self._seconds), cpu

    def _begun(self, stack: ExitStack, server: Found, users: int, number: int) -> tuple[Run, Recorder]:
        from freehold.loadtest.generator import Closed, play
        from freehold.loadtest.prompts import of_length
        from freehold.loadtest.record import Recorder, manifest

        prompts = of_length(*self._lengths, server.scale, seed=self._seed)
        first = (self._levels * 64 + number) * APART
        target = server.target
        told = manifest(
            "scale", " ".join(("freehold", *sys.argv[1:])), url=target.url, model=target.model, seed=self._seed,
            load={"loop": "closed", "users": users}, started_unix_s=time.time(),
        )  # fmt: skip
        recorder = Recorder(self._folder / f"level-{self._levels:02}" / f"server-{number + 1}", told)
        stack.enter_context(recorder)
        load = Closed(users=users, seconds=self._seconds)
        run = play(target, load, lambda asked: prompts(first + asked), seed=self._seed)
        stack.callback(run.close)
        return run, recorder


def _later(sample: Sample, offset_s: float) -> Sample:
    import msgspec

    if not offset_s:
        return sample
    moved = {name: getattr(sample, name) + offset_s for name in ("intended_s", "sent_s", "end_s")}
    if sample.first_s is not None:
        moved["first_s"] = sample.first_s + offset_s
    return msgspec.structs.replace(sample, **moved)


# ---- what a Freehold tells beside it ---------------------------------------------------------------


def counted(server: Found, api_key: str | None) -> dict[str, int]:
    """Steps that each worker has made; empty for any other server."""
    from freehold.cli.fleet_law import rows

    return {row["name"]: int(row["steps"]) for row in rows(server.target.url, api_key)}


def paced(server: Found, api_key: str | None, before: dict[str, int]) -> list[Pace]:
    """What each worker's steps since then were like, where they are told."""
    from freehold.cli.fleet_law import KEPT_STEPS, rows, steps_of
    from freehold.sizing.scaling import pace

    found = []
    for row in rows(server.target.url, api_key):
        made = min(KEPT_STEPS, int(row["steps"]) - before.get(row["name"], 0))
        steps = steps_of(server.target.url, api_key, row["name"], made) if made > 0 else []
        if (one := pace(row["name"], steps)) is not None:
            found.append(one)
    return found


# ---- servers of one's own --------------------------------------------------------------------------


@contextmanager
def serving(model: str, workers: int, console: Console) -> Iterator[str]:
    """The address of a `freehold serve` with so many workers, on a free port and with a ledger of its own, for as long
    as it is needed."""
    console.print(f"starting {model} with {workers} {'worker' if workers == 1 else 'workers'}", style="dim")
    with tempfile.TemporaryDirectory(prefix="freehold-scale-") as folder:
        log = Path(folder) / "serve.log"
        command = [sys.executable, "-m", "freehold", "serve", model, "--workers", str(workers), "--port", "0", "--json"]
        command += ["--host", "127.0.0.1", "--set", f"store.path={folder}/ledger.db"]
        with log.open("wb") as errors:
            server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        try:
            yield _url_of(server, log, model)
        finally:
            if server.poll() is None:
                server.send_signal(signal.SIGTERM)
            try:
                server.wait(LEAVE_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
            assert server.stdout is not None
            server.stdout.close()


def _url_of(server: subprocess.Popen[bytes], log: Path, model: str) -> str:
    """Once it serves. Raises what kept it from that."""
    assert server.stdout is not None
    for line in server.stdout:
        told = json.loads(line)
        if told.get("state") == "serving":
            return str(told["url"])
        if "error" in told:
            raise EngineFailed(f"{model} can't be served: {told['error']['what']}", told["error"].get("why", ""))
    server.wait()
    why = log.read_text(errors="replace").strip().splitlines()
    raise EngineFailed(f"{model} can't be served.", why[-1] if why else "", f"Try `freehold serve {model}` alone.")
