"""`freehold alerts replay`: recorded slots through the rules as they are now, and through the SLO itself."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from freehold import slo
from freehold.config import Config
from freehold.core import Record
from freehold.errors import UsageError
from freehold.slo import Objective
from freehold.telemetry.alerts import Alert
from freehold.telemetry.builtin import built_in
from freehold.telemetry.evaluate import Evaluator
from freehold.telemetry.history import history_path
from freehold.telemetry.history_read import read_slots
from freehold.telemetry.measures import unknown
from freehold.telemetry.played import slots_of
from freehold.telemetry.rules import Rule, read, seconds
from freehold.telemetry.slot import Slot

BROKEN_S = 300.0
"""An objective is broken once it doesn't hold over so long."""


class Asked(Record, frozen=True):
    """What is to be replayed."""

    run: str | None = None
    port: int = 8000
    history: str | None = None
    since: str | None = None
    batch: int = 0


class Breach(Record, frozen=True):
    """A time in which an objective did not hold, over `BROKEN_S`."""

    objective: str
    at_unix_s: float
    warned_s: float | None
    """How long before it the first alert of the objective's own fired (negative: after it); None: none did."""


class Replayed(Record, frozen=True):
    """What would have been."""

    slots: int
    seconds: float
    begin_unix_s: float
    alerts: list[Alert]
    """In the order in which they fired; the last may fire still."""
    breaches: list[Breach]
    rules: int


def replayed(config: Config, asked: Asked) -> Replayed:
    """Raises `UsageError`, `ConfigError` for wrong rules, `StoreError` for a history that can't be read."""
    objectives = slo.parse(config.observe.slo) if config.observe.slo else ()
    rules = built_in(objectives)
    if config.alerts.rules:
        rules = read(Path(config.alerts.rules), rules, unknown)
    return run(rules, objectives, _slots(config, asked, objectives))


def run(rules: Iterable[Rule], objectives: Iterable[Objective], slots: Iterable[Slot]) -> Replayed:
    """Slot by slot, as a gateway would have."""
    told = tuple(rules)
    evaluator, judge = Evaluator(told), Evaluator([_broken(each) for each in objectives])
    fired: dict[str, Alert] = {}
    broken: dict[str, Alert] = {}
    first: Slot | None = None
    count, end_s = 0, 0.0
    for slot in slots:
        first = first or slot
        count, end_s = count + 1, slot.begin_unix_s + slot.seconds
        fired |= {each.id: each for each in evaluator.step(slot)}
        for each in judge.step(slot):
            broken.setdefault(each.id, each)
    if first is None:
        raise UsageError("Nothing was recorded in that time.", next="Look further back with --since.")
    alerts = sorted(fired.values(), key=lambda each: each.fired_unix_s or 0.0)
    breaches = [_breach(each, alerts) for each in broken.values()]
    return Replayed(
        slots=count, seconds=end_s - first.begin_unix_s, begin_unix_s=first.begin_unix_s, alerts=alerts,
        breaches=breaches, rules=len(told),
    )  # fmt: skip


def _slots(config: Config, asked: Asked, objectives: tuple[Objective, ...]) -> Iterator[Slot]:
    if asked.run is not None:
        from freehold.loadtest.record import open_run

        recorded = open_run(Path(asked.run))
        told = recorded.manifest
        return slots_of(
            recorded.samples(), told.model, told.started_unix_s, objectives=objectives, batch_limit=asked.batch
        )  # fmt: skip
    path = Path(asked.history) if asked.history else history_path(config.home, asked.port)
    try:
        since_s = time.time() - seconds(asked.since) if asked.since else 0.0
    except ValueError as error:
        raise UsageError(f"--since {asked.since}: {error}.") from None
    return read_slots(path, since_s)


def _broken(objective: Objective) -> Rule:
    """The objective itself, as a rule: over its whole limit, over `BROKEN_S`."""
    near = next(each for each in built_in([objective]) if each.name.startswith("slo-"))
    limit = objective.allowed if objective.metric == "error" else objective.limit_ms
    return Rule(
        name=near.name, metric=near.metric, above=limit, window_s=BROKEN_S, clear_for_s=BROKEN_S, what=str(objective)
    )  # fmt: skip


def _breach(broken: Alert, alerts: list[Alert]) -> Breach:
    at_s = broken.fired_unix_s or broken.since_unix_s
    own = [
        each.fired_unix_s for each in alerts
        if each.fired_unix_s is not None and each.rule.startswith("slo-")
        and each.labels.get("variant") == broken.labels.get("variant")
        and (each.resolved_unix_s is None or each.resolved_unix_s >= at_s)
    ]  # fmt: skip
    warned_s = at_s - min(own) if own else None
    return Breach(objective=broken.what.split(":")[0], at_unix_s=at_s, warned_s=warned_s)


def show(told: Replayed) -> None:
    """For people: what fired and when, counted from the first slot."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("fired at", "lasted", "severity", "rule", "what, and why"):
        table.add_column(heading, overflow="fold")
    for alert in told.alerts:
        fired_s = (alert.fired_unix_s or alert.since_unix_s) - told.begin_unix_s
        lasted = "still fires" if alert.resolved_unix_s is None else _span(alert.resolved_unix_s - alert.since_unix_s)
        table.add_row(_span(fired_s), lasted, alert.severity, alert.rule, escape(f"{alert.what} {alert.cause}".strip()))
    over = f"{told.slots} slots, {_span(told.seconds)}, {told.rules} rules"
    console.print(f"{over}: {len(told.alerts)} would have fired.")
    if told.alerts:
        console.print(table)
    for breach in told.breaches:
        at = _span(breach.at_unix_s - told.begin_unix_s)
        if breach.warned_s is None:
            how = "nothing had warned"
        else:
            how = f"{'warned' if breach.warned_s >= 0 else 'told'} {_span(abs(breach.warned_s))} "
            how += "before" if breach.warned_s >= 0 else "after"
        console.print(f"{breach.objective} was broken at {at}: {how}.")


def _span(seconds_: float) -> str:
    minutes, left_s = divmod(round(seconds_), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes}:{left_s:02d}"
