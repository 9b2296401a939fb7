"""Slots in, alerts out: pending while a threshold is crossed, firing after `for`, resolved once it has been clear.

Pure: time is what the slots say, so the same slots give the same alerts, live, in a test or in a replay. A hole in the
slots proves nothing: what was pending begins anew, what fires stays until it is seen to be over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from freehold.core import Record
from freehold.telemetry.alerts import Alert, State, alert_id
from freehold.telemetry.causes import likely
from freehold.telemetry.measures import MEASURES, readings, unit
from freehold.telemetry.past import Past
from freehold.telemetry.rules import Rule
from freehold.telemetry.slot import SLOT_S, Event, Slot
from freehold.telemetry.standing import Reading, named

_EPSILON_S = 1e-6
Key = tuple[str, tuple[tuple[str, str], ...]]


class Held(Record, frozen=True):
    """An alert that isn't over, with what must be known to end it."""

    alert: Alert
    clear_since_unix_s: float | None = None


class Evaluator:
    """`step` with each slot in turn; `held` is what an earlier one had, `past` what it saw."""

    def __init__(
        self, rules: Iterable[Rule], past: Past | None = None, held: Iterable[Held] = (), slot_s: float = SLOT_S
    ) -> None:
        self.rules = tuple(rules)
        self.past = past or Past(slot_s)
        self._held: dict[Key, Held] = {_key(each.alert.rule, each.alert.labels): each for each in held}

    @property
    def held(self) -> list[Held]:
        return list(self._held.values())

    @property
    def alerts(self) -> list[Alert]:
        """Those pending and firing."""
        return [each.alert for each in self._held.values()]

    @property
    def firing(self) -> list[Alert]:
        return [each.alert for each in self._held.values() if each.alert.state == "firing"]

    def step(self, slot: Slot) -> list[Alert]:
        """What has begun to fire with this slot, and what is over."""
        follows = self.past.add(slot)
        if not follows:
            self._after_a_hole()
        changed: list[Alert] = []
        seen: set[Key] = set()
        for rule in self.rules:
            for reading in readings(self.past, rule):
                key = _key(rule.name, {**rule.labels, **reading.labels})
                seen.add(key)
                changed += self._judge(rule, key, reading)
        by_name = {rule.name: rule for rule in self.rules}
        for key in [key for key in self._held if key not in seen]:  # nothing is known of it any more
            changed += self._calm(by_name.get(key[0]), key)
        return changed

    def hear(self, event: Event) -> list[Alert]:
        """What fires at once, before the slot of `event` has ended."""
        changed: list[Alert] = []
        for rule in self.rules:
            measure = MEASURES.get(rule.metric)
            if measure is None or measure.at_once != event.kind or rule.for_s or not rule.crossed(1.0):
                continue
            reading = Reading({"worker": event.worker}, 1.0, why=named(event.worker, event.why))
            if rule.only.items() <= reading.labels.items():
                key = _key(rule.name, {**rule.labels, **reading.labels})
                changed += self._raise(rule, key, reading, event.at_unix_s, event.at_unix_s)
        return changed

    def silent(self, seconds: float, now_unix_s: float) -> list[Alert]:
        """No slot has come for so long. (That one comes again ends it.)"""
        changed: list[Alert] = []
        for rule in self.rules:
            if rule.metric == "silence_s" and rule.crossed(seconds):
                key = _key(rule.name, rule.labels)
                changed += self._raise(rule, key, Reading({}, seconds), now_unix_s - seconds, now_unix_s)
        return changed

    # ---- one rule, one set of labels ----------------------------------------------------------------

    def _judge(self, rule: Rule, key: Key, reading: Reading) -> list[Alert]:
        held = self._held.get(key)
        firing = held is not None and held.alert.state == "firing"
        if firing and rule.cleared(reading.value):
            return self._calm(rule, key, reading)
        if firing or rule.crossed(reading.value):
            return self._raise(rule, key, reading, self.past.slots[-1].begin_unix_s, self.past.now_s)
        return self._calm(rule, key, reading)

    def _raise(self, rule: Rule, key: Key, reading: Reading, since_s: float, now_s: float) -> list[Alert]:
        """It is crossed (or fires still): begin, go on, or fire."""
        held = self._held.get(key)
        before = held.alert if held is not None else None
        since_s = before.since_unix_s if before is not None else since_s
        fires = (before is not None and before.state == "firing") or now_s - since_s >= rule.for_s - _EPSILON_S
        state: State = "firing" if fires else "pending"
        alert = _alert(rule, dict(key[1]), reading, state, since_s, before)
        if fires and (before is None or before.state != "firing"):
            cause = likely(self.past, alert.labels, rule)
            alert = msgspec.structs.replace(
                alert,
                fired_unix_s=now_s,
                cause=cause.text,
                cause_kind=cause.kind,
                numbers=cause.numbers | alert.numbers,
            )
            self._held[key] = Held(alert=alert)
            return [alert]
        self._held[key] = Held(alert=alert)
        return []

    def _calm(self, rule: Rule | None, key: Key, reading: Reading | None = None) -> list[Alert]:
        """It isn't crossed: a pending one is forgotten, a firing one is over after `clear_for`. So is at once one whose
        rule is gone."""
        held = self._held.get(key)
        if held is None:
            return []
        if held.alert.state == "pending":
            del self._held[key]
            return []
        since_s = held.clear_since_unix_s
        if since_s is None:
            since_s = self.past.slots[-1].begin_unix_s
        if rule is not None and self.past.now_s - since_s < rule.clear_for_s - _EPSILON_S:
            alert = held.alert if reading is None else _alert(rule, dict(key[1]), reading, "firing", 0.0, held.alert)
            self._held[key] = Held(alert=alert, clear_since_unix_s=since_s)
            return []
        del self._held[key]
        return [msgspec.structs.replace(held.alert, state="resolved", resolved_unix_s=self.past.now_s)]

    def _after_a_hole(self) -> None:
        self._held = {
            key: Held(alert=held.alert) for key, held in self._held.items() if held.alert.state == "firing"
        }  # fmt: skip


