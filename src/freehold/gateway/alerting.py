"""The alerts of this gateway: slots and events go to the evaluator, what it finds to the log and to the receivers.

A task of its own, so that nothing here holds up what observes. What fires, what was told and the silences outlive the
process; days before it are read from the history.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec

from freehold import log
from freehold.core import CardPace
from freehold.errors import ConfigError, FreeholdError
from freehold.gateway.alert_store import AlertStore, Waiting, opened
from freehold.gateway.notify import Notifier, Outcome
from freehold.gateway.notify_forms import Notice
from freehold.gateway.notify_send import Receiver
from freehold.slo import Objective
from freehold.telemetry.alerts import Alert, Silence, alert_id, to_tell
from freehold.telemetry.builtin import built_in
from freehold.telemetry.evaluate import Evaluator, Held
from freehold.telemetry.history_read import read_slots
from freehold.telemetry.measures import unknown
from freehold.telemetry.past import SUMS_S, Past
from freehold.telemetry.rules import Rule, parse, read
from freehold.telemetry.slot import SLOT_S, Event, Slot

LOOK_S = 5.0
"""How often it is looked whether telemetry has stopped."""
SHOWN = 100
"""Alerts that are over and still shown."""
PAUSE_EVERY, PAUSE_S = 20, 0.005


class Setup(NamedTuple):
    """Where and about what."""

    server: str
    """HOST:PORT, as receivers are told."""
    store_path: Path
    history_path: Path | None
    rules_path: Path | None
    objectives: Sequence[Objective]
    paces: Callable[[], Mapping[str, CardPace]]
    """What the profiles say of a step, by variant."""
    slot_s: float = SLOT_S


class Alerting:
    """`slot` and `event` are told it; `run` for ever."""

    def __init__(self, setup: Setup, receivers: Sequence[Receiver]) -> None:
        self._setup = setup
        self._come: asyncio.Queue[Slot | Event | None] = asyncio.Queue()
        self.fed = False
        """Somebody tells it slots: if none comes, that is worth an alert."""
        self._disk = ThreadPoolExecutor(1, "alerts")
        self._store: AlertStore | None = None
        self._told: set[str] = set()
        self._stamp: tuple[int, int] | None = None
        self._file: str = ""
        """The rules' text that was good."""
        self._heard_s = time.monotonic()
        self._stops = False
        self.rules_error = ""
        self.silences: list[Silence] = []
        self.over: deque[Alert] = deque(maxlen=SHOWN)
        """Newest last."""
        self.evaluator = Evaluator((), slot_s=setup.slot_s)
        self.notifier = Notifier(receivers, self._told_firing, setup.server, self._keep_waiting, self._forget_waiting)

    # ---- told and asked ------------------------------------------------------------------------------

    def slot(self, slot: Slot) -> None:
        self._come.put_nowait(slot)

    def event(self, event: Event) -> None:
        self._come.put_nowait(event)

    def hand_over(self) -> None:
        """Another gateway has taken this one's place, and its alerts."""
        self._stops = True
        self._come.put_nowait(None)

    def silence(self, rule: str, seconds: float, reason: str) -> Silence:
        made = Silence(rule=rule, until_unix_s=time.time() + seconds, reason=reason)
        self.silences = [*(each for each in self._lasting() if each.rule != rule), made]
        self._save_silences()
        return made

    def unsilence(self, rule: str) -> bool:
        """Whether there was one."""
        left = [each for each in self._lasting() if each.rule != rule]
        found = len(left) < len(self._lasting())
        self.silences = left
        self._save_silences()
        return found

    async def test(self) -> list[Outcome]:
        now_s = time.time()
        alert = Alert(
            id=alert_id("test", {}, now_s), rule="test", severity="info", state="firing", since_unix_s=now_s,
            fired_unix_s=now_s, what="A test: nothing is wrong.", advice="Nothing is to be done.",
        )  # fmt: skip
        notice = Notice(id=f"msg_{alert.id}", at_unix_s=now_s, server=self._setup.server, alerts=(alert,), test=True)
        return await self.notifier.test(notice)

    # ---- running -------------------------------------------------------------------------------------

    async def run(self) -> None:
        try:
            await self._begin()
            async with asyncio.TaskGroup() as group:
                delivering = group.create_task(self.notifier.run())
                while not self._stops:
                    try:
                        await self._turn()
                    except Exception as error:  # noqa: BLE001  the edge of a turn: what watches goes on watching
                        log.event("alerts.failed", level="error", error=error)
                delivering.cancel()
        finally:
            self._on_disk(AlertStore.close)
            self._disk.shutdown(wait=False)

    async def _turn(self) -> None:
        try:
            come = await asyncio.wait_for(self._come.get(), LOOK_S)
        except TimeoutError:
            if self.fed:
                self._act(self.evaluator.silent(time.monotonic() - self._heard_s, time.time()))
            return
        if come is None or self._stops:
            return
        if isinstance(come, Event):
            self._act(self.evaluator.hear(come))
            return
        self._heard_s = time.monotonic()
        self._renew_rules()
        self.evaluator.past.paces = self._setup.paces()
        self._act(self.evaluator.step(come))

    async def _begin(self) -> None:
        """What was, from the disk: in its thread, and with pauses, since nobody's tokens shall wait for it."""
        loop = asyncio.get_running_loop()
        held, waiting = await loop.run_in_executor(self._disk, self._open)
        past = await loop.run_in_executor(self._disk, self._read_past, time.time())
        self.evaluator = Evaluator((), past, held, self._setup.slot_s)
        self._renew_rules()
        self.notifier.resume(waiting)
        self._heard_s = time.monotonic()

    def _open(self) -> tuple[list[Held], list[Waiting]]:
        try:
            store = opened(self._setup.store_path)
            held, waiting = store.kept("held", list[Held]) or [], store.waiting()
            self._told = store.kept("told", set[str]) or set()
            self.silences = store.kept("silences", list[Silence]) or []
            self._file = store.kept("rules", str) or ""
            self.over.extend(each for each in reversed(store.remembered(SHOWN)) if each.state == "resolved")
        except (sqlite3.Error, OSError) as error:
            log.event("alerts.not_kept", level="error", path=str(self._setup.store_path), why=str(error))
            return [], []
        self._store = store
        return held, waiting

    def _read_past(self, now_unix_s: float) -> Past:
        past, path = Past(self._setup.slot_s), self._setup.history_path
        try:
            if path is not None and path.exists():
                for number, slot in enumerate(read_slots(path, now_unix_s - SUMS_S, now_unix_s)):
                    past.add(slot)
                    if number % PAUSE_EVERY == 0:
                        time.sleep(PAUSE_S)
        except FreeholdError as error:
            log.event("alerts.no_past", level="warning", why=str(error))
        return past

    def _act(self, changed: list[Alert]) -> None:
        """Log, tell and write down what has changed."""
        now_s = time.time()
        for alert in changed:
            if alert.state == "resolved":
                self.over.append(alert)
            _log(alert)
        tell = to_tell(changed, self.evaluator.firing, self._told, self.silences, now_s)
        if tell:
            ids = "".join(f"{each.id}{each.state}" for each in tell)
            notice = Notice(
                id=f"msg_{alert_id(ids, {}, 0.0)}", at_unix_s=now_s, server=self._setup.server, alerts=tuple(tell)
            )
            self.notifier.put(notice)
        if changed or tell or self.evaluator.firing:
            self._write("held", self.evaluator.held)
            self._write("told", self._told)
        if changed:
            self._on_disk(lambda store: store.remember(changed))

    # ---- rules ---------------------------------------------------------------------------------------

    def _renew_rules(self) -> None:
        """Read the file again if it has changed. A wrong one changes nothing: the rules stay as they were."""
        path, stamp = self._setup.rules_path, None
        if path is not None:
            try:
                told = path.stat()
                stamp = (told.st_mtime_ns, told.st_size)
            except OSError:
                stamp = (0, 0)
        if self.evaluator.rules and stamp == self._stamp:
            return
        base = built_in(self._setup.objectives)
        if path is not None:
            self._read_file(path, base)
        self._stamp = stamp
        self.evaluator.rules = self._parsed(base)

    def _read_file(self, path: Path, base: Sequence[Rule]) -> None:
        try:
            read(path, base, unknown)
            self._file, self.rules_error = path.read_text(encoding="utf-8"), ""
            self._write("rules", self._file)
        except (ConfigError, OSError) as error:
            self.rules_error = str(error)
            log.event("alerts.rules_wrong", level="error", why=str(error), next="The rules stay as they were.")

    def _parsed(self, base: Sequence[Rule]) -> tuple[Rule, ...]:
        try:
            return parse(self._file, base, unknown) if self._setup.rules_path is not None else tuple(base)
        except ConfigError:  # it was good for another version
            return tuple(base)

    # ---- on the disk ---------------------------------------------------------------------------------

    def _told_firing(self) -> list[Alert]:
        return [each for each in self.evaluator.firing if each.id in self._told]

    def _lasting(self) -> list[Silence]:
        return [each for each in self.silences if each.until_unix_s > time.time()]

    def _save_silences(self) -> None:
        self._write("silences", self.silences)

    def _keep_waiting(self, waiting: list[Waiting]) -> None:
        self._on_disk(lambda store: store.put(waiting))

    def _forget_waiting(self, waiting: Waiting) -> None:
        self._on_disk(lambda store: store.delivered(waiting))

    def _write(self, name: str, value: object) -> None:
        blob = msgspec.msgpack.encode(value)
        self._on_disk(lambda store: store.keep(name, blob))

    def _on_disk(self, work: Callable[[AlertStore], None]) -> None:
        """In its thread, one after the other; a disk that fails stops no alert."""

        def run() -> None:
            try:
                if self._store is not None:
                    work(self._store)
            except sqlite3.Error as error:
                log.event("alerts.not_kept", level="error", why=str(error))

        with contextlib.suppress(RuntimeError):  # another gateway has taken over, and writes
            self._disk.submit(run)


def _log(alert: Alert) -> None:
    worker, variant = alert.labels.get("worker"), alert.labels.get("variant")
    if alert.state == "resolved":
        log.event("alert.resolved", rule=alert.rule, severity=alert.severity, worker=worker, variant=variant)
        return
    log.event(
        "alert.firing", level="error" if alert.severity == "critical" else "warning", rule=alert.rule,
        severity=alert.severity, worker=worker, variant=variant, what=alert.what, cause=alert.cause or None,
        advice=alert.advice,
    )  # fmt: skip
