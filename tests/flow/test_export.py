"""What `freehold export` writes: taken by promtool, right in what it says of a series, and all of it in /metrics."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from freehold.telemetry.metrics import Metrics
from served import freehold

SLO = "p99 e2e < 500ms, p95 ttft < 200ms, error rate < 1%"
RULES = """
rules.slow-search = { metric = "p95_ttft_ms", above = 150, only = { variant = 'a"b' }, labels = { team = "search" } }
rules.alone = { metric = "workers_ready", below = 2, for = "90s" }
rules.many-give-up = { metric = "cancelled_share", above = 0.5 }
rules.queue-deep = { metric = "queue_depth", above = 1000 }
rules.dear = { metric = "cost_per_successful_request_usd", above = 0.01 }
"""
SERIES = """
rule_files: [RULES]
evaluation_interval: 15s
tests:
  - interval: 15s
    input_series:
      - { series: 'freehold_queue_depth_per_batch', values: '1x10 12x20 1x20' }
      - { series: 'freehold_load_failures_total{worker="worker-2"}', values: '_x20 1x40' }
      - { series: 'freehold_good_requests_total{variant="v"}', values: '0+10x300' }
      - { series: 'freehold_request_outcomes_total{variant="v", outcome="ok"}', values: '0+10x300' }
      - { series: 'freehold_request_outcomes_total{variant="v", outcome="failed"}', values: '0+20x300' }
      - { series: 'freehold_running', values: '1x300' }
    alert_rule_test:
      - { eval_time: 3m, alertname: FreeholdQueueLong, exp_alerts: [] }
      - { eval_time: 6m, alertname: FreeholdQueueLong, exp_alerts: [{ exp_labels: { severity: warning } }] }
      - { eval_time: 12m, alertname: FreeholdQueueLong, exp_alerts: [] }
      - eval_time: 6m
        alertname: FreeholdLoadFailed
        exp_alerts: [{ exp_labels: { severity: critical, worker: worker-2 } }]
      - eval_time: 60m
        alertname: FreeholdSloBurnFast
        exp_alerts: [{ exp_labels: { severity: critical, variant: v } }]
      - { eval_time: 60m, alertname: FreeholdFailing, exp_alerts: [{ exp_labels: { severity: critical, variant: v } }] }
"""


def promtool() -> str:
    """From PATH; on Debian as root it is installed when missing. Never skips in silence."""
    found = shutil.which("promtool")
    if found:
        return found
    if os.geteuid() == 0 and Path("/etc/debian_version").exists():
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "-y", "--no-install-recommends", "prometheus"]
        for command in (["apt-get", "update"], install):
            subprocess.run(command, check=True, env=environ, stdout=subprocess.DEVNULL)
        return shutil.which("promtool") or pytest.fail("apt-get installed no promtool")
    pytest.fail("This test needs promtool. Install it (Debian: `apt-get install prometheus`).")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("export")
    (home / "rules.toml").write_text(RULES)
    done = freehold("export", "--slo", SLO, "--rules", str(home / "rules.toml"), "--out", "out", "--json", home=home)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout.splitlines()[-1])["files"]) == 4
    return home / "out"


def test_promtool_takes_the_rules(folder: Path) -> None:
    done = subprocess.run([promtool(), "check", "rules", folder / "freehold.rules.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"SUCCESS: \d{2} rules found", done.stdout)


def test_the_alerts_fire_where_they_should(folder: Path) -> None:
    text = (folder / "freehold.rules.yml").read_text()
    bare = folder / "bare.yml"  # the sentences are no part of this
    bare.write_text(re.sub(r" +annotations:\n +summary: .*\n +description: .*\n", "", text))
    tests = folder / "tests.yml"
    tests.write_text(SERIES.replace("RULES", bare.name))
    done = subprocess.run([promtool(), "test", "rules", tests], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_name_is_one_that_metrics_has(folder: Path) -> None:
    known = set()
    for family in Metrics().registry.collect():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(family.type, ("",))
        known |= {family.name + suffix for suffix in suffixes}
    for path in folder.iterdir():
        used = set(re.findall(r"(?<!:)\bfreehold_[a-z0-9_]+", path.read_text())) - {"freehold_slo_misses"}
        assert used
        assert not used - known - {name.rsplit("_bucket")[0] for name in known}, path


def test_what_is_left_out_is_said(folder: Path) -> None:
    text = (folder / "freehold.rules.yml").read_text()
    assert "Only Freehold itself can decide: steps-slow." in text
    for alert in (
        "FreeholdSloP99E2e",
        "FreeholdSloErrorShare",
        "FreeholdSlowSearch",
        "FreeholdAlone",
        "FreeholdNoSamples",
    ):
        assert f'"{alert}"' in text
    assert r"variant=\"a\\\"b\"" in text
    assert 'team: "search"' in text


def test_sloth_and_openslo_promise_the_same(folder: Path) -> None:
    sloth = (folder / "freehold.sloth.yml").read_text()
    assert 'version: "prometheus/v1"' in sloth
    assert "objective: 93.0" in sloth  # of the 1 %, 5 % and 1 % that may miss
    assert sloth.count("[{{.window}}]") > 3
    openslo = (folder / "freehold.openslo.yml").read_text()
    assert 'apiVersion: "openslo/v1"' in openslo
    assert "target: 0.93" in openslo


def test_the_dashboard_shows_the_limits(folder: Path) -> None:
    told = json.loads((folder / "freehold.dashboard.json").read_text())
    panels = {panel["title"]: panel for panel in told["panels"]}
    steps = panels["End to end: p50, p95, p99"]["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert steps[-1]["value"] == 0.5
    assert len({tuple(panel["gridPos"].items()) for panel in told["panels"]}) == len(panels)
    assert all(target["expr"] for panel in told["panels"] for target in panel["targets"])


def test_what_can_not_be_written_is_said(tmp_path: Path) -> None:
    for arguments, word in [
        (("prometheu",), "prometheus"),
        ((), "--out"),
        (("sloth",), "--slo"),
        (("grafana", "--out", "/proc/none"), "Can't write"),
    ]:
        done = freehold("export", *arguments, home=tmp_path)
        assert done.returncode == 2
        assert word in done.stderr
