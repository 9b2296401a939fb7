"""Rules read from text: what changes what, and what a wrong file is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from freehold.errors import ConfigError
from freehold.slo import parse as slo
from freehold.telemetry.builtin import built_in
from freehold.telemetry.measures import MEASURES, unknown
from freehold.telemetry.rules import Rule, parse, read, seconds

BUILT_IN = built_in(slo("p99 e2e < 500ms, error rate < 1%"))


def rule(name: str, text: str = "") -> Rule:
    return {each.name: each for each in parse(text, BUILT_IN, unknown)}[name]


def test_without_a_file_there_are_the_built_in_ones() -> None:
    assert parse("", BUILT_IN, unknown) == BUILT_IN
    near = rule("slo-p99-e2e")
    assert (near.metric, near.above, near.for_s, near.severity) == ("p99_e2e_ms", 480.0, 300.0, "critical")
    assert (rule("queue-long").above, rule("queue-long").for_s) == (10.0, 60.0)
    assert rule("load-failed").for_s == 0.0
    assert (rule("cost-up").above, rule("cost-up").for_s) == (1.25, 3600.0)
    assert rule("slo-error-share").above == pytest.approx(0.0096)
    assert (rule("slo-burn-fast").above, rule("slo-burn-fast").short_s) == (14.4, 300.0)
    assert rule("slo-burn-fast").allowed == pytest.approx(0.02)
    lax = {each.name: each for each in built_in(slo("p90 e2e < 1s"))}
    assert (lax["slo-burn-fast"].above, lax["slo-burn-slow"].above) == (5.0, 1.0)


def test_every_built_in_rule_names_a_metric_and_what_to_do() -> None:
    for each in BUILT_IN:
        assert unknown(each.metric) is None, each
        assert each.what, each
        assert each.advice, each
        assert (each.above is None) != (each.below is None)


def test_no_rule_of_a_promise_without_one() -> None:
    assert not [each.name for each in built_in() if each.name.startswith("slo-")]


def test_a_file_changes_adds_and_takes_away() -> None:
    text = """
        [rules.queue-long]
        above = 20
        for = "90s"
        [rules.slow-search]
        metric = "p95_ttft_ms"
        above = 200
        window = "1m30s"
        labels = { team = "search" }
        only = { variant = "big" }
        [rules.rambling]
        enabled = false
        [rules.alone]
        metric = "workers_ready"
        below = 2
        clear = 2
    """
    assert (rule("queue-long", text).above, rule("queue-long", text).for_s) == (20.0, 90.0)
    assert rule("queue-long", text).clear == 8.0
    mine = rule("slow-search", text)
    assert (mine.window_s, mine.labels, mine.only) == (90.0, {"team": "search"}, {"variant": "big"})
    assert rule("alone", text).crossed(1)
    assert not rule("alone", text).crossed(2)
    with pytest.raises(KeyError):
        rule("rambling", text)


WRONG = [
    ("[rules.x]\nmetric = 'p99_e2e_ms'\nabov = 1", "line 3, x.abov", "above"),
    ("[rules.x]\n\nmetric = 'p99_e2_ms'\nabove = 1", "line 3, x.metric", "p99_e2e_ms"),
    ("[rules.x]\nmetric = 'queue'\nabove = 1", "line 2, x.metric", "queue_depth"),
    ("[rules.x]\nmetric = 'queue_depth'\n", "line 1, x.above", "above and below"),
    ("[rules.x]\nabove = 1\n", "line 1, x.metric", "names no metric"),
    ("[rules.x]\nmetric = 'queue_depth'\nabove = true", "line 3, x.above", "expected a number"),
    ("[rules.x]\nmetric = 'queue_depth'\nabove = 1\nfor = 'soon'", "line 4, x.for", "5m"),
    ("[rules.x]\nmetric = 'queue_depth'\nabove = 1\nclear = 2", "line 4, x.clear", "never be over"),
    ("[rules.x]\nmetric = 'queue_depth'\nabove = 1\nseverity = 'bad'", "line 4, x.severity", "critical"),
    ("[rules.x]\nmetric = 'queue_depth'\nabove = 1\nlabels = { a = 1 }", "line 4, x.labels", "texts"),
    ("[rules.x]\nmetric = 'queue_depth'\nabove = 1\nwindow = 0", "line 4, x.window", "longer than 0"),
    ("[rules.x]\nmetric = 'burn_rate'\nabove = 1\nallowed = 1", "line 4, x.allowed", "between 0 and 1"),
    ("[rule.x]\nmetric = 'queue_depth'", "line 1", r"\[rules.NAME\]"),
    ("rules = 3", "line 1", r"\[rules.NAME\]"),
    ("[rules]\nx = 3", "line 2", r"\[rules.NAME\]"),
    ("[rules.x\n", "Can't read", "line 1"),
    ("[rules.'steps-slow']\nabove = 1\nclear = 'low'", "line 3", "expected a number"),
]


@pytest.mark.parametrize(("text", "place", "hint"), WRONG, ids=[each[1] + " " + each[2] for each in WRONG])
def test_a_wrong_file_is_told_where_and_what_is_known(text: str, place: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, BUILT_IN, unknown)
    assert place in str(caught.value)
    assert re.search(hint, str(caught.value))


def test_a_file_that_isnt_there_or_isnt_text(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "none", tmp_path / "bytes", tmp_path):
        with pytest.raises(ConfigError, match=r"Can't read the alert rules in .*\. Correct alerts\.rules"):
            read(path, BUILT_IN, unknown)


def test_times() -> None:
    assert [seconds(each) for each in (90, 1.5, "90s", "5m", "1h30m", "3d", "250ms")] == [
        90.0, 1.5, 90.0, 300.0, 5400.0, 259_200.0, 0.25,
    ]  # fmt: skip
    for wrong in ("", "5", "5 weeks", -1, True, None, float("inf"), "m"):
        with pytest.raises(ValueError, match="5m"):
            seconds(wrong)


def test_every_metric_says_what_it_is() -> None:
    assert all(each.help.endswith(".") for each in MEASURES.values())
