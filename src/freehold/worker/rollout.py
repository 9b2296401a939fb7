"""A new model takes an old one's place under the same name: found, loaded, compared on a share of the requests, then it
takes over or is rolled back. At every moment somebody serves every request, and nobody who answers is stopped.

A state machine that the supervisor's loop turns; `judge.py` decides.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from freehold.engine.base import EngineSpec
from freehold.errors import EngineFailed, FreeholdError
from freehold.pipe import RolloutState, RolloutStatus
from freehold.worker.child import Child
from freehold.worker.crew import ALL, NONE, Crew
from freehold.worker.judge import Ending, judge, p99
from freehold.worker.staff import Staff
from freehold.worker.tether import Directive

OVER = ("done", "rolled_back")


class Finding:
    """The new model is looked for, perhaps downloaded, in a thread: a supervisor waits for nothing."""

    def __init__(self, find: Callable[[Finding], EngineSpec]) -> None:
        self.spec: EngineSpec | None = None
        self.error: FreeholdError | None = None
        self.detail = ""
        """How far it is, in words."""
        self._find = find
        self._thread = threading.Thread(target=self._run, name="finding", daemon=True)
        self._thread.start()

    def progress(self, what: str, done: int, total: int) -> None:
        self.detail = f"{what}, {done / total:.0%}" if total else what

    def say(self, text: str) -> None:
        self.detail = text

    def _run(self) -> None:
        try:
            self.spec = self._find(self)
        except FreeholdError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001  the edge of a thread
            self.error = EngineFailed("The new model can't be used.", f"{type(error).__name__}: {error}")


class Rollout:
    """One. `turn` it about once a second."""

    def __init__(
        self, staff: Staff, old: Crew, wanted: int, model: str, finding: Finding,
        canary_percent: int, window_s: float, now_s: float,
    ) -> None:  # fmt: skip
        """`wanted` workers of the new one."""
        self.name = old.spec.name
        self.model = model
        self.state: RolloutState = "finding"
        self.reason = ""
        self._staff = staff
        self._old = old
        self._wanted = wanted
        self._new: Crew | None = None
        self._finding = finding
        self._canary_percent = canary_percent
        self._window_s = window_s
        self._begun_s = now_s
        self._compared_s = 0.0
        self._endings: dict[bool, list[Ending]] = {False: [], True: []}
        """Of the old (False) and of the new (True)."""

    @property
    def over(self) -> bool:
        return self.state in OVER

    def turn(self, now_s: float) -> None:
        match self.state:
            case "finding" if self._finding.error is not None:
                self.fail(str(self._finding.error))
            case "finding" if self._finding.spec is not None:
                self._load(self._finding.spec)
            case "loading" if self._new is not None and self._new.ready:
                self._share(self._new, now_s)
            case "comparing":
                self._compare(now_s)
            case "taking_over" if all(child.gone_at_s is not None for child in self._old.members):
                self._move("done", self.reason)
            case _:
                pass

    def heard(self, child: Child, endings: tuple[Ending, ...]) -> None:
        """What a worker says about requests that ended."""
        if self.state == "comparing" and self._new is not None:
            if child in self._new.members:
                self._endings[True] += endings
            elif child in self._old.members:
                self._endings[False] += endings

    def ends_with(self, child: Child, reason: str) -> bool:
        """A worker ended that was not to. One of the new ones is enough: then all of them are to leave."""
        if self._new is None or child not in self._new.members or self.state not in ("loading", "comparing"):
            return False
        self.fail(reason)
        return True

    def fail(self, reason: str) -> None:
        """Roll back: the old one serves everything again, the new one finishes what it has begun and leaves."""
        if self.over or self.state == "taking_over":
            return
        self._old.give(ALL)
        self._watch(False)
        if self._new is not None:
            self._staff.dissolve(self._new)
        self._move("rolled_back", reason)

    def status(self, now_s: float) -> RolloutStatus:
        old, new = self._endings[False], self._endings[True]
        return RolloutStatus(
            state=self.state, name=self._old.spec.name, model=self.model, reason=self.reason,
            detail=self._finding.detail if self.state == "finding" else self._detail(), seconds=now_s - self._begun_s,
            canary_percent=self._canary_percent, window_s=self._window_s,
            old_answers=len(old), new_answers=len(new), old_failed=_failed(old), new_failed=_failed(new),
            old_p99_ms=_p99(old), new_p99_ms=_p99(new),
        )  # fmt: skip

    # ---- the steps -------------------------------------------------------------------------------

    def _load(self, spec: EngineSpec) -> None:
        self._new = self._staff.found(spec, self._wanted, NONE)
        self._move("loading", f"{spec.source.label} loads beside the old one.")

    def _share(self, new: Crew, now_s: float) -> None:
        """All are warm. The lots of requests are divided: nothing is served twice, and nothing by nobody."""
        if self._canary_percent >= 100:
            self._take_over(new, "It was not to be compared.")
            return
        self._old.give((self._canary_percent, 100))
        new.give((0, self._canary_percent))
        self._watch(True)
        self._compared_s = now_s
        self._move("comparing", f"It takes {self._canary_percent} % of the requests.")

    def _compare(self, now_s: float) -> None:
        verdict = judge(self._endings[False], self._endings[True], self._window_s, now_s - self._compared_s)
        self.reason = verdict.reason
        if verdict.decision == "roll_back":
            self.fail(verdict.reason)
        elif verdict.decision == "take_over" and self._new is not None:
            self._take_over(self._new, verdict.reason)

    def _take_over(self, new: Crew, reason: str) -> None:
        new.give(ALL)
        self._watch(False)
        self._staff.dissolve(self._old)
        self._move("taking_over", reason)

    def _watch(self, watched: bool) -> None:
        for crew in (self._old, self._new):
            for child in crew.members if crew is not None else ():
                child.tell(Directive(watched=watched))

    def _detail(self) -> str:
        crew = self._new if self.state == "loading" else self._old if self.state == "taking_over" else None
        rows = crew.rows() if crew is not None else []
        return ", ".join(f"{row.name} is {row.state}" + (f" ({row.phase})" if row.phase else "") for row in rows)

    def _move(self, state: RolloutState, reason: str) -> None:
        self.state, self.reason = state, reason
        self._staff.say(f"rollout of {self.model}: {state.replace('_', ' ')}. {reason}")


def _failed(endings: list[Ending]) -> int:
    return sum(each.what == "failed" for each in endings)


def _p99(endings: list[Ending]) -> float | None:
    good = [each.ms for each in endings if each.what == "ok"]
    return p99(good) if good else None
