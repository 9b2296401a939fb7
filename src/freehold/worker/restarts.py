"""When a process that ended is started again, and when that is pointless. Pure: time comes in, decisions go out.

Half a second, doubling to thirty; forgotten after a minute of health. Five lives in a row that never got ready,
or a first one that ended for a reason that won't heal soon (a broken model, a wrong setting, a remote that was
asked several times and doesn't answer), and it is given up. But what others do well is no mistake of the model's, nor
is a kill: while somebody else serves nobody is given up, and once anybody was ready, who is killed before it is ready
is just started again.
"""

from __future__ import annotations

import signal

import msgspec

from freehold.core import Failure
from freehold.errors import ConfigError, FreeholdError, GaveUp, ModelError, Unreachable, from_failure

PERMANENT = (ModelError, ConfigError, Unreachable)
OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""Who ends by one of these was ended: by a person, the kernel, or as hung. The rest are crashes of its own."""


class Limits(msgspec.Struct, frozen=True):
    first_s: float = 0.5
    most_s: float = 30.0
    healthy_s: float = 60.0
    """Ready for this long forgives what was before."""
    tries: int = 5
    """Lives in a row without ever being ready."""

    @classmethod
    def at_most(cls, most_s: float) -> Limits:
        """Those with no wait longer than that."""
        return cls(first_s=min(cls().first_s, most_s), most_s=most_s)


class End(msgspec.Struct, frozen=True):
    """How a life ended."""

    reason: str
    ready_s: float | None = None
    """How long it was ready; None if never."""
    exit_code: int = 1
    """Negative: the signal."""
    failure: Failure | None = None

    @property
    def killed(self) -> bool:
        return -self.exit_code in OUTSIDE


class Restarts:
    """The history of one process, as far as it matters for its next start."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._delay_s = limits.first_s
        self._stillborn = 0
        self._was_ready = False
        self.count = 0

    @property
    def sound(self) -> bool:
        """It was ready, and nothing has gone wrong with it since: it will be again."""
        return self._was_ready and not self._stillborn

    def after(self, end: End, name: str, *, proven: bool = False, others_serve: bool = False) -> float:
        """A life has ended. `proven`: another of its kind was ready once; `others_serve`: others are, or will be again.
        Returns how long to wait before the next life. Raises the error to stop everything with."""
        if end.ready_s is not None:
            self._stillborn, self._was_ready = 0, True
            if end.ready_s >= self._limits.healthy_s:
                self._delay_s = self._limits.first_s
        elif not (end.killed and (proven or self._was_ready)):
            self._stillborn += 1
        error = from_failure(end.failure) if end.failure is not None else None
        if not others_serve:
            if isinstance(error, PERMANENT) and not self._was_ready:
                raise error
            if self._stillborn >= self._limits.tries:
                raise gave_up(name, self._stillborn, end.reason, error)
        delay_s, self._delay_s = self._delay_s, min(self._delay_s * 2, self._limits.most_s)
        self.count += 1
        return delay_s


def gave_up(name: str, tries: int, reason: str, error: FreeholdError | None) -> GaveUp:
    why = f"The last time it {reason}." + (f" {error}" if error is not None else "")
    next = "See the log above; `freehold doctor` may help."
    return GaveUp(f"{name} did not become ready in {tries} tries.", why, next)
