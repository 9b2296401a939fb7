"""One, two and three times what a server can do, with deadlines: what still comes in time, and how refusals are kept.

    python benchmarks/overload.py [--quick] [--real] [--seconds 20]

Poisson arrivals in an open loop; every client hangs up at its deadline. The same engine, first come first served,
without admission, takes turns with Freehold as it is (told the deadline; refused clients come back once, when they were
told to). The engine is `sim` with a profile of known capacity, so that nothing but the queue differs. Beside it stands
llama.cpp's stock server with the starter, at multiples of its own capacity; `--real` adds Freehold with the starter.
Capacity is measured in the same run, from full batches; goodput counts once the load has lasted for two deadlines,
since any server is idle at first. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

import lean
from crowd import Crowd, Try, poisson
from freehold import config, machine
from freehold.model.convert import prepared
from freehold.model.source import locate
from freehold.profile import Profile, StepLaw, save, step_ms
from report import Claim, finish
from sides import LlamaServer, Served

PLACES, TOKENS, DEADLINE_S = 16, 24, 1.0
REAL_PLACES, REAL_TOKENS = 8, 48
PROFILE = Profile(
    name="overload",
    model="none",
    engine="sim",
    machine="any",
    date="2026-11-25",
    source="Assumed: 16 places, 12 ms a step when they are full.",
    step=StepLaw(base_ms=8.0, sequence_ms=0.25, prefill_ms_per_token=0.01),
    sweet_batch=PLACES,
    max_batch=PLACES,
    context_tokens=4096,
    basis={"step": "assumed", "sweet_batch": "assumed"},
)
LEVELS = (1, 2, 3)
NEXT_TO_NOTHING = 0.05
"""A goodput below this counts as this, so that no ratio is a division by luck."""


@dataclass(frozen=True, slots=True)
class Load:
    """One side at one multiple of its capacity."""

    side: str
    level: int
    capacity: float
    """Requests a second."""
    seconds: float
    warm_s: float
    tries: list[Try]

    @property
    def goodput(self) -> float:
        """Answers in time, over capacity, from when the load has lasted for two deadlines until its end."""
        good = sum(one.good and self.warm_s < one.end_s <= self.seconds for one in self.tries)
        return good / (self.seconds - self.warm_s) / self.capacity

    @property
    def first(self) -> list[Try]:
        return [one for one in self.tries if not one.again]

    @property
    def again(self) -> list[Try]:
        return [one for one in self.tries if one.again]

    @property
    def refusal_ms(self) -> list[float]:
        return [(one.end_s - one.sent_s) * 1e3 for one in self.tries if one.refused]

    @property
    def dead_executed(self) -> int:
        """Requests whose first token came after their deadline."""
        return sum(one.first_s > one.due_s for one in self.tries)


@dataclass(slots=True)
class Side:
    """A server under load."""

    name: str
    server: Served | LlamaServer
    tokens: int
    deadline_s: float
    told: bool
    """Of the deadline."""
    comes_back: bool = False
    capacity: float = 0.0

    def body(self, number: int) -> bytes:
        return lean.completion(self.server.model, f"{number}: where is my card, and why so late?", self.tokens)

    def measure_capacity(self, places: int, waves: int) -> None:
        """Requests/s of `waves` full batches at once, nobody hurried."""
        streams = [lean.Stream(self.body(number)) for number in range(places * waves)]
        player = lean.Player(self.server.port)
        wall_s = player.play(streams)
        player.close()
        self.capacity = len(streams) / wall_s

    def run(self, level: int, seconds: float) -> Load:
        arrivals = poisson(level * self.capacity, seconds, seed=level)
        crowd = Crowd(
            self.server.port, self.body, self.deadline_s, deadline_header=self.told, comes_back=self.comes_back
        )
        tries = crowd.run(arrivals)
        time.sleep(0.3)
        return Load(self.name, level, self.capacity, seconds, 2 * self.deadline_s, tries)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short loads: under 50 s")
    parser.add_argument("--real", action="store_true", help="also Freehold with the starter on a real engine")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each load lasts")
    told = parser.parse_args()
    seconds = 3.6 if told.quick else told.seconds
    console = Console(width=130)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        save(PROFILE, folder / "overload.json")
        ours, plain = _sim_sides(stack, folder)
        stock = _stock_side(stack)
        loads = [ours.run(level, seconds) for level in LEVELS]
        if not told.quick:
            deaf = replace(ours, name="freehold, nobody comes back", comes_back=False)
            loads += [deaf.run(level, seconds) for level in LEVELS[1:]]
        loads += [plain.run(level, seconds) for level in LEVELS[told.quick :]]
        loads += [stock.run(level, seconds) for level in (LEVELS[-1:] if told.quick else LEVELS)]
        if told.real:
            loads += _real(folder, seconds)
    full_ms = step_ms(PROFILE.step, 0, PLACES, 0)
    console.print(
        f"ceiling of the profile: {PLACES} places / ({TOKENS} tokens x {full_ms:.0f} ms) = "
        f"{PLACES / TOKENS / full_ms * 1e3:.1f} requests/s; measured from full batches: {ours.capacity:.1f}"
    )
    show(console, loads)
    return finish("overload", judge(loads, ours.name, plain.name))


def _sim_sides(stack: ExitStack, folder: Path) -> tuple[Side, Side]:
    model = f"sim:{folder / 'overload.json'}"
    ours = Side(
        "freehold", Served(folder / "a", model, "--name", "sim"), TOKENS, DEADLINE_S, told=True, comes_back=True
    )
    stack.callback(ours.server.close)
    off = Served(folder / "b", model, "--name", "sim", "--set", "server.admission=off")
    plain = Side("same engine, FCFS", off, TOKENS, DEADLINE_S, told=False)
    stack.callback(off.close)
    plain.measure_capacity(PLACES, 6)
    ours.capacity = plain.capacity
    return ours, plain


def _stock_side(stack: ExitStack) -> Side:
    source = locate("starter", home=config.home_dir())
    path = prepared(source, config.home_dir() / "bench" / "cache")[0]
    told = {"path": str(path), "max_batch": REAL_PLACES, "context_tokens": 1024, "threads": machine.cores()}
    server = LlamaServer(told)
    stack.callback(server.close)
    return _calibrated(Side("llama.cpp's server, starter", server, REAL_TOKENS, 0.0, told=False))


def _real(folder: Path, seconds: float) -> list[Load]:
    """Freehold with the starter, with admission and without, one server at a time: they share the cores."""
    loads = []
    for name, ours, more in (
        ("freehold, starter", True, ()),
        ("freehold, starter, FCFS", False, ("--set", "server.admission=off")),
    ):
        server = Served(folder / name.replace(" ", ""), "starter", "--max-batch", str(REAL_PLACES), *more)
        side = _calibrated(Side(name, server, REAL_TOKENS, 0.0, told=ours, comes_back=ours))
        loads += [side.run(level, seconds) for level in LEVELS]
        server.close()
    return loads


def _calibrated(side: Side) -> Side:
    """Capacity, and a deadline of 3.5 times what an answer takes in a full batch, as the simulated side has."""
    side.measure_capacity(REAL_PLACES, 1)
    side.measure_capacity(REAL_PLACES, 5)
    side.deadline_s = DEADLINE_S / (TOKENS * step_ms(PROFILE.step, 0, PLACES, 0) / 1e3) * REAL_PLACES / side.capacity
    return side


def show(console: Console, loads: list[Load]) -> None:
    table = Table(
        "side", "load", "requests", "in time / capacity", "refused", "refusal p50, max ms", "came back: in time"
    )
    for load in loads:
        took = load.refusal_ms
        times = f"{statistics.median(took):.1f}, {max(took):.1f}" if took else "-"
        back = load.again
        table.add_row(
            load.side, f"{load.level} x {load.capacity:.1f}/s", str(len(load.first)), f"{load.goodput:.2f}",
            str(sum(one.refused for one in load.first)), times,
            f"{sum(one.good for one in back)} of {len(back)}" if back else "-",
        )  # fmt: skip
    console.print(table)


def judge(loads: list[Load], ours: str, plain: str) -> list[Claim]:
    at: Callable[[str, int], Load] = lambda side, level: next(x for x in loads if (x.side, x.level) == (side, level))  # noqa: E731
    mine = [load for load in loads if load.side == ours]
    refusals = [ms for load in mine for ms in load.refusal_ms]
    back = [one for load in mine for one in load.again]
    claims = [
        Claim(f"goodput over first come first served, at {n} times capacity",
              at(ours, n).goodput / max(at(plain, n).goodput, NEXT_TO_NOTHING), ">=", 2.0)
        for n in (2, 3)
    ]  # fmt: skip
    return [
        *claims,
        Claim("goodput over capacity, at 3 times", at(ours, 3).goodput, ">=", 0.9),
        Claim("share of refusals under 50 ms", _share(ms < 50 for ms in refusals), ">=", 1.0),
        Claim("of those who came back when told, in time", _share(one.good for one in back), ">=", 0.9),
        Claim("requests begun after their deadline", float(sum(load.dead_executed for load in mine)), "<=", 0.0),
    ]


def _share(marks: object) -> float:
    found = [bool(mark) for mark in marks]  # type: ignore[attr-defined]
    return sum(found) / len(found) if found else 1.0


if __name__ == "__main__":
    sys.exit(main())
