"""GET /freehold/alerts: what fires, what was, who is told. Silences and tests are for who may change what runs here."""

from __future__ import annotations

import time
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from freehold.core import Json
from freehold.errors import NotFound
from freehold.gateway.alerting import Alerting
from freehold.gateway.auth import Guard
from freehold.gateway.control import check_admin
from freehold.gateway.docs import READING, errors
from freehold.gateway.routing import reply
from freehold.telemetry.alerts import Alert, Silence, silenced_until

RuleName = Annotated[str, Path(max_length=200, description="A rule's name, or the pattern that was silenced.")]


class AlertReply(BaseModel):
    """One alert."""

    id: str
    rule: str
    severity: str
    state: str = Field(description="pending, firing or resolved.")
    since_unix_s: float
    fired_unix_s: float | None
    resolved_unix_s: float | None
    what: str
    numbers: dict[str, float]
    cause: str = Field(description="The likely one, in a sentence.")
    cause_kind: str = Field(description="worker, memory, steps, prefill, client, queue, demand or unknown.")
    advice: str
    labels: dict[str, str]
    silenced_until_unix_s: float | None


class RuleReply(BaseModel):
    """One rule in force."""

    name: str
    metric: str
    above: float | None
    below: float | None
    window_s: float
    for_s: float
    severity: str


class ReceiverReply(BaseModel):
    """Who is told, and how that goes."""

    kind: str
    host: str
    waiting: int = Field(description="Notices that it hasn't had.")
    trouble: str = Field(description="Why it doesn't get through; empty while it does.")
    delivered_unix_s: float | None


class SilenceReply(BaseModel):
    """Alerts of rules like this are not told until then."""

    rule: str
    until_unix_s: float
    reason: str


class AlertList(BaseModel):
    """`data`: pending and firing, the longest first; `history`: over, the newest first."""

    data: list[AlertReply]
    history: list[AlertReply]
    silences: list[SilenceReply]
    receivers: list[ReceiverReply]
    rules: list[RuleReply]
    rules_error: str = Field(description="Why the rules' file was not taken; the rules before it hold.")


class SilenceBody(BaseModel):
    """What shall not be told, and for how long."""

    model_config = ConfigDict(extra="forbid")

    rule: str = Field(min_length=1, max_length=200, description="A rule's name, or a pattern like `slo-*`.")
    seconds: float = Field(gt=0, le=31_536_000.0)
    reason: str = Field("", max_length=1000)


class Unsilenced(BaseModel):
    """What is told again."""

    rule: str


class Tested(BaseModel):
    """What became of the test with one receiver."""

    kind: str
    host: str
    delivered: bool
    why: str


class TestList(BaseModel):
    """Empty where no receiver is set: then only the log is told."""

    data: list[Tested]


def alerts_router(alerts: Alerting, guard: Guard) -> APIRouter:
    router = APIRouter()

    def admin(request: Request) -> None:
        check_admin(request, guard)

    may = [Depends(admin)]

    @router.get("/freehold/alerts", response_model=AlertList, responses=errors(*READING), operation_id="list_alerts")
    async def list_alerts() -> Response:
        """Alerts that are pending, firing and over, silences, rules, and how telling goes."""
        return reply(_told(alerts, time.time()))

    @router.post(
        "/freehold/alerts/silence", dependencies=may, response_model=SilenceReply, responses=errors(*READING, 413),
        operation_id="silence_alerts",
    )  # fmt: skip
    async def silence_alerts(body: SilenceBody) -> Response:
        """Tell nobody of these for a while. What still fires then is told."""
        return reply(_silence(alerts.silence(body.rule, body.seconds, body.reason)))

    @router.delete(
        "/freehold/alerts/silence/{rule}", dependencies=may, response_model=Unsilenced,
        responses=errors(*READING, 404), operation_id="unsilence_alerts",
    )  # fmt: skip
    async def unsilence_alerts(rule: RuleName) -> Response:
        """End a silence."""
        if not alerts.unsilence(rule):
            raise NotFound(f"There is no silence on {rule!r}.", next="GET /freehold/alerts lists them.")
        return reply({"rule": rule})

    @router.post(
        "/freehold/alerts/test", dependencies=may, response_model=TestList, responses=errors(*READING),
        operation_id="test_alerts",
    )  # fmt: skip
    async def test_alerts() -> Response:
        """Send a test to every receiver at once, and say what became of it."""
        return reply({"data": [msgspec.structs.asdict(each) for each in await alerts.test()]})

    return router


def _told(alerts: Alerting, now_s: float) -> Json:
    current = sorted(alerts.evaluator.alerts, key=lambda each: each.since_unix_s)
    shown = ("name", "metric", "above", "below", "window_s", "for_s", "severity")
    return {
        "data": [_alert(each, silenced_until(each, alerts.silences, now_s)) for each in current],
        "history": [_alert(each, None) for each in reversed(alerts.over)],
        "silences": [_silence(each) for each in alerts.silences if each.until_unix_s > now_s],
        "receivers": [
            {
                "kind": line.receiver.kind, "host": line.receiver.host, "waiting": len(line.waiting),
                "trouble": line.trouble, "delivered_unix_s": line.delivered_unix_s,
            }
            for line in alerts.notifier.lines.values()
        ],
        "rules": [{name: getattr(rule, name) for name in shown} for rule in alerts.evaluator.rules],
        "rules_error": alerts.rules_error,
    }  # fmt: skip


def _alert(alert: Alert, silenced_until_s: float | None) -> Json:
    return msgspec.structs.asdict(alert) | {"silenced_until_unix_s": silenced_until_s}


def _silence(silence: Silence) -> Json:
    return msgspec.structs.asdict(silence)
