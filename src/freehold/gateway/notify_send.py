"""The receivers of alerts, and one try to tell one of them. HTTP for three, SMTP for the fourth.

smtplib blocks, so a mail goes out in a thread of its own. What goes wrong is told without addresses and secrets: a
webhook's URL may hold one.
"""

from __future__ import annotations

import asyncio
import smtplib
import ssl
import time
from collections.abc import Sequence
from typing import Literal
from urllib.parse import urlsplit

import httpx

from freehold.core import Record
from freehold.errors import ConfigError, FreeholdError, InvalidRequest
from freehold.gateway import notify_forms as forms
from freehold.gateway.notify_forms import Notice
from freehold.gateway.webhooks import secret_bytes, signature
from freehold.settings import AlertsConfig
from freehold.telemetry.alerts import Alert

Kind = Literal["webhook", "slack", "alertmanager", "email"]
ANSWER_S = 10.0
MAIL_S = 20.0
PORTS = {"starttls": 587, "tls": 465, "off": 25}
UNFIT = frozenset({400, 413, 415, 422})
"""Statuses that are about what was sent: sent again it fares no better."""


class Undelivered(FreeholdError):
    """Once more later, unless it is `unfit`."""

    code = "undelivered"
    unfit = False


class Receiver(Record, frozen=True):
    """Where alerts go. The log is told in any case."""

    kind: Kind
    url: str = ""
    """For mail HOST:PORT."""
    secret: str = ""
    """Of a webhook; for mail the password."""
    user: str = ""
    tls: Literal["starttls", "tls", "off"] = "starttls"
    sender: str = ""
    to: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        """All of the address that may be told."""
        return (self.url.rpartition(":")[0] if self.kind == "email" else urlsplit(self.url).hostname) or ""


def receivers(alerts: AlertsConfig, server_secret: str = "") -> list[Receiver]:
    """From the settings. Raises `ConfigError` for one that can't be told anything."""
    found = []
    if alerts.webhook:
        secret = alerts.webhook_secret or server_secret
        try:
            secret_bytes(secret)
        except InvalidRequest as error:
            raise ConfigError("alerts.webhook can't be signed.", error.why, "Set alerts.webhook_secret.") from None
        found.append(Receiver(kind="webhook", url=_url("webhook", alerts.webhook), secret=secret))
    if alerts.slack:
        found.append(Receiver(kind="slack", url=_url("slack", alerts.slack)))
    if alerts.alertmanager:
        found.append(Receiver(kind="alertmanager", url=_url("alertmanager", alerts.alertmanager).rstrip("/")))
    if alerts.email_to:
        found.append(_mail(alerts))
    elif alerts.email_server:
        raise ConfigError("alerts.email_server is set, and nobody to write to.", next="Set alerts.email_to.")
    return found


def _url(name: str, url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        good = False
    if not good:
        raise ConfigError(f"alerts.{name} is no URL.", next="Write it whole, as in https://example.org/alerts.")
    return url


def _mail(alerts: AlertsConfig) -> Receiver:
    host, _, port = alerts.email_server.rpartition(":") if ":" in alerts.email_server else (alerts.email_server, "", "")
    if not host or not (port or "1").isdigit():
        raise ConfigError("alerts.email_server is no mail server.", next="Write HOST or HOST:PORT.")
    if alerts.email_user and alerts.email_tls == "off":
        raise ConfigError("A password isn't sent in the clear.", next="Set alerts.email_tls to starttls or tls.")
    sender = alerts.email_from or alerts.email_to[0]
    for address in (sender, *alerts.email_to):
        if "@" not in address or any(each in address for each in "\r\n"):
            raise ConfigError(f"{address!r} is no mail address.", next="Correct alerts.email_to and alerts.email_from.")
    return Receiver(
        kind="email", url=f"{host}:{port or PORTS[alerts.email_tls]}", user=alerts.email_user,
        secret=alerts.email_password, tls=alerts.email_tls, sender=sender, to=alerts.email_to,
    )  # fmt: skip


async def send(receiver: Receiver, notice: Notice) -> None:
    """One try. Raises `Undelivered`."""
    match receiver.kind:
        case "webhook":
            body = forms.webhook(notice)
            await _post(receiver, receiver.url, body, signature(receiver.secret, notice.id, int(time.time()), body))
        case "slack":
            await _post(receiver, receiver.url, forms.slack(notice))
        case "alertmanager":
            await repeat(receiver, notice.alerts, notice.server)
        case "email":
            await asyncio.to_thread(_mail_out, receiver, notice)


async def repeat(receiver: Receiver, alerts: Sequence[Alert], server: str) -> None:
    """Tell an Alertmanager how alerts are now."""
    await _post(receiver, f"{receiver.url}/api/v2/alerts", forms.alertmanager(alerts, server, time.time()))


async def _post(receiver: Receiver, url: str, body: bytes, headers: dict[str, str] | None = None) -> None:
    told = {"content-type": "application/json", "user-agent": "freehold", **(headers or {})}
    proxied = receiver.host not in ("127.0.0.1", "localhost", "::1")
    try:
        async with (
            asyncio.timeout(2 * ANSWER_S),
            httpx.AsyncClient(timeout=ANSWER_S, trust_env=proxied) as http,
            http.stream("POST", url, content=body, headers=told) as reply,  # what else it says isn't read
        ):
            status, after = reply.status_code, reply.headers.get("retry-after", "")
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
        raise Undelivered(f"{receiver.host} can't be reached.", type(error).__name__) from None
    if not 200 <= status < 300:
        refused = Undelivered(f"{receiver.host} answered with status {status}.")
        refused.unfit = status in UNFIT
        refused.retry_after_s = float(after) if after.isdigit() else None
        raise refused


def _mail_out(receiver: Receiver, notice: Notice) -> None:
    host, _, port = receiver.url.rpartition(":")
    secure = ssl.create_default_context()
    try:
        if receiver.tls == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(host, int(port), timeout=MAIL_S, context=secure)
        else:
            server = smtplib.SMTP(host, int(port), timeout=MAIL_S)
        with server:
            if receiver.tls == "starttls":
                server.starttls(context=secure)
            if receiver.user:
                server.login(receiver.user, receiver.secret)
            server.send_message(forms.email(notice, receiver.sender, receiver.to), to_addrs=receiver.to)
    except smtplib.SMTPResponseException as error:
        undelivered = Undelivered(f"{host} answered with {error.smtp_code}.", type(error).__name__)
        undelivered.unfit = isinstance(error, smtplib.SMTPDataError) and error.smtp_code >= 500
        raise undelivered from None
    except (smtplib.SMTPException, OSError, UnicodeError) as error:
        raise Undelivered(f"{host} can't be reached.", type(error).__name__) from None
