"""What has become of the workers: deaths, loads and hangs, noticed as their rows change, and counted for the slot."""

from __future__ import annotations

from collections import Counter

import msgspec

from freehold.core import WorkerStatus
from freehold.gateway.fleet import Fleet
from freehold.sketch import Sketch, Told, of
from freehold.telemetry.slot import Event, EventKind, Slot

_LOADING = ("starting", "loading")
_SERVING = ("ready", "busy")
_DOWN = ("starting", "loading", "dead", "hung")


class Changes:
    """`look` as often as something may have changed; `into` once a slot."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._known: dict[str, WorkerStatus] = {}
        self._loaded: set[tuple[str, int]] = set()
        """Lives of workers whose model is loaded."""
        self.restarts: Counter[str] = Counter()
        """By worker, since this gateway began."""
        self.load_failures: Counter[str] = Counter()
        self.hangs: Counter[str] = Counter()
        self.down_s: dict[str, float] = {}
        """By worker, the time it was not ready after it had been."""
        self._was_ready: set[str] = set()
        self._deaths: Counter[str] = Counter()
        self._hung: Counter[str] = Counter()
        self._steps: dict[str, Sketch] = {}
        self._load_failures: dict[str, str] = {}
        self._load_s: dict[str, dict[str, float]] = {}

    def look(self, unix_s: float) -> list[Event]:
        events: list[Event] = []
        rows = {row.name: row for row in self._fleet.workers()}
        for name, row in rows.items():
            before = self._known.get(name)
            if before is not None:
                events += self._changed(before, row, unix_s)
            card = self._fleet.card_of(name)
            if card is not None and (name, row.pid) not in self._loaded:
                self._loaded.add((name, row.pid))
                if before is not None and before.state in _LOADING:  # else it was loaded before this gateway came
                    self._load_s[name] = {phase.name: phase.seconds for phase in card.phases}
        self._known = rows
        self._loaded = {(name, pid) for name, pid in self._loaded if name in rows}
        return events

    def stepped(self, worker: str, step_ms: Told) -> None:
        self._steps.setdefault(worker, Sketch()).merge(of(step_ms))

    def into(self, slot: Slot) -> Slot:
        """`slot` with what happened in it, which is then forgotten here."""
        means = {worker: steps.mean for worker, steps in self._steps.items()}
        told = msgspec.structs.replace(
            slot, restarts=self._deaths.total(), deaths=dict(self._deaths), hung=dict(self._hung),
            step_ms={worker: ms for worker, ms in means.items() if ms is not None},
            load_failures=self._load_failures, load_s=self._load_s,
        )  # fmt: skip
        self._deaths, self._hung, self._steps, self._load_failures, self._load_s = Counter(), Counter(), {}, {}, {}
        for name, row in self._known.items():
            if row.state in _SERVING:
                self._was_ready.add(name)
            elif row.state in _DOWN and name in self._was_ready:
                self.down_s[name] = self.down_s.get(name, 0.0) + slot.seconds
        return told

    def _changed(self, before: WorkerStatus, row: WorkerStatus, unix_s: float) -> list[Event]:
        events: list[Event] = []
        if row.state == "hung" and before.state != "hung":
            self._hung[row.name] += 1
            self.hangs[row.name] += 1
            why = f"{row.name} has not moved for longer than its work can take."
            events.append(Event(kind="hung", at_unix_s=unix_s, worker=row.name, model=row.model, why=why))
        more = row.restarts - before.restarts
        if more > 0:
            self._deaths[row.name] += more
            self.restarts[row.name] += more
        fails = bool(row.last_error) and (more > 0 or (row.state == "dead" and before.state != "dead"))
        if not fails:
            return events
        loading = before.state in _LOADING
        if loading:
            self._load_failures[row.name] = row.last_error
            self.load_failures[row.name] += 1
        kind: EventKind = "load_failed" if loading else "died"
        events.append(Event(kind=kind, at_unix_s=unix_s, worker=row.name, model=row.model, why=row.last_error))
        return events
