"""What restarts cost: the sums of the popular example, put right, and what a command refuses."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from freehold.cli.app import app
from freehold.errors import UsageError
from freehold.sizing.restarts import arithmetic, restarts


def test_eight_seconds_three_times_a_day_are_twenty_four() -> None:
    found = restarts(load_s=8, per_day=3, rate_per_s=10)
    assert found.lost_s_a_day == 24
    assert found.share_lost == pytest.approx(0.000278, abs=1e-6)
    assert found.held_up_each == 80
    assert found.held_up_a_day == 240
    assert dict(found.budget_s_a_day)[0.999] == pytest.approx(86.4)
    assert any("28% of it" in line for line in arithmetic(found))


def test_others_share_what_one_would_have_held_up() -> None:
    one, four = restarts(10, 2, 8.0), restarts(10, 2, 8.0, instances=4)
    assert four.held_up_each == one.held_up_each / 4
    assert (one.longest_wait_s, four.longest_wait_s) == (10, 0)


def test_the_command_shows_the_arithmetic_and_json() -> None:
    told = CliRunner().invoke(app, ["restarts", "--load-s", "8", "--per-day", "3", "--rate", "10"])
    assert told.exit_code == 0
    assert "8 s to load x 3 restarts a day = 24.0 s lost a day" in told.stdout
    told = CliRunner().invoke(app, ["restarts", "--load-s", "8", "--per-day", "3", "--rate", "10", "--json"])
    assert json.loads(told.stdout)["lost_s_a_day"] == 24


@pytest.mark.parametrize("asked", [["--load-s", "8"], ["--load-s", "-1", "--per-day", "1", "--rate", "1"]])
def test_what_is_missing_or_senseless_is_named(asked: list[str]) -> None:
    assert isinstance(CliRunner().invoke(app, ["restarts", *asked]).exception, UsageError)
