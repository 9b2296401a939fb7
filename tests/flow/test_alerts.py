"""Alerts on a real gateway with slots of half a second: told to each kind of receiver, over deaths and silences."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from freehold.gateway.webhooks import signature
from receivers import Hooks, Mails
from served import freehold
from server import Server
from stream import until

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PASSWORD = "between the mail server and us"
RULES = 'rules.runaway = { window = "500ms", clear_for = "0s", labels = { team = "search" } }\n'


class Alerted:
    """The server, its receivers, and the fault that all these tests make: an answer that runs to its limit."""

    def __init__(self, server: Server, hooks: Hooks, mails: Mails, rules: Path) -> None:
        self.server, self.hooks, self.mails, self.rules = server, hooks, mails, rules
        self.http = httpx.Client(base_url=server.url, trust_env=False, timeout=30)

    def run_away(self) -> None:
        body = {"prompt": "Go on and on.", "ignore_eos": True}
        assert self.http.post("/generate", json=body).json()["usage"]["completion_tokens"] == 40

    def told(self) -> dict[str, Any]:
        return dict(self.http.get("/freehold/alerts").json())

    def mailed(self) -> set[str]:
        return {mail["message-id"] for mail in self.mails.got if "runaway" in mail["subject"]}

    def quiet(self) -> None:
        """Wait until nothing fires and everything has been told."""
        until(lambda: not self.told()["data"] and not any(each["waiting"] for each in self.told()["receivers"]))

    def restart_gateway(self) -> None:
        assert self.server.gateway is not None
        self.server.gateway.kill()
        assert self.server.start_gateway()["state"] == "ready"
        self.server.wait_ready()


@pytest.fixture(scope="module")
def alerted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alerted]:
    folder = tmp_path_factory.mktemp("alerts")
    rules = folder / "rules.toml"
    rules.write_text(RULES)
    with Hooks() as hooks, Mails(folder) as mails, pytest.MonkeyPatch.context() as environ:
        environ.setenv("FREEHOLD_SLOT_S", "0.5")
        environ.setenv("SSL_CERT_FILE", str(mails.certificate))
        flags = {
            "alerts.rules": str(rules), "alerts.webhook": f"{hooks.url}/hook", "alerts.webhook_secret": SECRET,
            "alerts.slack": f"{hooks.url}/slack", "alerts.alertmanager": f"{hooks.url}/am",
            "alerts.email_to": "ops@example.org,night@example.org", "alerts.email_server": mails.address,
            "alerts.email_user": "freehold", "alerts.email_password": PASSWORD, "observe.runaway_tokens": 40,
        }  # fmt: skip
        with Server(folder / "server", flags=flags) as server:
            made = Alerted(server, hooks, mails, rules)
            yield made
            made.http.close()


def test_an_alert_and_its_end_are_told_to_every_receiver(alerted: Alerted) -> None:
    alerted.run_away()
    until(lambda: [each["state"] for each in alerted.hooks.alerts()] == ["firing", "resolved"])
    first, last = alerted.hooks.alerts()
    assert first["id"] == last["id"]
    assert (first["rule"], first["severity"], first["labels"]["team"]) == ("runaway", "warning", "search")
    assert "cut" in first["what"]
    assert first["advice"]
    assert first["since_unix_s"] < first["fired_unix_s"] <= last["resolved_unix_s"]
    for path, headers, body in alerted.hooks.got:
        if path == "/hook":
            stamp = int(headers["webhook-timestamp"])
            expected = signature(SECRET, headers["webhook-id"], stamp, body)
            assert headers["webhook-signature"] == expected["webhook-signature"]
    until(lambda: len(alerted.hooks.bodies("/slack")) == 2 and len(alerted.mails.got) == 2)
    assert "[warning] runaway on " in alerted.hooks.bodies("/slack")[0]["text"]
    until(lambda: len(alerted.hooks.bodies("/am/api/v2/alerts")) == 2)
    [[told], [over]] = alerted.hooks.bodies("/am/api/v2/alerts")
    assert told["labels"]["alertname"] == "runaway"
    assert told["startsAt"] == over["startsAt"] < over["endsAt"] < told["endsAt"]
    mail = alerted.mails.got[0]
    assert mail["to"] == "ops@example.org, night@example.org"
    assert mail["subject"].startswith("[warning] runaway on ")
    assert "What to do:" in mail.get_content()
    assert base64.b64decode(alerted.mails.logins[0]).split(b"\0")[1:] == [b"freehold", PASSWORD.encode()]
    log = alerted.server.gateway_log()
    assert '"alert.firing"' in log
    assert SECRET not in log
    assert PASSWORD not in log


def test_a_dead_receiver_loses_nothing_and_holds_up_nobody_though_the_gateway_dies(alerted: Alerted) -> None:
    alerted.quiet()
    alerted.hooks.broken = True
    before, mails = len(alerted.hooks.alerts()), len(alerted.mailed())
    alerted.run_away()
    until(lambda: len(alerted.mailed()) == mails + 2)  # mail is another's line
    until(lambda: alerted.hooks.refused >= 3)
    waiting = {each["kind"]: each for each in alerted.told()["receivers"]}
    assert waiting["webhook"]["waiting"] == 2
    assert "503" in waiting["webhook"]["trouble"]
    alerted.restart_gateway()
    alerted.hooks.broken = False
    until(lambda: len(alerted.hooks.alerts()) == before + 2)
    assert [each["state"] for each in alerted.hooks.alerts()[before:]] == ["firing", "resolved"]
    alerted.quiet()
    assert len(alerted.mailed()) == mails + 2  # it had been told, and isn't told again
    assert alerted.told()["history"][0]["rule"] == "runaway"


def test_a_wrong_rules_file_changes_nothing_and_is_said(alerted: Alerted) -> None:
    alerted.rules.write_text('rules.runaway = { metric = "runaway", above = 3 }\n')
    until(lambda: bool(alerted.told()["rules_error"]))
    error = alerted.told()["rules_error"]
    assert "line 1" in error
    assert "Did you mean 'runaways'?" in error
    [rule] = [each for each in alerted.told()["rules"] if each["name"] == "runaway"]
    assert (rule["window_s"], rule["above"]) == (0.5, 0.0)
    alerted.run_away()
    until(lambda: any(each["rule"] == "runaway" for each in alerted.told()["data"]))
    alerted.restart_gateway()  # a new one knows the last good file
    [rule] = [each for each in alerted.told()["rules"] if each["name"] == "runaway"] or [{}]
    until(lambda: bool(alerted.told()["rules_error"]))
    [rule] = [each for each in alerted.told()["rules"] if each["name"] == "runaway"]
    assert rule["window_s"] == 0.5
    alerted.rules.write_text(RULES + "rules.queue-long = { above = 99 }\n")
    until(lambda: not alerted.told()["rules_error"])
    assert 99.0 in [each["above"] for each in alerted.told()["rules"]]


def test_a_silence_holds_back_and_its_end_tells(alerted: Alerted) -> None:
    alerted.rules.write_text('rules.runaway = { window = "500ms", clear_for = "1h" }\n')  # it goes on firing
    until(lambda: 99.0 not in [each["above"] for each in alerted.told()["rules"]])
    alerted.quiet()
    before, url, home = len(alerted.hooks.alerts()), alerted.server.url, alerted.server.folder
    done = freehold("alerts", "silence", "run*", "--for", "1h", "--reason", "we know", "--url", url, home=home)
    assert done.returncode == 0, done.stderr
    alerted.run_away()
    until(lambda: any(each["state"] == "firing" for each in alerted.told()["data"]))
    assert alerted.told()["data"][0]["silenced_until_unix_s"] > 1e9
    alerted.restart_gateway()
    assert len(alerted.hooks.alerts()) == before
    shown = freehold("alerts", "list", "--url", url, home=home).stdout
    assert "firing   warning  runaway  silenced until" in shown
    assert "we know" in shown
    ended = alerted.http.delete("/freehold/alerts/silence/run*")
    assert ended.json() == {"rule": "run*"}
    until(lambda: len(alerted.hooks.alerts()) == before + 1)
    assert alerted.http.delete("/freehold/alerts/silence/run*").status_code == 404
    for wrong in ({"rule": "x"}, {"rule": "x", "seconds": 0}, {"rule": "", "seconds": 1}, {"rule": "x", "for": "1h"}):
        assert alerted.http.post("/freehold/alerts/silence", json=wrong).status_code == 400


def test_a_test_says_what_became_of_it(alerted: Alerted) -> None:
    told = alerted.http.post("/freehold/alerts/test").json()["data"]
    kinds = ("webhook", "slack", "alertmanager", "email")
    assert {each["kind"]: each["delivered"] for each in told} == dict.fromkeys(kinds, True)
    assert alerted.hooks.bodies("/hook")[-1]["type"] == "alerts.test"
    alerted.hooks.broken = True
    done = freehold("alerts", "test", "--url", alerted.server.url, home=alerted.server.folder)
    alerted.hooks.broken = False
    assert done.returncode == 1
    assert "503" in done.stdout
    assert "email         localhost: delivered" in done.stdout


def test_a_wrong_rules_file_is_said_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text("[rules.x]\nmetric = 'queue'\n")
    rules = f"alerts.rules={tmp_path / 'rules.toml'}"
    done = freehold("serve", "sim:instant", "--port", "0", "--set", rules, home=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "line 2" in done.stderr
