"""The nouns of alerting, and who is told what: an alert is told once when it fires and once when it is over.

A silence holds the telling back, not the alert: what still fires when it ends is told then. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from freehold.core import Record

Severity = Literal["critical", "warning", "info"]
State = Literal["pending", "firing", "resolved"]


class Alert(Record, frozen=True):
    """One rule over its threshold for one set of labels: from crossed to over."""

    id: str
    """Of this episode: the same rule and labels later are another."""
    rule: str
    severity: Severity
    state: State
    since_unix_s: float
    """Begin of the slot in which the threshold was crossed."""
    fired_unix_s: float | None = None
    resolved_unix_s: float | None = None
    what: str = ""
    """One sentence with the value and the threshold."""
    numbers: dict[str, float] = {}
    cause: str = ""
    """The likely one, in a sentence; empty where nothing speaks for any."""
    cause_kind: str = ""
    advice: str = ""
    labels: dict[str, str] = {}


class Silence(Record, frozen=True):
    """Alerts of rules that match are not told until then."""

    rule: str
    """A name, or a pattern like `slo-*`."""
    until_unix_s: float
    reason: str = ""

    def holds(self, alert: Alert, now_unix_s: float) -> bool:
        return now_unix_s < self.until_unix_s and fnmatchcase(alert.rule, self.rule)


def alert_id(rule: str, labels: dict[str, str], since_unix_s: float) -> str:
    """The same for whoever sees the same slots, so that it is told once."""
    text = msgspec.json.encode([rule, sorted(labels.items()), round(since_unix_s, 3)])
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def silenced_until(alert: Alert, silences: Iterable[Silence], now_unix_s: float) -> float | None:
    """When the last silence on it ends; None: it isn't silenced."""
    return max((each.until_unix_s for each in silences if each.holds(alert, now_unix_s)), default=None)


def to_tell(
    changed: Sequence[Alert], firing: Iterable[Alert], told: set[str], silences: Sequence[Silence], now_unix_s: float
) -> list[Alert]:
    """What is to be told now, most severe first: what fires and hasn't been told, and the end of what has. `told`
    holds the ids of what has been told and isn't over, and is brought up to date."""
    found: dict[str, Alert] = {}
    fires = [*firing, *(each for each in changed if each.state == "firing")]
    for alert in fires:
        if alert.id not in told and silenced_until(alert, silences, now_unix_s) is None:
            told.add(alert.id)
            found[alert.id] = alert
    for alert in changed:
        if alert.state == "resolved" and alert.id in told:
            told.discard(alert.id)
            found[alert.id] = alert
    told.intersection_update(each.id for each in fires)
    ranks = {"critical": 0, "warning": 1, "info": 2}
    return sorted(found.values(), key=lambda each: (each.state != "firing", ranks[each.severity], each.rule))
