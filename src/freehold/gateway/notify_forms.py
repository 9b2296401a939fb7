"""A notice in the form that each kind of receiver wants. Pure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

import msgspec

from freehold.core import Json, Record
from freehold.telemetry.alerts import Alert

STILL_S = 240.0
"""An Alertmanager takes an alert for over if it hasn't heard of it for so long; it is told every minute."""
LONGEST = 2900
"""Characters that Slack takes in one block, about."""


class Notice(Record, frozen=True):
    """What is told at one time: all that began to fire or is over with one slot, most severe first."""

    id: str
    """The same at every try, so that a receiver can leave out what it has had."""
    at_unix_s: float
    server: str
    """Whose alerts these are: HOST:PORT."""
    alerts: tuple[Alert, ...]
    test: bool = False

    @property
    def kind(self) -> str:
        if self.test:
            return "alerts.test"
        return "alerts.firing" if any(each.state == "firing" for each in self.alerts) else "alerts.resolved"


def title(notice: Notice) -> str:
    """`[critical] load-failed on 127.0.0.1:8000 (and 2 more)`, short enough for a subject line."""
    first = notice.alerts[0]
    mark = "test" if notice.test else first.severity if first.state == "firing" else "resolved"
    more = f" (and {len(notice.alerts) - 1} more)" if len(notice.alerts) > 1 else ""
    return f"[{mark}] {first.rule} on {notice.server}{more}"


def lines(alert: Alert) -> list[str]:
    """What a person is told of one alert."""
    if alert.state == "resolved":
        lasted_s = (alert.resolved_unix_s or alert.since_unix_s) - alert.since_unix_s
        return [f"Over after {span(lasted_s)}: {alert.what}"]
    found = [alert.what, f"Since {clock(alert.since_unix_s)}."]
    if alert.cause:
        found.append(f"Likely cause: {alert.cause}")
    if alert.advice:
        found.append(f"What to do: {alert.advice}")
    return found


def webhook(notice: Notice) -> bytes:
    """In the shape of Standard Webhooks: type, timestamp, data."""
    told = {
        "type": notice.kind,
        "timestamp": _iso(notice.at_unix_s),
        "data": {"server": notice.server, "alerts": [msgspec.structs.asdict(each) for each in notice.alerts]},
    }
    return msgspec.json.encode(told)


def slack(notice: Notice) -> bytes:
    parts = ["\n".join(lines(each)) for each in notice.alerts]
    blocks: list[Json] = [
        {"type": "section", "text": {"type": "mrkdwn", "text": f"*{_escaped(title(notice))}*"}},
        *({"type": "section", "text": {"type": "mrkdwn", "text": _escaped(text)[:LONGEST]}} for text in parts[:40]),
    ]
    return msgspec.json.encode({"text": _escaped(title(notice)), "blocks": blocks})


def alertmanager(alerts: Sequence[Alert], server: str, now_unix_s: float) -> bytes:
    """The body of POST /api/v2/alerts. One that fires is told to end soon, and told again before."""
    return msgspec.json.encode([_for_alertmanager(each, server, now_unix_s) for each in alerts])


def _for_alertmanager(alert: Alert, server: str, now_unix_s: float) -> Json:
    labels = {"alertname": alert.rule, "severity": alert.severity, "instance": server, "job": "freehold"}
    ends_s = alert.resolved_unix_s if alert.resolved_unix_s is not None else now_unix_s + STILL_S
    told: dict[str, Any] = {
        "labels": {**alert.labels, **labels},
        "annotations": {"summary": alert.what, "cause": alert.cause, "description": alert.advice},
        "startsAt": _iso(alert.since_unix_s),
        "endsAt": _iso(ends_s),
    }
    return told


def email(notice: Notice, sender: str, to: Sequence[str]) -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = title(notice)
    message["From"] = sender
    message["To"] = ", ".join(to)
    message["Date"] = format_datetime(datetime.fromtimestamp(notice.at_unix_s, UTC))
    message["Message-ID"] = f"<{notice.id}@freehold.invalid>"  # the same at every try
    message["Auto-Submitted"] = "auto-generated"
    message.set_content("\n\n".join("\n".join((_heading(each), *lines(each))) for each in notice.alerts) + "\n")
    return message


def _heading(alert: Alert) -> str:
    labels = " ".join(f"{name}={value}" for name, value in alert.labels.items())
    return f"{alert.rule} ({alert.severity}) {labels}".rstrip()


def clock(unix_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(unix_s))


def span(seconds: float) -> str:
    """`42 s`, `12 min`, `3.4 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _iso(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
