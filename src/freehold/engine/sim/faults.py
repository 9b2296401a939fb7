"""The dials of the `sim` engine, with which chaos tests break a worker on purpose.

    slow=2           every step takes twice its time
    stuck_after=100  after 100 steps a step never returns: the process lives but hangs
    crash_after=50   after 50 steps the process kills itself with SIGKILL, as the kernel would
    exit_after=50    after 50 steps the process ends with exit code 0, as a library that calls exit would
    leak_mb=1        every step keeps this much memory for ever
    oom_at=64        a step with 64 sequences or more raises MemoryError
    fail_every=10    every tenth answer ends with an error after four tokens
    load_fail=1      loading raises ModelError

Several are separated by commas.
"""

from __future__ import annotations

import difflib
import os
import signal
from typing import NoReturn

from freehold.clock import Clock
from freehold.core import Record
from freehold.errors import ConfigError

FAIL_AFTER_TOKENS = 4


class Faults(Record, frozen=True):
    """The dials as numbers; 0 is off."""

    slow: float = 1.0
    stuck_after: int = 0
    crash_after: int = 0
    exit_after: int = 0
    leak_mb: int = 0
    oom_at: int = 0
    fail_every: int = 0
    load_fail: int = 0


def parse_faults(text: str) -> Faults:
    """`slow=2,oom_at=64` as `Faults`. Raises `ConfigError` for an unknown dial or a wrong value."""
    dials: dict[str, float] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in Faults.__struct_fields__:
            close = difflib.get_close_matches(name, Faults.__struct_fields__, n=1, cutoff=0.3)
            hint = f"Did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"Unknown dial {name!r} in engine.sim_faults.", f"Known are {_known()}.", hint)
        dials[name] = _number(name, value)
    return Faults(**dials)  # type: ignore[arg-type]


def _number(name: str, value: str) -> float:
    whole = name != "slow"
    try:
        number = int(value) if whole else float(value)
    except ValueError:
        number = -1
    if not (0 <= number < float("inf")) or (name == "slow" and number == 0):
        wanted = "a whole number" if whole else "a number over 0"
        raise ConfigError(f"Wrong value {value!r} for the dial {name!r} in engine.sim_faults.", f"It takes {wanted}.")
    return number


def _known() -> str:
    return ", ".join(Faults.__struct_fields__)


def strike(faults: Faults, steps: int, sequences: int, clock: Clock) -> None:
    """Break now if a dial says so: called before each step with the steps done and the sequences in it."""
    if faults.crash_after and steps >= faults.crash_after:
        os.kill(os.getpid(), signal.SIGKILL)
    if faults.exit_after and steps >= faults.exit_after:
        os._exit(0)
    if faults.leak_mb:
        _leaked.append(bytearray(os.urandom(1 << 20)) * faults.leak_mb)
    if faults.stuck_after and steps >= faults.stuck_after:
        _hang(clock)
    if faults.oom_at and sequences >= faults.oom_at:
        raise MemoryError(f"Out of memory at {sequences} sequences: sim_faults asks for oom_at={faults.oom_at}.")


_leaked: list[bytearray] = []


def _hang(clock: Clock) -> NoReturn:
    while True:
        clock.sleep(3600.0)
