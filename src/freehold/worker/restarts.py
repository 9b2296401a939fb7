"""When a process that ended is started again, and when that is pointless. Pure: time comes in, decisions go out.

Half a second, doubling to thirty; forgotten after a minute of health. Five lives in a row that never got ready,
or a first one that ended for a reason that won't heal soon (a broken model, a wrong setting, a remote that was
asked several times and doesn't answer), and it is given up.
"""

from __future__ import annotations

import msgspec

from freehold.core import Failure
from freehold.errors import ConfigError, FreeholdError, GaveUp, ModelError, Unreachable, from_failure

PERMANENT = (ModelError, ConfigError, Unreachable)


class Limits(msgspec.Struct, frozen=True):
    first_s: float = 0.5
    most_s: float = 30.0
    healthy_s: float = 60.0
    """Ready for this long forgives what was before."""
    tries: int = 5
    """Lives in a row without ever being ready."""


class Restarts:
    """The history of one process, as far as it matters for its next start."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._delay_s = limits.first_s
        self._stillborn = 0
        self._was_ready = False
        self.count = 0

    def after(self, ready_s: float | None, name: str, reason: str, failure: Failure | None) -> float:
        """A life has ended; `ready_s` is how long it was ready, None if never. Returns how long to wait
        before the next one. Raises the error to stop everything with."""
        if ready_s is None:
            self._stillborn += 1
        else:
            self._stillborn, self._was_ready = 0, True
            if ready_s >= self._limits.healthy_s:
                self._delay_s = self._limits.first_s
        error = from_failure(failure) if failure is not None else None
        if isinstance(error, PERMANENT) and not self._was_ready:
            raise error
        if self._stillborn >= self._limits.tries:
            raise gave_up(name, self._stillborn, reason, error)
        delay_s, self._delay_s = self._delay_s, min(self._delay_s * 2, self._limits.most_s)
        self.count += 1
        return delay_s


def gave_up(name: str, tries: int, reason: str, error: FreeholdError | None) -> GaveUp:
    why = f"The last time it {reason}." + (f" {error}" if error is not None else "")
    next = "See the log above; `freehold doctor` may help."
    return GaveUp(f"{name} did not become ready in {tries} tries.", why, next)