def _key(rule: str, labels: dict[str, str]) -> Key:
    return rule, tuple(sorted(labels.items()))


def _alert(
    rule: Rule, labels: dict[str, str], reading: Reading, state: State, since_s: float, before: Alert | None
) -> Alert:
    """As it stands now; when and why it fired stay as they were."""
    numbers = {"value": reading.value, "threshold": rule.threshold, **reading.numbers}
    fresh = Alert(
        id=alert_id(rule.name, labels, since_s), rule=rule.name, severity=rule.severity, state=state,
        since_unix_s=since_s, what=_what(rule, labels, reading), numbers=numbers, advice=rule.advice,
        labels=labels,
    )  # fmt: skip
    if before is None:
        return fresh
    return msgspec.structs.replace(
        fresh, id=before.id, since_unix_s=before.since_unix_s, fired_unix_s=before.fired_unix_s, cause=before.cause,
        cause_kind=before.cause_kind, numbers=before.numbers | numbers,
    )  # fmt: skip


def _what(rule: Rule, labels: dict[str, str], reading: Reading) -> str:
    """`More waits than ten batches hold: queue_per_batch is 12.5 times, over 10 (for 60 s).`"""
    said = rule.what or rule.name
    if reading.why:
        return f"{said}: {reading.why}"
    one = unit(rule.metric)
    side = "over" if rule.above is not None else "under"
    held = f", for {rule.for_s:g} s" if rule.for_s else ""
    whose = "".join(f" of {name}" for label, name in labels.items() if label in ("variant", "worker"))
    value = f"{reading.value:.4g} {one}".rstrip()
    return f"{said}: {rule.metric}{whose} is {value}, {side} {rule.threshold:.4g}{held}."


def replay(rules: Sequence[Rule], slots: Iterable[Slot], slot_s: float = SLOT_S) -> tuple[list[Alert], list[Alert]]:
    """What would have fired over recorded `slots`: the alerts that are over, and those that fire still at the end."""
    evaluator = Evaluator(rules, slot_s=slot_s)
    over: list[Alert] = []
    for slot in slots:
        over += [alert for alert in evaluator.step(slot) if alert.state == "resolved"]
    return over, evaluator.firing
