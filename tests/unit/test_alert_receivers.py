"""What receivers are told, and who can't be set up; what must outlive a gateway, on a disk that may fail."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from freehold.config import load
from freehold.errors import ConfigError
from freehold.gateway import notify_forms as forms
from freehold.gateway.alert_setup import check
from freehold.gateway.alert_store import KEPT_ALERTS, AlertStore, Waiting, opened
from freehold.gateway.notify_forms import Notice
from freehold.telemetry.alerts import Alert

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
FIRING = Alert(
    id="1", rule="queue-long", severity="critical", state="firing", since_unix_s=1e9, fired_unix_s=1e9 + 60,
    what="More waits <than> ten batches & more", cause="The queue: 90 wait.", advice="Add workers.",
    labels={"variant": "v"},
)  # fmt: skip
OVER = msgspec.structs.replace(FIRING, id="2", state="resolved", resolved_unix_s=1e9 + 600)
NOTICE = Notice(id="msg_1", at_unix_s=1e9 + 61, server="here:8000", alerts=(FIRING, OVER))


def test_a_webhook_tells_every_field() -> None:
    told = json.loads(forms.webhook(NOTICE))
    assert (told["type"], told["timestamp"]) == ("alerts.firing", "2001-09-09T01:47:41.000Z")
    assert told["data"]["server"] == "here:8000"
    assert set(told["data"]["alerts"][0]) == set(Alert.__struct_fields__)
    over = msgspec.structs.replace(NOTICE, alerts=(OVER,))
    assert json.loads(forms.webhook(over))["type"] == "alerts.resolved"


def test_slack_reads_no_markup_in_what_is_told() -> None:
    told = json.loads(forms.slack(NOTICE))
    assert told["text"] == "[critical] queue-long on here:8000 (and 1 more)"
    assert "&lt;than&gt; ten batches &amp; more" in told["blocks"][1]["text"]["text"]
    assert "Over after 10 min" in told["blocks"][2]["text"]["text"]


def test_an_alertmanager_is_told_when_it_ends() -> None:
    firing, over = json.loads(forms.alertmanager(NOTICE.alerts, "here:8000", 1e9 + 100))
    assert firing["labels"] == {
        "variant": "v", "alertname": "queue-long", "severity": "critical", "instance": "here:8000", "job": "freehold",
    }  # fmt: skip
    assert (firing["startsAt"], firing["endsAt"]) == ("2001-09-09T01:46:40.000Z", "2001-09-09T01:52:20.000Z")
    assert over["endsAt"] == "2001-09-09T01:56:40.000Z"


def test_a_mail_says_what_to_do() -> None:
    mail = forms.email(NOTICE, "a@example.org", ("b@example.org", "c@example.org"))
    assert mail["Subject"] == "[critical] queue-long on here:8000 (and 1 more)"
    assert mail["Auto-Submitted"] == "auto-generated"
    text = mail.get_content()
    assert "Likely cause: The queue: 90 wait." in text
    assert "What to do: Add workers." in text


WRONG = [
    ({"alerts.webhook": "https://example.org/x"}, "alerts.webhook_secret"),
    ({"alerts.webhook": "https://example.org/x", "alerts.webhook_secret": "short"}, "can't be signed"),
    ({"alerts.webhook": "ftp://example.org", "alerts.webhook_secret": SECRET}, "alerts.webhook is no URL"),
    ({"alerts.slack": "hooks.slack.com/x"}, "alerts.slack is no URL"),
    ({"alerts.alertmanager": "http://:9093"}, "alerts.alertmanager is no URL"),
    ({"alerts.email_to": "ops"}, "email_server"),
    ({"alerts.email_to": "ops", "alerts.email_server": "mail"}, "'ops' is no mail address"),
    ({"alerts.email_to": "a@b.c", "alerts.email_server": "mail:x"}, "HOST:PORT"),
    ({"alerts.email_server": "mail"}, "email_to"),
    (
        {"alerts.email_to": "a@b.c", "alerts.email_server": "m", "alerts.email_user": "u", "alerts.email_tls": "off"},
        "in the clear",
    ),
    ({"alerts.rules": "none.toml"}, "none.toml"),
]


@pytest.mark.parametrize(("flags", "word"), WRONG, ids=[each[1] for each in WRONG])
def test_what_can_not_be_set_up_is_said(flags: dict[str, str], word: str, tmp_path: Path) -> None:
    config, _ = load(flags, environ={"FREEHOLD_HOME": str(tmp_path)})
    with pytest.raises(ConfigError) as caught:
        check(config)
    assert word in str(caught.value)
    assert "short" not in str(caught.value)


def test_what_is_set_up_well_says_nothing(tmp_path: Path) -> None:
    flags = {"alerts.webhook": "https://example.org/x?token=1", "server.webhook_secret": SECRET}
    flags |= {"alerts.email_to": "a@b.c", "alerts.email_server": "[::1]:25", "alerts.email_tls": "off"}
    check(load(flags, environ={"FREEHOLD_HOME": str(tmp_path)})[0])


def test_the_store_gives_back_what_it_was_given(tmp_path: Path) -> None:
    store = AlertStore(tmp_path / "state" / "alerts.sqlite")
    later = msgspec.structs.replace(NOTICE, id="msg_2", at_unix_s=2e9)
    store.put([Waiting("slack", later), Waiting("slack", NOTICE), Waiting("email", NOTICE)])
    store.keep("told", msgspec.msgpack.encode({"1"}))
    store.remember([FIRING])
    store.remember([msgspec.structs.replace(FIRING, state="resolved")])
    store.close()
    store = AlertStore(tmp_path / "state" / "alerts.sqlite")
    assert [each.notice.id for each in store.waiting() if each.receiver == "slack"] == ["msg_1", "msg_2"]
    store.delivered(Waiting("slack", NOTICE))
    assert {(each.receiver, each.notice.id) for each in store.waiting()} == {("slack", "msg_2"), ("email", "msg_1")}
    assert store.kept("told", set[str]) == {"1"}
    assert store.kept("told", int) is None  # another version's
    assert store.kept("none", str) is None
    assert [each.state for each in store.remembered()] == ["resolved"]
    store.remember([msgspec.structs.replace(FIRING, id=str(number)) for number in range(KEPT_ALERTS + 5)])
    assert len(store.remembered(2 * KEPT_ALERTS)) == KEPT_ALERTS
    store.close()


def test_a_file_that_is_no_database_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "alerts.sqlite").write_bytes(b"not a database, not at all" * 100)
    store = opened(tmp_path / "alerts.sqlite")
    assert store.waiting() == []
    store.close()
    assert (tmp_path / "alerts.broken").exists()
